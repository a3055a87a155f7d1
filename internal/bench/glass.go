package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/sse"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// benchGlass times probes from just before a beacon is sent until a viewer's frame shows it: idle, under
// load, and beside clients that send heavy queries as well.
func benchGlass(ctx context.Context, s *server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if _, err := probeGlass(ctx, s, "idle", 200); err != nil {
		return err
	}
	if err := errors.Join(s.addSite(ctx, "load.example.com"), fillHistory(ctx, s)); err != nil {
		return err
	}
	const rate, clients = 1000, 8
	wg.Go(func() { loadAt(ctx, s, rate) })
	if err := retry.Sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	loaded, err := probeGlass(ctx, s, fmt.Sprintf("%d beacons/s", rate), 400)
	if err != nil {
		return err
	}
	querying, stopQueries := context.WithCancel(ctx)
	defer stopQueries()
	answers := make(chan map[int]int, 1)
	wg.Go(func() { answers <- queryHeavily(querying, s, clients) })
	if err := retry.Sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	queried, err := probeGlass(ctx, s, fmt.Sprintf("beside %d with heavy queries", clients), 400)
	stopQueries()
	fmt.Printf("%-34s %v\n", "  answers to those, by status", <-answers)
	if err != nil {
		return err
	}
	ratio := func(q float64) float64 { return float64(quantile(queried, q)) / float64(quantile(loaded, q)) }
	fmt.Printf("%-34s p50 × %.2f, p99 × %.2f\n", "heavy queries: beacon to glass", ratio(.5), ratio(.99))
	return nil
}

// stage is a place at which a probe's event is seen.
type stage int

const (
	inLog stage = iota
	inWindows
	onGlass
	stages
)

// probe times events of one site. Each is a page view of a new visitor, so the n-th event raises each count
// to n. The site is the probe's own: a frame counts the visitors of five minutes, and the visitors of an
// earlier probe would leave that count meanwhile.
type probe struct {
	server *server
	site   string
	client *http.Client

	mu      sync.Mutex
	seen    [stages][]time.Time // when the n-th event was first seen
	changed chan struct{}       // holds a value after a change of seen
}

// probeGlass times n probes and prints how long each stage takes. It returns the times from beacon to
// glass, sorted.
func probeGlass(ctx context.Context, s *server, name string, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &probe{server: s, site: fmt.Sprintf("probe-%x.example.com", time.Now().UnixNano()),
		changed: make(chan struct{}, 1),
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if err := s.addSite(ctx, p.site); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := errors.Join(p.followTopics(ctx, &wg), p.followStream(ctx, &wg)); err != nil {
		return nil, err
	}
	return p.run(ctx, name, n)
}

// mark records that a stage has n events of the site.
func (p *probe) mark(at stage, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.seen[at]) < n {
		p.seen[at] = append(p.seen[at], now)
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// when returns the moment at which a stage had n events; the zero time before.
func (p *probe) when(at stage, n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen[at]) < n {
		return time.Time{}
	}
	return p.seen[at][n-1]
}

// followTopics tails every partition of both topics.
func (p *probe) followTopics(ctx context.Context, wg *sync.WaitGroup) error {
	ends, err := p.server.endpoints()
	if err != nil {
		return err
	}
	log := broker.New(broker.Config{Addrs: strings.Split(ends.Kafka, ","),
		Topics: []string{topic.Events, topic.Windows}, Timeout: 10 * time.Second})
	n, err := log.Partitions(ctx, topic.Events)
	if err != nil {
		return err
	}
	events, active := &sum{}, &sum{}
	for part := range n {
		for name, record := range map[string]func(broker.Record) error{
			topic.Events: p.readEvents(part, events), topic.Windows: p.readWindows(part, active),
		} {
			_, end, err := log.Bounds(ctx, name, part)
			if err != nil {
				return err
			}
			f := broker.Follower{Topic: name, Partition: part, From: end, MaxWait: 500 * time.Millisecond,
				Record: record}
			wg.Go(func() { _ = log.Follow(ctx, f) })
		}
	}
	return nil
}

// sum adds up the largest value of each partition.
type sum struct {
	mu     sync.Mutex
	values map[int]int
}

func (s *sum) raise(partition, value int) (total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[int]int{}
	}
	s.values[partition] = max(s.values[partition], value)
	for _, v := range s.values {
		total += v
	}
	return total
}

