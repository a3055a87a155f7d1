package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/feed"
	"nowcast/internal/embedded"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

const (
	streamSite  = "bench.example.com"
	quietSite   = "quiet.example.com"
	probeSite   = "probe.example.com"
	streamKey   = "nck_the-benchmarks-own-admin-key"
	streamParts = 4
)

// streamerPrograms are those that measure the streamer, by subcommand.
func streamerPrograms(name string) func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{"streamer": benchStreamer, "viewers": benchViewers, "soak": soak,
		"streamer-crowd": func(ctx context.Context, _ []string) error { return crowdMain(ctx) }}[name]
}

// streamRig is what a streamer needs: a broker with a windows topic that is written in real time, with five minutes of history, and a ClickHouse, which
// has nothing to do. Each is a process of its own.
type streamRig struct {
	dir, addr, clickhouse string
	client                *broker.Client
	feed                  *feed.Feed
	ends                  []func()
}

func newStreamRig(ctx context.Context) (r *streamRig, err error) {
	r = &streamRig{}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "nowcast-bench-"); err != nil {
		return r, err
	}
	b, err := embedded.NewBroker(embedded.Config{Dir: r.dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return r, err
	}
	r.ends = append(r.ends, run1(ctx, b.Run))
	r.addr = b.Addr()
	library, err := embedded.FindLibrary("bin/libchdb.so")
	if err != nil {
		return r, err
	}
	engine, err := embedded.NewClickHouse(embedded.Config{Dir: r.dir, Library: library, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return r, err
	}
	r.ends = append(r.ends, run1(ctx, engine.Run))
	r.clickhouse = engine.DSN()
	r.client = broker.New(broker.Config{Addrs: []string{r.addr}})
	r.ends = append(r.ends, r.client.Close)
	if err := r.client.Ensure(ctx, topic.Specs(streamParts, 1), nil); err != nil {
		return r, err
	}
	sites := site.NewRegistry(r.client, slog.New(slog.DiscardHandler))
	end := run1(ctx, sites.Run)
	defer end()
	if err := sites.Wait(ctx); err != nil {
		return r, err
	}
	for _, s := range []string{streamSite, quietSite, probeSite} {
		if err := sites.Put(ctx, site.Site{Domain: s}); err != nil {
			return r, err
		}
	}
	r.feed, err = feed.New(feed.Config{Broker: r.client, Partitions: streamParts, Seed: 1, History: 330,
		Sites: []feed.Site{{Domain: streamSite, Values: 10}, {Domain: quietSite, Quiet: true}}})
	if err != nil {
		return r, err
	}
	r.ends = append(r.ends, run1(ctx, r.feed.Run))
	return r, until(ctx, time.Minute, func() bool { return r.feed.Final() >= time.Now().Unix()-3 })
}

func (r *streamRig) stop() {
	for _, end := range slices.Backward(r.ends) {
		end()
	}
	_ = os.RemoveAll(r.dir)
}

// figures are what was measured of one server.
type figures struct {
	name           string
	memory         float64 // bytes a viewer
	cpu            float64 // µs a frame and viewer
	spread         time.Duration
	connects       float64 // a second, until each has its first message
	quiet          float64 // the same on a site without a history; 0: not measured
	bytes          int64   // a frame
	carried, asked int
}

func benchStreamer(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench streamer", flag.ContinueOnError)
	n := f.Int("n", 10_000, "viewers of each server, at most 19,900")
	peers := f.String("peers", "gin,go-sse,centrifuge,nchan,write", "which other servers are measured")
	span := f.Duration("span", 20*time.Second, "how long each is followed")
	probes := f.Int("probes", 150, "how many records are timed on their way to a viewer")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *n < 1 || *n > 19_900 {
		return fmt.Errorf("%d viewers are not possible: 20,000 open files are all that a process may have here; give -n 1 to 19900", *n)
	}
	r, err := newStreamRig(ctx)
	if err != nil {
		return err
	}
	defer r.stop()
	var all []figures
	var failed error
	for _, name := range strings.FieldsFunc("nowcast,"+*peers, func(c rune) bool { return c == ',' }) {
		say("%s with %d viewers", name, *n)
		m, err := r.measure(ctx, name, *n, *span)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, m)
	}
	var alone, beside []time.Duration
	if failed == nil || len(all) > 0 && all[0].name == "nowcast" {
		if alone, beside, err = r.glass(ctx, *n, *probes); err != nil {
			failed = errors.Join(failed, fmt.Errorf("record to glass: %w", err))
		}
	}
	table(all, *n, alone, beside)
	return failed
}

