package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// figures are what was measured of one server.
type figures struct {
	name     string
	memory   float64       // bytes a viewer, settleTime after they came
	cpu      float64       // µs a frame and viewer
	spread   time.Duration // median, from the first viewer to the last of a frame
	connects float64       // a second, until each has its first message
	quiet    float64       // connects of a site without a history; 0: not measured
	bytes    int64         // of a frame
}

// measure starts a server, measures it without viewers, and then with n.
func (d *streamerDeps) measure(ctx context.Context, name string, n int, span time.Duration) (figures, error) {
	m := figures{name: name}
	s, err := d.serve(ctx, name)
	if err != nil {
		return m, err
	}
	defer s.stop()
	// The first connections fill pools and page in code, which isn't the price of a viewer.
	first, _, err := startViewers(ctx, s, 50, 0)
	first.stop()
	if err != nil {
		return m, err
	}
	if err := retry.Sleep(ctx, 2*time.Second); err != nil {
		return m, err
	}
	before := pssKB(s.pid)
	idle := s.cpu()
	if err := retry.Sleep(ctx, span/2); err != nil {
		return m, err
	}
	idle = 2 * (s.cpu() - idle)
	if err := m.measureViewers(ctx, s, n, span, before, idle); err != nil {
		return m, err
	}
	if m.connects, err = measureConnects(ctx, *s, n, 1); err != nil || name != "nowcast" {
		return m, err
	}
	quiet := *s
	quiet.target = "/api/events?site=" + quietSite
	m.quiet, err = measureConnects(ctx, quiet, n, 2)
	return m, err
}

// measureConnects has up to 10,000 viewers connect, defaultDialling at a time, and returns how many a second
// have their first message. Each round has source addresses of its own.
func measureConnects(ctx context.Context, s frameServer, n, round int) (float64, error) {
	if err := retry.Sleep(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	v, r, err := startViewers(ctx, &s, min(n, 10_000), round*maxOpenFiles)
	v.stop()
	return float64(r.Joined) / r.Took.Seconds(), err
}

// measureViewers has n viewers connect at once and follow for span. idle is the CPU time of a span without
// viewers, before the memory without them.
func (m *figures) measureViewers(ctx context.Context, s *frameServer, n int, span time.Duration, before int,
	idle time.Duration) error {
	crowd := *s
	crowd.dialling = n
	v, _, err := startViewers(ctx, &crowd, n, 0)
	defer v.stop()
	if err != nil {
		return err
	}
	if err := retry.Sleep(ctx, settleTime); err != nil {
		return err
	}
	m.memory = float64(pssKB(s.pid)-before) * 1024 / float64(n)
	if _, err = v.command("reset"); err != nil {
		return err
	}
	cpu := s.cpu()
	if err := retry.Sleep(ctx, span); err != nil {
		return err
	}
	cpu = s.cpu() - cpu - idle
	r, err := v.command("report")
	if err != nil {
		return err
	}
	if r.Joined != n {
		return fmt.Errorf("%d of %d viewers were cut", r.Lost, n)
	}
	if want := int64(span/time.Second-2) * int64(n); r.Frames < want {
		fmt.Printf("%s: only %d of %d frames came in %v\n", m.name, r.Frames, want, span)
	}
	m.bytes = r.Bytes / max(1, r.Frames)
	m.cpu = float64(cpu.Microseconds()) / float64(max(1, r.Frames))
	spreads := r.spreads(n)
	if len(spreads) == 0 {
		return errors.New("no frame reached all viewers")
	}
	printQuantiles(m.name+": first to last viewer", spreads)
	m.spread = spreads[len(spreads)/2]
	return nil
}

// measureRecordToGlass times a record of the windows topic until a viewer at 250 ms shows it, alone and
// beside n viewers of another site.
func (d *streamerDeps) measureRecordToGlass(ctx context.Context, n, probes int) (
	alone, beside []time.Duration, err error) {
	s, err := d.streamer(ctx, "127.0.0.1")
	if err != nil {
		return nil, nil, err
	}
	defer s.stop()
	if alone, err = d.probe(ctx, s, probes); err != nil {
		return alone, nil, err
	}
	v, _, err := startViewers(ctx, s, n, 0)
	defer v.stop()
	if err != nil {
		return alone, nil, err
	}
	if err := retry.Sleep(ctx, 2*time.Second); err != nil {
		return alone, nil, err
	}
	beside, err = d.probe(ctx, s, probes)
	return alone, beside, err
}

// probe writes records, one after the other, and times each until a viewer receives its number of visitors.
// The times are sorted.
func (d *streamerDeps) probe(ctx context.Context, s *frameServer, n int) (times []time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { slices.Sort(times) }()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	var shown atomic.Int64
	changed := make(chan struct{}, 1)
	url := "http://" + s.addr + "/api/events?rate=250ms&top=0&site=" + probeSite
	err = followVisitors(ctx, &reading, url, s.key, func(visitors int) {
		shown.Store(int64(visitors))
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	for i := range n {
		if err := retry.Sleep(ctx, 100*time.Millisecond+rand.N(250*time.Millisecond)); err != nil {
			return times, err
		}
		now := time.Now()
		ms := now.UnixMilli()
		want := ms % 1e9 // visitors; rises with every probe
		row := window.Second{Site: probeSite, At: now.Unix(), Pageviews: 1, Visitors: 1, Events: 1,
			Active: uint32(want), Revision: 1, Version: window.RowVersion(window.Epoch, false, ms)}
		e := window.Emission{Version: window.Version, Epoch: window.Epoch, Offset: ms, Now: ms,
			Seconds: []window.Second{row}}
		if _, err := d.client.Produce(ctx, topic.Windows, 0, now, e.Append(nil)); err != nil {
			return times, err
		}
		for limit := time.After(10 * time.Second); shown.Load() != want; {
			select {
			case <-changed:
			case <-limit:
				return times, fmt.Errorf("probe %d isn't on the glass after 10 s", i)
			}
		}
		times = append(times, time.Since(now))
	}
	return times, nil
}
