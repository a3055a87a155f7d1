package aggregator

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// traffic is a log of one partition as busy sites make it.
type traffic struct {
	rate     int // events/s
	sites    int
	visitors int  // who come back again and again
	skew     bool // nine of ten events are of one site
	ids      bool // clients give ids
	paths    int
}

var even = traffic{rate: 20_000, sites: 1000, visitors: 200_000, ids: true, paths: 50}

// records are seconds of it, beginning at the moment start, as a fetch brings them.
func (t traffic) records(start, seconds int64) []broker.Record {
	r := rand.New(rand.NewPCG(1, uint64(start)))
	const perEnvelope = 100
	var records []broker.Record
	agents := []string{"Chrome", "Safari", "Firefox", "Edge"}
	step := int64(perEnvelope) * 1000 / int64(t.rate)
	sequence := uint64(start) << 20
	for at := start * 1000; at < (start+seconds)*1000; at += step {
		sequence++
		b := event.AppendHeader(nil, event.Header{Version: event.Version, Node: 7, Sequence: sequence, Low: at - 1})
		for i := range int64(perEnvelope) {
			v := r.IntN(t.visitors)
			site := v % t.sites
			if t.skew && r.IntN(10) != 0 {
				site = 0
			}
			e := event.Event{Time: at + i*step/perEnvelope, Visitor: uint64(v)*0x9e3779b97f4a7c15 + 1, Kind: event.Pageview, Name: "pageview",
				Site: fmt.Sprintf("site-%d.example.com", site), Path: fmt.Sprintf("/articles/%d", r.IntN(t.paths)),
				Country: []string{"DE", "FR", "US", "GB", "JP"}[v%5], Device: []string{"Desktop", "Mobile"}[v%2], Browser: agents[v%4], BrowserVersion: "142",
				OS: "Windows", OSVersion: "11", Language: "de-DE", Source: []string{"Google", "", "", "Bing"}[v%4], HasID: t.ids}
			e.Hostname = e.Site
			if t.ids {
				for j := range e.ID {
					e.ID[j] = byte(r.Uint32())
				}
			}
			b = event.AppendEvent(b, &e)
		}
		records = append(records, broker.Record{Offset: int64(sequence), Time: at + step, Value: b})
	}
	return records
}

// lane is the windows lane from fetched bytes to records to be produced, without the wire on either side. It emits each 100 ms of log time.
type benchLane struct {
	source  *source
	windows fold.Windows
	pending *pending
	beat    int64
	bytes   int
	rows    counts
}

func newBenchLane() *benchLane {
	w := fold.NewWindows(fold.Standard())
	return &benchLane{source: &source{}, windows: w, pending: newPending(0, w.Fold)}
}

func (l *benchLane) run(tb testing.TB, records []broker.Record) (events int) {
	for _, r := range records {
		if err := l.source.decode(r); err != nil {
			tb.Fatal(err)
		}
		e := &l.source.envelope
		events += len(e.Events)
		finals, _ := l.windows.Apply(e)
		l.pending.take(finals, e.Offset, l.windows.Reader)
		if r.Time/100 != l.beat {
			l.beat = r.Time / 100
			out, n := l.pending.emit(time.UnixMilli(r.Time))
			for _, b := range out {
				l.bytes += len(b)
			}
			l.rows.finals += n.finals
			l.rows.provisional += n.provisional
			l.rows.nows += n.nows
		}
	}
	return events
}

