package aggregator

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// traffic describes the log of one partition with busy sites.
type traffic struct {
	rate     int // events/s
	sites    int
	visitors int  // of whom each sends many events
	skew     bool // nine of ten events are of one site
	zipf     bool // the sizes of sites follow Zipf's law
	ids      bool // clients send ids
	paths    int
}

var even = traffic{rate: 20_000, sites: 1000, visitors: 200_000, ids: true, paths: 50}

// records returns seconds of the log, from the unix time start, as a fetch returns them.
func (t traffic) records(start, seconds int64) []broker.Record {
	r := rand.New(rand.NewPCG(1, uint64(start)))
	const perEnvelope = 100
	var records []broker.Record
	agents, countries, devices, sources := []string{"Chrome", "Safari", "Firefox", "Edge"},
		[]string{"DE", "FR", "US", "GB", "JP"}, []string{"Desktop", "Mobile"},
		[]string{"Google", "", "", "Bing"}
	step := int64(perEnvelope) * 1000 / int64(t.rate)
	sequence := uint64(start) << 20
	var name []byte
	numbered := func(before string, n int, after string) string {
		name = append(strconv.AppendInt(append(name[:0], before...), int64(n), 10), after...)
		return string(name)
	}
	siteOf := make([]int32, t.visitors)
	zipf := rand.NewZipf(rand.New(rand.NewPCG(2, 0)), 1.07, 1, uint64(t.sites-1))
	for v := range siteOf {
		if siteOf[v] = int32(v % t.sites); t.zipf {
			siteOf[v] = int32(zipf.Uint64())
		}
	}
	var e event.Event
	for at := start * 1000; at < (start+seconds)*1000; at += step {
		sequence++
		b := event.AppendHeader(make([]byte, 0, perEnvelope*180),
			event.Header{Version: event.Version, Node: 7, Sequence: sequence, Low: at - 1})
		for i := range int64(perEnvelope) {
			v := r.IntN(t.visitors)
			site := int(siteOf[v])
			if t.skew && r.IntN(10) != 0 {
				site = 0
			}
			e = event.Event{Time: at + i*step/perEnvelope, Visitor: uint64(v)*0x9e3779b97f4a7c15 + 1,
				Kind: event.Pageview, Name: "pageview",
				Site:    numbered("site-", site, ".example.com"),
				Path:    numbered("/articles/", r.IntN(t.paths), ""),
				Country: countries[v%5], Device: devices[v%2], Browser: agents[v%4], BrowserVersion: "142",
				OS: "Windows", OSVersion: "11", Language: "de-DE", Source: sources[v%4], HasID: t.ids}
			e.Hostname = e.Site
			if t.ids {
				binary.LittleEndian.PutUint64(e.ID[:], r.Uint64())
				binary.LittleEndian.PutUint64(e.ID[8:], r.Uint64())
			}
			b = event.AppendEvent(b, &e)
		}
		records = append(records, broker.Record{Offset: int64(sequence), Time: at + step, Value: b})
	}
	return records
}

// benchLane is the windows lane from fetched bytes to records to be produced, without the network on either
// side. It emits each 100 ms of log time.
type benchLane struct {
	reader   *partitionReader
	windows  fold.Windows
	pending  *pending
	interval int64
	bytes    int
	rows     counts
}

func newBenchLane() *benchLane {
	w := fold.NewWindows(fold.StandardRules())
	return &benchLane{reader: &partitionReader{}, windows: w, pending: newPending(0, w.Fold)}
}

func (l *benchLane) run(tb testing.TB, records []broker.Record) (events int) {
	for _, r := range records {
		if err := l.reader.decode(r); err != nil {
			tb.Fatal(err)
		}
		e := &l.reader.envelope
		events += len(e.Events)
		finals, _ := l.windows.Apply(e)
		l.pending.add(finals, e.Offset, l.windows.Classifier)
		if r.Time/100 != l.interval {
			l.interval = r.Time / 100
			out, n := l.pending.emit(time.UnixMilli(r.Time))
			for _, b := range out {
				l.bytes += len(b)
			}
			l.rows.finals += n.finals
			l.rows.provisional += n.provisional
			l.rows.lists += n.lists
		}
	}
	return events
}