func (r *streamRig) serve(ctx context.Context, name string) (*broadcaster, error) {
	switch name {
	case "nowcast":
		return r.streamer(ctx, "127.0.0.1")
	case "nchan":
		return r.nchan(ctx)
	}
	return r.peer(ctx, name)
}

// measure starts a server, looks at it while nobody follows, and then while n do.
func (r *streamRig) measure(ctx context.Context, name string, n int, span time.Duration) (m figures, err error) {
	m.name, m.asked = name, n
	b, err := r.serve(ctx, name)
	if err != nil {
		return m, err
	}
	defer b.stop()
	// What a first few connections leave behind (pools, code that is paged in) isn't the price of a viewer.
	few, _, err := gather(ctx, b.addr, b.target, b.key, 50, 0, b.until)
	few.leave()
	if err != nil {
		return m, err
	}
	pause(ctx, 2*time.Second)
	before, err := b.footprint(ctx)
	if err != nil {
		return m, err
	}
	idle := b.cpu()
	pause(ctx, span/2)
	idle = 2 * (b.cpu() - idle)
	c, t, err := gather(ctx, b.addr, b.target, b.key, n, 0, b.until)
	defer func() { c.leave() }()
	if err != nil {
		return m, err
	}
	m.connects = float64(n) / t.Took.Seconds()
	pause(ctx, 3*time.Second)
	after, err := b.footprint(ctx)
	if err != nil {
		return m, err
	}
	m.memory = float64(after-before) / float64(n)
	if _, err = c.ask("mark"); err != nil {
		return m, err
	}
	cpu := b.cpu()
	pause(ctx, span)
	cpu = b.cpu() - cpu - idle
	if t, err = c.ask("say"); err != nil {
		return m, err
	}
	if m.carried = t.Up; t.Up != n {
		return m, fmt.Errorf("%d of %d viewers were cut", t.Lost, n)
	}
	if want := int64(span/time.Second-2) * int64(n); t.Frames < want {
		fmt.Printf("%s: only %d of %d frames came in %v\n", name, t.Frames, want, span)
	}
	m.bytes = t.Bytes / max(1, t.Frames)
	m.cpu = float64(cpu.Microseconds()) / float64(max(1, t.Frames))
	d := t.spreads(n)
	if len(d) == 0 {
		return m, errors.New("no frame reached all viewers")
	}
	slices.Sort(d)
	m.spread = d[len(d)/2]
	quantiles(name+": first to last viewer", d)
	c.leave()
	c = nil
	if name == "nowcast" {
		pause(ctx, 2*time.Second)
		few, t, err := gather(ctx, b.addr, "/api/events?site="+quietSite, b.key, min(n, 10_000), 20_000, b.until)
		few.leave()
		if err != nil {
			return m, err
		}
		m.quiet = float64(t.Up) / t.Took.Seconds()
	}
	return m, nil
}

// glass times a record of the windows topic until a viewer at 250 ms shows it, without and with n viewers of another site beside it.
func (r *streamRig) glass(ctx context.Context, n, probes int) (alone, beside []time.Duration, err error) {
	b, err := r.streamer(ctx, "127.0.0.1")
	if err != nil {
		return nil, nil, err
	}
	defer b.stop()
	if alone, err = r.probe(ctx, b, probes); err != nil {
		return alone, nil, err
	}
	c, _, err := gather(ctx, b.addr, b.target, b.key, n, 0, b.until)
	defer c.leave()
	if err != nil {
		return alone, nil, err
	}
	pause(ctx, 2*time.Second)
	beside, err = r.probe(ctx, b, probes)
	return alone, beside, err
}

