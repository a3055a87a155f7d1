package publisher

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// TestTalliesOfTicks drops beacons before and after a minute ends: ticks and the close marker have their
// tallies.
func TestTalliesOfTicks(t *testing.T) {
	publish(t, 4, func(m *memory, p *Publisher, stop func()) {
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute - 50*time.Millisecond)))
		for range 100 {
			p.CountDropped("example.com", "bot")
			time.Sleep(time.Millisecond)
		}
		stop()
		var all []logtest.Record
		for i := range 4 {
			all = append(all, m.records(t, i)...)
		}
		minutes := map[int64]uint64{}
		for _, r := range all {
			for _, x := range r.Tallies {
				if x.Reason == "bot" {
					minutes[x.Minute] += x.Count
				}
			}
		}
		if got := slices.Sorted(maps.Values(minutes)); !slices.Equal(got, []uint64{50, 50}) {
			t.Errorf("by minute %v", minutes)
		}
		logtest.CheckTallies(t, all)
	})
}

// TestTalliesBounded drops beacons of many sites while the log is unavailable: tallies stay bounded, and
// missing ones are counted.
func TestTalliesBounded(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		m.set(0, broker.ErrNotEnoughReplicas)
		const n = 100_000
		for i := range n {
			p.CountDropped(fmt.Sprintf("%d.%s.example", i, strings.Repeat("x", 100)), "bot")
		}
		if w := p.writers[0]; w.tallies.bytes > maxTallyBytes+1000 ||
			w.queuedBytes > maxQueuedBytes+maxBytes || len(w.queue) > maxQueue {
			t.Errorf("%d bytes of tallies, %d in all, %d envelopes", w.tallies.bytes, w.queuedBytes,
				len(w.queue))
		}
		m.set(0, nil)
		time.Sleep(time.Second)
		got := 0
		for _, r := range m.records(t, 0) {
			got += len(r.Tallies) / 2
		}
		if missing := int(testutil.ToFloat64(p.metrics.untallied)); missing == 0 || got == 0 ||
			got+missing != n {
			t.Errorf("%d in the log, %d missing, of %d", got, missing, n)
		}
	})
}

// TestTalliesThroughOutage checks the tallies after retries and an outage.
func TestTalliesThroughOutage(t *testing.T) {
	publish(t, 1, func(m *memory, p *Publisher, stop func()) {
		for i := range 3000 {
			switch i {
			case 500:
				m.set(0, broker.ErrNotEnoughReplicas)
			case 1500:
				m.set(30*time.Millisecond, nil)
			}
			_, _ = p.Add(0, &event.Event{Site: fmt.Sprintf("%d.example", i%7), Kind: event.Pageview}, nil)
			p.CountDropped(fmt.Sprintf("%d.example", i%7), "prefetch")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()
		logtest.CheckTallies(t, m.records(t, 0))
	})
}

func BenchmarkTally(b *testing.B) {
	for _, sites := range []int{1, 100} {
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			b.ReportAllocs()
			var names []string
			for i := range sites {
				names = append(names, fmt.Sprintf("%d.example.com", i))
			}
			var t tallies
			var buf []byte
			for i := 0; b.Loop(); i++ {
				t.add(names[i%sites], 1795435200000, "")
				if i%500 == 499 {
					buf = t.flush(buf[:0])
				}
			}
		})
	}
}