// BenchmarkWindowsLane measures what an event costs in the windows lane while visitors are active. All
// times are CPU times. They are also given as a multiple of the decoding of the same records and of the
// even traffic of the same run, which depend less on the machine.
func BenchmarkWindowsLane(b *testing.B) {
	with := func(change func(*traffic)) traffic { t := even; change(&t); return t }
	baseline := 0.0
	for _, c := range []struct {
		name string
		traffic
	}{
		{"even", even},
		{"without-ids", with(func(t *traffic) { t.ids = false })},
		{"one-site-has-90%", with(func(t *traffic) { t.skew = true })},
		{"100000-sites", with(func(t *traffic) { t.sites = 100_000 })},
		{"100000-sites-zipf", with(func(t *traffic) { t.sites, t.zipf = 100_000, true })},
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
			events, allocs, spent, decoding, rows := 0, uint64(0), time.Duration(0), time.Duration(0), l.rows
			var m runtime.MemStats
			b.ResetTimer()
			for events < b.N {
				b.StopTimer()
				records := c.records(at, chunk)
				at += chunk
				runtime.GC()
				begin := cpu(b)
				for _, r := range records {
					if err := l.reader.decode(r); err != nil {
						b.Fatal(err)
					}
				}
				decoding += cpu(b) - begin
				runtime.ReadMemStats(&m)
				was := m.Mallocs
				begin = cpu(b)
				b.StartTimer()
				events += l.run(b, records)
				b.StopTimer()
				spent += cpu(b) - begin
				runtime.ReadMemStats(&m)
				allocs += m.Mallocs - was
			}
			n := float64(events)
			cost := float64(spent.Nanoseconds()) / n
			if c.traffic == even {
				baseline = cost
			}
			b.ReportMetric(cost, "ns/event")
			b.ReportMetric(1000/cost, "Mevents/s")
			b.ReportMetric(float64(spent)/float64(decoding), "xdecode")
			if baseline > 0 {
				b.ReportMetric(cost/baseline, "xeven")
			}
			b.ReportMetric(float64(allocs)/n, "allocs/event")
			b.ReportMetric(float64(l.rows.finals-rows.finals+l.rows.provisional-rows.provisional)/n,
				"rows/event")
			b.ReportMetric(0, "ns/op")
			active := l.windows.Fold.Active()
			l.windows.Classifier, l.reader = nil, nil // ids don't count as memory of a visitor
			b.ReportMetric(float64(heap()-before)/float64(active), "B/visitor")
			runtime.KeepAlive(l)
		})
	}
}

// BenchmarkEmission shows that an emission costs what has changed, however many sites there are. Both sizes
// take turns, so that noise of the machine is in both figures.
func BenchmarkEmission(b *testing.B) {
	few, many := newBenchSites(1000), newBenchSites(100_000)
	// The garbage collector's work grows with the number of sites: it runs between emissions.
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

// benchSites are sites with an active visitor each. Log time stands still, so nothing becomes final.
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

// change moves a visitor of each of the next n sites to another page, which changes row and lists.
func (s *benchSites) change(n int) {
	const at = 1_795_435_200_500
	s.sequence++
	e := fold.Envelope{Offset: int64(s.sequence), Time: at,
		Header: event.Header{Version: event.Version, Node: 7, Sequence: s.sequence, Low: at - 1}}
	for range n {
		i := s.next % len(s.names)
		e.Events = append(e.Events, event.Event{Time: at, Visitor: uint64(i) + 1, Kind: event.Pageview,
			Name: "pageview", Site: s.names[i],
			Path: []string{"/", "/a", "/b"}[s.sequence%3], Country: "DE", Device: "Desktop"})
		s.next++
	}
	finals, _ := s.windows.Apply(&e)
	s.pending.add(finals, e.Offset, s.windows.Classifier)
}

// emission returns how long an emission takes after 100 sites have changed.
func (s *benchSites) emission(b *testing.B) time.Duration {
	s.change(100)
	at := time.UnixMilli(int64(s.sequence) * 2 * listInterval.Milliseconds()) // lists are due each time
	begin := time.Now()
	_, n := s.pending.emit(at)
	took := time.Since(begin)
	if n != (counts{provisional: 100, lists: 100}) {
		b.Fatalf("emitted %+v", n)
	}
	return took
}

// cpu returns the CPU time of the process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
