package aggregator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/group"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// worker works on partitions without a consumer group, so that several can own the same ones.
func (w *world) worker(name string, start func(*laneDeps) work) work {
	d := &laneDeps{name: name, cfg: Config{Drain: time.Second}, broker: w.kafka,
		log: slog.New(slog.NewTextHandler(testLog{w.t}, nil)), metrics: newMetrics(prometheus.NewRegistry())}
	x := start(d)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { x.Run(ctx) })
	w.t.Cleanup(func() { cancel(); wg.Wait() })
	return x
}

// nothing returns the positions of topics without a commit.
func nothing(topics ...string) (all []group.Position) {
	for _, name := range topics {
		for p := range partitions {
			all = append(all, group.Position{Topic: name, Partition: p, Offset: -1})
		}
	}
	return all
}

// reached waits until x's positions are at the log's end, and returns them.
func (w *world) reached(x work) (at []group.Position) {
	w.t.Helper()
	w.until(10*time.Second, "reached", func() string {
		at = x.Positions()
		n := 0
		for _, p := range at {
			if p.Topic == topic.Events && p.Offset == int64(len(w.log[p.Partition])) {
				n++
			}
		}
		if n < partitions {
			return fmt.Sprint(at)
		}
		return ""
	})
	return at
}

// quiet waits until no worker has pending changes.
func (w *world) quiet(all ...work) {
	w.t.Helper()
	for _, x := range all {
		w.reached(x)
		w.until(5*time.Second, "quiet", func() string {
			for _, p := range x.(*windowsWork).partitions {
				if p.hasPending() {
					return fmt.Sprint("partition ", p.partition)
				}
			}
			return ""
		})
	}
}

// copies returns how many rows and lists were emitted more than once. It fails the test if a key and
// version has two contents.
func (w *world) copies() (seconds, nows int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	first := map[string]string{}
	same := func(n *int, key string, row []byte) {
		if old, has := first[key]; !has {
			first[key] = string(row)
		} else if *n++; old != string(row) {
			w.t.Errorf("two contents of %s:\n%x\n%x", key, old, row)
		}
	}
	for _, e := range w.emissions {
		for _, s := range e.Seconds {
			same(&seconds, fmt.Sprintf("second %d %s %d %x", e.Partition, s.Site, s.At, s.Version),
				s.Append(nil))
		}
		for _, n := range e.Nows {
			same(&nows, fmt.Sprintf("now %d %s %x", e.Partition, n.Site, n.Version), n.Append(nil))
		}
	}
	return seconds, nows
}

// TestZombies checks that several instances that all believe to own the partitions write the same bytes,
// whenever they started.
func TestZombies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := func(at []group.Position) work {
		return w.worker("windows", func(d *laneDeps) work { return newWindowsWork(d, at) })
	}
	first := start(nothing(topic.Events))
	w.traffic(1, 150, 30*time.Minute)
	w.odd()
	from := w.reached(first)
	w.traffic(2, 60, 8*time.Minute)
	w.reached(first)
	second := start(from) // has a warm-up to read, and then what the first has written already
	w.reached(second)
	third := start(nothing(topic.Events))
	for seed := range uint64(4) {
		w.traffic(3+seed, 40, 2*time.Minute)
		w.odd()
		// lists come once a second; only then have all workers emitted the newest ones
		w.quiet(first, second, third)
	}
	w.clock += 310_000
	w.send(0)
	w.send(1)
	for _, x := range []work{first, second, third} {
		w.reached(x)
		if reason := x.unready(); reason != "" {
			t.Error(reason)
		}
	}
	w.agree()
	seconds, nows := w.copies()
	if seconds < 200 || nows < 20 {
		t.Errorf("the test is none: %d rows and %d lists were written again", seconds, nows)
	}
	t.Logf("%d rows and %d lists were written again", seconds, nows)
	// A final row never changes.
	finals := map[string]window.Second{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.emissions {
		for _, s := range e.Seconds {
			key := fmt.Sprint(e.Partition, s.Site, s.At)
			if f, has := finals[key]; has && s.Final && f != s {
				t.Errorf("final %+v and %+v", f, s)
			}
			if s.Final {
				finals[key] = s
			}
		}
	}
}

// TestStoreZombies checks that several store lanes on the same partitions store the same rows.
func TestStoreZombies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	both := newSink(t) // finds two contents of one row
	start := func(s *sink, at []group.Position) work {
		return w.worker("store", func(d *laneDeps) work { return newStoreWork(d, s, at) })
	}
	w.worker("windows", func(d *laneDeps) work { return newWindowsWork(d, nothing(topic.Events)) })
	one, two := newSink(t), newSink(t)
	first := start(one, nothing(topic.Events, topic.Windows))
	start(both, nothing(topic.Events, topic.Windows))
	w.traffic(1, 100, 30*time.Minute)
	w.odd()
	from := slices.Clone(w.reached(first))
	before, _ := w.wantEvents()
	w.traffic(2, 60, 4*time.Minute)
	start(two, from)
	start(both, from)
	w.traffic(3, 60, 4*time.Minute)
	w.odd()
	w.stored(one)
	w.stored(both)
	all, _ := w.wantEvents()
	w.until(10*time.Second, "stored by the second", func() string {
		if n := len(two.rows("events")); n != len(all)-len(before) {
			return fmt.Sprintf("%d rows, want %d", n, len(all)-len(before))
		}
		return ""
	})
	for key, row := range two.rows("events") {
		if other := one.rows("events")[key]; other != row {
			t.Errorf("%s:\n%s\n%s", key, row, other)
		}
	}
}