func (p *probe) readEvents(partition int, events *sum) func(broker.Record) error {
	var d event.Decoder
	var e event.Event
	n := 0
	return func(r broker.Record) error {
		if _, err := d.Reset(r.Value); err != nil {
			return err
		}
		for d.Next(&e) {
			if e.Site == p.site {
				n++
				p.mark(inLog, events.raise(partition, n))
			}
		}
		return nil
	}
}

func (p *probe) readWindows(partition int, active *sum) func(broker.Record) error {
	var w window.Emission
	return func(r broker.Record) error {
		if err := w.Decode(r.Value); err != nil {
			return err
		}
		for _, row := range w.Seconds {
			if row.Site == p.site {
				p.mark(inWindows, active.raise(partition, int(row.Active)))
			}
		}
		return nil
	}
}

func (p *probe) followStream(ctx context.Context, wg *sync.WaitGroup) error {
	url := p.server.url + "/api/events?rate=100ms&site=" + p.site
	return followVisitors(ctx, wg, url, "", func(visitors int) {
		p.mark(onGlass, visitors)
	})
}

// followVisitors opens a stream and hands over the number of visitors of each frame until ctx ends.
func followVisitors(ctx context.Context, wg *sync.WaitGroup, url, key string, visitors func(int)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return fmt.Errorf("open stream: %s", res.Status)
	}
	wg.Go(func() {
		defer res.Body.Close()
		r := sse.NewReader(res.Body)
		for e, err := r.Next(); err == nil; e, err = r.Next() {
			var f struct{ Visitors int }
			if json.Unmarshal([]byte(e.Data), &f) == nil {
				visitors(f.Visitors)
			}
		}
	})
	return nil
}

// run sends n probes at random phases of the emit interval, one after the other.
func (p *probe) run(ctx context.Context, name string, n int) ([]time.Duration, error) {
	var accepted, logged, emitted, shown, all []time.Duration
	for i := 1; i <= n; i++ {
		if err := retry.Sleep(ctx, rand.N(250*time.Millisecond)); err != nil {
			return nil, err
		}
		sent := time.Now()
		if err := postBeacon(ctx, p.client, p.server.url, p.site, "/", 1_000_000+i); err != nil {
			return nil, err
		}
		accepted = append(accepted, time.Since(sent))
		for limit := time.After(10 * time.Second); p.when(onGlass, i).IsZero(); {
			select {
			case <-p.changed:
			case <-limit:
				return nil, fmt.Errorf("probe %d isn't on the glass after 10 s", i)
			}
		}
		log, windows, glass := p.when(inLog, i), p.when(inWindows, i), p.when(onGlass, i)
		all = append(all, glass.Sub(sent))
		if !log.IsZero() && !windows.IsZero() {
			logged = append(logged, log.Sub(sent))
			emitted = append(emitted, windows.Sub(log))
			shown = append(shown, glass.Sub(windows))
		}
	}
	printQuantiles(name+": beacon to glass", all)
	printQuantiles("  beacon to 202", accepted)
	printQuantiles("  beacon to readable in the log", logged)
	printQuantiles("  log to windows (emit: 100 ms)", emitted)
	printQuantiles("  windows to glass (rate: 100 ms)", shown)
	return all, nil
}

// loadAt posts page views of many visitors, evenly spread in time, whatever the answers.
func loadAt(ctx context.Context, s *server, rate int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 10 * time.Second}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	limit := make(chan struct{}, 256)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			_ = postBeacon(ctx, client, s.url, "load.example.com", fmt.Sprintf("/page-%d", i%50), i%20_000)
		})
	}
}