// BenchmarkWindowsLane says what an event costs in the windows lane, once as many visitors are active as there will be.
func BenchmarkWindowsLane(b *testing.B) {
	with := func(change func(*traffic)) traffic { t := even; change(&t); return t }
	for _, c := range []struct {
		name string
		traffic
	}{
		{"even", even},
		{"without-ids", with(func(t *traffic) { t.ids = false })},
		{"one-site-has-90%", with(func(t *traffic) { t.skew = true })},
		{"100000-sites", with(func(t *traffic) { t.sites = 100_000 })},
		{"1M-active-visitors", with(func(t *traffic) { t.visitors = 1_000_000 })},
	} {
		b.Run(c.name, func(b *testing.B) {
			const start, chunk = 1_795_435_200, 10
			l := newBenchLane()
			at := int64(start)
			before := heap()
			for ; at < start+330; at += chunk {
				l.run(b, c.records(at, chunk))
			}
			b.ReportMetric(float64(heap()-before)/float64(l.windows.Fold.Active()), "B/visitor")
			b.ReportAllocs()
			events, allocs, spent, rows := 0, uint64(0), time.Duration(0), l.rows
			var m runtime.MemStats
			b.ResetTimer()
			for events < b.N {
				b.StopTimer()
				records := c.records(at, chunk)
				at += chunk
				runtime.GC()
				runtime.ReadMemStats(&m)
				was := m.Mallocs
				b.StartTimer()
				begin := time.Now()
				events += l.run(b, records)
				spent += time.Since(begin)
				b.StopTimer()
				runtime.ReadMemStats(&m)
				allocs += m.Mallocs - was
			}
			n := float64(events)
			b.ReportMetric(float64(spent.Nanoseconds())/n, "ns/event")
			b.ReportMetric(n/spent.Seconds()/1e6, "Mevents/s")
			b.ReportMetric(float64(allocs)/n, "allocs/event")
			b.ReportMetric(float64(l.rows.finals-rows.finals+l.rows.provisional-rows.provisional)/n, "rows/event")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(0, "B/op")
			b.ReportMetric(0, "allocs/op")
		})
	}
}

// BenchmarkEmission says that an emission costs what has changed, however many sites are known. Both worlds take turns, so that a
// machine's moods are in both figures.
func BenchmarkEmission(b *testing.B) {
	few, many := newBenchSites(1000), newBenchSites(100_000)
	// The collector's work grows with all that is known, and comes when it likes: here between emissions.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var ofFew, ofMany time.Duration
	n := 0
	for b.Loop() {
		if n%500 == 0 {
			runtime.GC()
		}
		ofFew += few.emission(b)
		ofMany += many.emission(b)
		n++
	}
	b.ReportMetric(float64(ofFew.Nanoseconds())/float64(n), "ns/emission-1000-known")
	b.ReportMetric(float64(ofMany.Nanoseconds())/float64(n), "ns/emission-100000-known")
	b.ReportMetric(float64(ofMany)/float64(ofFew), "ratio")
	b.ReportMetric(0, "ns/op")
}

// benchSites are sites that are known because somebody is there. Log time stands still, so nothing becomes final.
type benchSites struct {
	*benchLane
	names    []string
	next     int // of those that will change
	sequence uint64
}

func newBenchSites(n int) *benchSites {
	s := &benchSites{benchLane: newBenchLane()}
	for i := range n {
		s.names = append(s.names, fmt.Sprintf("site-%d.example.com", i))
	}
	for s.next < n {
		s.change(100)
	}
	s.next = 0
	s.pending.emit(time.UnixMilli(0))
	return s
}

// change has a visitor of each of the next n sites look at another page, so that row and lists change.
func (s *benchSites) change(n int) {
	const at = 1_795_435_200_500
	s.sequence++
	e := fold.Envelope{Offset: int64(s.sequence), Time: at, Header: event.Header{Version: event.Version, Node: 7, Sequence: s.sequence, Low: at - 1}}
	for range n {
		i := s.next % len(s.names)
		e.Events = append(e.Events, event.Event{Time: at, Visitor: uint64(i) + 1, Kind: event.Pageview, Name: "pageview", Site: s.names[i],
			Path: []string{"/", "/a", "/b"}[s.sequence%3], Country: "DE", Device: "Desktop"})
		s.next++
	}
	finals, _ := s.windows.Apply(&e)
	s.pending.take(finals, e.Offset, s.windows.Reader)
}

// emission is how long one takes after 100 sites have changed.
func (s *benchSites) emission(b *testing.B) time.Duration {
	s.change(100)
	at := time.UnixMilli(int64(s.sequence) * 2 * nowPace.Milliseconds()) // so that lists are due each time
	begin := time.Now()
	_, n := s.pending.emit(at)
	took := time.Since(begin)
	if n != (counts{provisional: 100, nows: 100}) {
		b.Fatalf("emitted %+v", n)
	}
	return took
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
