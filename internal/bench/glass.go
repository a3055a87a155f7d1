package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// glass times probes from the moment before a beacon is sent to the moment at which a viewer's frame shows it: idle, under load, and beside
// clients that ask heavy queries as well.
func glass(ctx context.Context, s *server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if _, err := pass(ctx, s, "idle", 200); err != nil {
		return err
	}
	if err := errors.Join(s.site(ctx, "load.example.com"), fill(ctx, s)); err != nil {
		return err
	}
	const rate, clients = 1000, 8
	wg.Go(func() { loadAt(ctx, s, rate) })
	time.Sleep(3 * time.Second)
	alone, err := pass(ctx, s, fmt.Sprintf("%d beacons/s", rate), 400)
	if err != nil {
		return err
	}
	straining, relax := context.WithCancel(ctx)
	defer relax()
	answers := make(chan map[int]int, 1)
	wg.Go(func() { answers <- strain(straining, s, clients) })
	time.Sleep(3 * time.Second)
	beside, err := pass(ctx, s, fmt.Sprintf("beside %d with heavy queries", clients), 400)
	relax()
	fmt.Printf("%-34s %v\n", "  answers to those, by status", <-answers)
	if err != nil {
		return err
	}
	fmt.Printf("%-34s p50 × %.2f, p99 × %.2f\n", "heavy queries: beacon to glass", ratio(beside, alone, .5), ratio(beside, alone, .99))
	return nil
}

// pass times n probes. Each is a new visitor, at a random phase, of a site that is the pass's own: a viewer is shown the visitors of five minutes,
// and no probe of an earlier pass may drop out of them meanwhile. Beside the viewer it tails both topics, which shows where the time goes.
func pass(ctx context.Context, s *server, name string, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &probe{site: fmt.Sprintf("probe-%x.example.com", time.Now().UnixNano()), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if err := s.site(ctx, p.site); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := p.watch(ctx, s, &wg); err != nil {
		return nil, err
	}
	return p.rounds(ctx, s, name, n)
}

// ratio is that of a quantile of two lists, which are sorted.
func ratio(a, b []time.Duration, q float64) float64 {
	at := func(d []time.Duration) float64 { return float64(d[int(q*float64(len(d)-1))]) }
	return at(a) / at(b)
}

// probe keeps when each of its events was first seen at each place.
type probe struct {
	site   string
	client *http.Client
	sent   int

	mu   sync.Mutex
	seen [3][]time.Time // by place: the n-th event of the site
	more chan struct{}
}

const (
	inLog = iota
	inWindows
	onGlass
)

// reached notes that place has n events of the site by now.
func (p *probe) reached(place, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.seen[place]) < n {
		p.seen[place] = append(p.seen[place], now)
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *probe) at(place, n int) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen[place]) < n {
		return time.Time{}, false
	}
	return p.seen[place][n-1], true
}

func (p *probe) watch(ctx context.Context, s *server, wg *sync.WaitGroup) error {
	p.more = make(chan struct{}, 1)
	b, err := os.ReadFile(filepath.Join(s.dir, "endpoints.json"))
	if err != nil {
		return err
	}
	var ends struct{ Kafka string }
	if err := json.Unmarshal(b, &ends); err != nil {
		return err
	}
	log := broker.New(broker.Config{Addrs: strings.Split(ends.Kafka, ","), Topics: []string{topic.Events, topic.Windows}, Timeout: 10 * time.Second})
	n, err := log.Partitions(ctx, topic.Events)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	events, active := 0, make([]int, n)
	for part := range n {
		for _, name := range []string{topic.Events, topic.Windows} {
			_, end, err := log.Bounds(ctx, name, part)
			if err != nil {
				return err
			}
			f := broker.Follower{Topic: name, Partition: part, From: end, MaxWait: 500 * time.Millisecond}
			if name == topic.Events {
				var d event.Decoder
				var e event.Event
				f.Record = func(r broker.Record) error {
					if _, err := d.Reset(r.Value); err != nil {
						return err
					}
					for d.Next(&e) {
						if e.Site == p.site {
							mu.Lock()
							events++
							p.reached(inLog, events)
							mu.Unlock()
						}
					}
					return nil
				}
			} else {
				var w window.Emission
				f.Record = func(r broker.Record) error {
					if err := w.Decode(r.Value); err != nil {
						return err
					}
					for _, row := range w.Seconds {
						if row.Site == p.site {
							mu.Lock()
							active[part] = max(active[part], int(row.Active))
							sum := 0
							for _, a := range active {
								sum += a
							}
							p.reached(inWindows, sum)
							mu.Unlock()
						}
					}
					return nil
				}
			}
			wg.Go(func() { _ = log.Follow(ctx, f) })
		}
	}
	return p.view(ctx, s, wg)
}

func (p *probe) view(ctx context.Context, s *server, wg *sync.WaitGroup) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/events?rate=100ms&site="+p.site, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	wg.Go(func() {
		defer res.Body.Close()
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
				var f struct{ Visitors int }
				if json.Unmarshal([]byte(data), &f) == nil {
					p.reached(onGlass, f.Visitors)
				}
			}
		}
	})
	return nil
}

// rounds times n probes. It returns how long they took from beacon to glass, sorted.
func (p *probe) rounds(ctx context.Context, s *server, name string, n int) ([]time.Duration, error) {
	var ack, logged, emitted, shown, all []time.Duration
	for range n {
		time.Sleep(time.Duration(rand.Int64N(int64(250 * time.Millisecond)))) //nolint:gosec // a phase, not a secret
		p.sent++
		t0 := time.Now()
		if err := post(ctx, p.client, s.url, p.site, "/", 1_000_000+p.sent); err != nil {
			return nil, err
		}
		ack = append(ack, time.Since(t0))
		end := time.After(10 * time.Second)
		for {
			if _, ok := p.at(onGlass, p.sent); ok {
				break
			}
			select {
			case <-p.more:
			case <-end:
				return nil, fmt.Errorf("probe %d isn't on the glass after 10 s", p.sent)
			}
		}
		t1, _ := p.at(inLog, p.sent)
		t2, _ := p.at(inWindows, p.sent)
		t3, _ := p.at(onGlass, p.sent)
		all = append(all, t3.Sub(t0))
		if !t1.IsZero() && !t2.IsZero() {
			logged, emitted, shown = append(logged, t1.Sub(t0)), append(emitted, t2.Sub(t1)), append(shown, t3.Sub(t2))
		}
	}
	quantiles(name+": beacon to glass", all)
	quantiles("  beacon to 202", ack)
	quantiles("  beacon to readable in the log", logged)
	quantiles("  log to windows (beat: 100 ms)", emitted)
	quantiles("  windows to glass (rate: 100 ms)", shown)
	return all, nil
}

// loadAt posts page views of many visitors, evenly spread in time, whatever the answers.
func loadAt(ctx context.Context, s *server, rate int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 10 * time.Second}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	room := make(chan struct{}, 256)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			_ = post(ctx, client, s.url, "load.example.com", fmt.Sprintf("/page-%d", i%50), i%20_000)
		})
	}
}