func (r *streamRig) probe(ctx context.Context, b *broadcaster, probes int) (d []time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.addr+"/api/events?rate=250ms&top=0&site="+probeSite, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	var shown atomic.Int64
	more := make(chan struct{}, 1)
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, 1<<20)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		for sc.Scan() {
			var f struct{ Visitors int64 }
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok && json.Unmarshal([]byte(data), &f) == nil {
				shown.Store(f.Visitors)
				select {
				case more <- struct{}{}:
				default:
				}
			}
		}
	})
	for i := range probes {
		pause(ctx, 100*time.Millisecond+time.Duration(rand.Int64N(int64(250*time.Millisecond)))) //nolint:gosec // a phase, no secret
		now := time.Now()
		want := now.UnixMilli() % 1e9 // rises with every probe
		e := window.Emission{Version: window.Version, Epoch: window.Epoch, Offset: now.UnixMilli(), Now: now.UnixMilli(), Seconds: []window.Second{{Site: probeSite, At: now.Unix(),
			Pageviews: 1, Visitors: 1, Events: 1, Active: uint32(want), Revision: 1, Version: window.RowVersion(window.Epoch, false, now.UnixMilli())}}}
		if _, err := r.client.Produce(ctx, topic.Windows, 0, now, e.Append(nil)); err != nil {
			return d, err
		}
		for end := time.After(10 * time.Second); shown.Load() != want; {
			select {
			case <-more:
			case <-end:
				return d, fmt.Errorf("probe %d isn't on the glass after 10 s", i)
			}
		}
		d = append(d, time.Since(now))
	}
	return d, nil
}

// table holds what was measured against the goals and the best of the peers. The bare loop is no peer: it is the floor.
func table(all []figures, n int, alone, beside []time.Duration) {
	fmt.Printf("\n%-12s %14s %16s %18s %14s %8s\n", fmt.Sprintf("%d viewers", n), "memory each", "CPU a frame", "first to last", "connects/s", "a frame")
	for _, m := range all {
		fmt.Printf("%-12s %11.2f KB %13.2f µs %18v %14.0f %6d B\n", m.name, m.memory/1024, m.cpu, m.spread.Round(time.Millisecond), m.connects, m.bytes)
	}
	i := slices.IndexFunc(all, func(m figures) bool { return m.name == "nowcast" })
	if i < 0 {
		return
	}
	own := all[i]
	best := func(value func(figures) float64) string {
		var rival *figures
		for i := range all {
			if m := &all[i]; m.name != "nowcast" && m.name != "write" && (rival == nil || value(*m) < value(*rival)) {
				rival = m
			}
		}
		if rival == nil {
			return "no peer"
		}
		return fmt.Sprintf("%.2f of %s", value(own)/value(*rival), rival.name)
	}
	row := func(what, goal, figure string, met bool, ratio string) {
		fmt.Printf("%-52s %-12s %-14s %-8s %s\n", what, goal, figure, map[bool]string{true: "met", false: "MISSED"}[met], ratio)
	}
	fmt.Printf("\n%-52s %-12s %-14s %-8s %s\n", "what", "goal", "figure", "", "beside the best peer")
	row("user-space memory a viewer", "≤ 1.5 KB", fmt.Sprintf("%.2f KB", own.memory/1024), own.memory <= 1536, best(func(m figures) float64 { return m.memory }))
	row("CPU a frame and viewer", "≤ 9 µs", fmt.Sprintf("%.2f µs", own.cpu), own.cpu <= 9, best(func(m figures) float64 { return m.cpu })+" (goal: ≤ 0.75)")
	row(fmt.Sprintf("one frame to %d viewers, first to last", n), fmt.Sprintf("≤ %d ms", n/80), own.spread.Round(time.Millisecond).String(), own.spread <= time.Duration(n)*time.Millisecond/80,
		best(func(m figures) float64 { return float64(m.spread) }))
	connects := "no gin beside it"
	if j := slices.IndexFunc(all, func(m figures) bool { return m.name == "gin" }); j >= 0 {
		connects = fmt.Sprintf("%.2f of gin's stream without a snapshot", own.connects/all[j].connects)
	}
	row("new connections, key and snapshot of a busy site", "≥ 5,000/s", fmt.Sprintf("%.0f/s", own.connects), own.connects >= 5000, connects)
	row("new connections, key and snapshot of a quiet site", "≥ 5,000/s", fmt.Sprintf("%.0f/s", own.quiet), own.quiet >= 5000, "")
	if len(beside) > 0 {
		p99 := func(d []time.Duration) time.Duration {
			slices.SortFunc(d, func(a, b time.Duration) int { return cmp.Compare(a, b) })
			return d[int(.99*float64(len(d)-1))].Round(time.Millisecond)
		}
		row(fmt.Sprintf("record to glass at 250ms beside %d viewers, p99", n), "≤ 500 ms", p99(beside).String(), p99(beside) <= 500*time.Millisecond, fmt.Sprintf("%v without them", p99(alone)))
	}
}
