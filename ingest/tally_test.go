package ingest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"nowcast/internal/broker"

	"nowcast/internal/event"
)

// tallied sums up the tallies of records by site and reason, and checks each envelope's own: those received are its events and the dropped ones.
func tallied(t *testing.T, records []record) map[string]uint64 {
	t.Helper()
	sums := map[string]uint64{}
	type minute struct {
		site string
		at   int64
	}
	for _, r := range records {
		balance := map[minute]int64{}
		for _, e := range r.events {
			balance[minute{e.Site, e.Time / 60_000}]++
		}
		for _, x := range r.tallies {
			sums[x.Site+" "+x.Reason] += x.Count
			if x.Reason == "" {
				balance[minute{x.Site, x.Minute}] -= int64(x.Count)
			} else {
				balance[minute{x.Site, x.Minute}] += int64(x.Count)
			}
		}
		for m, n := range balance {
			if n != 0 {
				t.Errorf("%+v: %v is off by %d", r.Header, m, n)
			}
		}
	}
	return sums
}

// Through the door: what is answered 202 is in the tallies of its sites, and nothing else is.
func TestTallies(t *testing.T) {
	w := start(t, Config{})
	const bot = "Acme-Bot/1.0"
	for range 3 {
		w.post(t, `{"n":"pageview","u":"https://example.com/","d":"example.com, other.example"}`)
	}
	w.post(t, `{"n":"pageview","u":"https://example.com/","d":"example.com,unknown.example"}`, "User-Agent", bot)
	w.post(t, `{"n":"pageview","u":"https://unknown.example/"}`)
	w.post(t, `{"n":"pageview","u":"https://third.example/"}`, "User-Agent", bot)
	w.post(t, `{"n":"","u":"https://example.com/"}`) // 400
	w.post(t, `{"n":"pageview","u":"https://example.com/"}`, "X-Debug-Request", "true")
	w.stop()
	got := tallied(t, w.records(t))
	if want := map[string]uint64{"example.com ": 4, "example.com bot": 1, "other.example ": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := testutil.ToFloat64(w.meter.dropped("bot")); n != 1 {
		t.Errorf("%v bots in the metric", n)
	}
}

// A tick carries what was dropped, also over a minute's end, and the farewell the rest.
func TestTalliesOfTicks(t *testing.T) {
	publish(t, 4, func(m *memory, p *publisher, stop func()) {
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute - 50*time.Millisecond)))
		for range 100 {
			p.drop("example.com", "bot")
			time.Sleep(time.Millisecond)
		}
		stop()
		var all []record
		for i := range 4 {
			all = append(all, m.records(t, i)...)
		}
		minutes := map[int64]uint64{}
		for _, r := range all {
			for _, x := range r.tallies {
				if x.Reason == "bot" {
					minutes[x.Minute] += x.Count
				}
			}
		}
		if got := slices.Sorted(maps.Values(minutes)); !slices.Equal(got, []uint64{50, 50}) {
			t.Errorf("by minute %v", minutes)
		}
		tallied(t, all)
	})
}

// Whatever comes while the log is away, tallies take bounded room, no record is too large, and what is missing is counted.
func TestTalliesBounded(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		m.set(0, broker.ErrNotEnoughReplicas)
		const n = 100_000
		for i := range n {
			p.drop(fmt.Sprintf("%d.%s.example", i, strings.Repeat("x", 100)), "bot")
		}
		if l := p.lanes[0]; l.tallies.bytes > maxTallies+1000 || l.waiting > maxWaiting+fullBytes || len(l.queue) > maxQueue {
			t.Errorf("%d bytes of tallies, %d in all, %d envelopes", l.tallies.bytes, l.waiting, len(l.queue))
		}
		m.set(0, nil)
		time.Sleep(time.Second)
		got := 0
		for _, r := range m.records(t, 0) {
			got += len(r.tallies) / 2
		}
		if missing := int(testutil.ToFloat64(p.meter.untallied)); missing == 0 || got == 0 || got+missing != n {
			t.Errorf("%d in the log, %d missing, of %d", got, missing, n)
		}
	})
}

// Retries, an outage and the way over the disk change nothing: each acknowledged event is in the log with its tally.
func TestTalliesThroughOutage(t *testing.T) {
	publish(t, 1, func(m *memory, p *publisher, stop func()) {
		for i := range 3000 {
			switch i {
			case 500:
				m.set(0, broker.ErrNotEnoughReplicas)
			case 1500:
				m.set(30*time.Millisecond, nil)
			}
			_, _ = p.add(0, &draft{Event: event.Event{Site: fmt.Sprintf("%d.example", i%7), Kind: event.Pageview}})
			p.drop(fmt.Sprintf("%d.example", i%7), "prefetch")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()
		tallied(t, m.records(t, 0))
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
