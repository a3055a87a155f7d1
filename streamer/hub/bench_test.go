package hub

import (
	"fmt"
	"runtime"
	"testing"

	"nowcast/internal/window"
	"nowcast/streamer/board"
)

// manySites is a board of many sites, each with an event every so many seconds in each of four partitions.
type manySites struct {
	board *board.Board
	hub   *Hub
	names []string
	every int
	at    int64
}

func newManySites(sites, every int) *manySites {
	m := &manySites{board: board.New(4), every: every, at: T}
	m.hub = New(m.board)
	for i := range sites {
		m.names = append(m.names, fmt.Sprintf("site-%d.example.com", i))
	}
	return m
}

// second lets one second pass.
func (m *manySites) second() {
	m.at++
	version := window.RowVersion(window.Epoch, true, m.at)
	for p := range 4 {
		e := emission(m.at)
		for i := int(m.at) % m.every; i < len(m.names); i += m.every {
			e.Seconds = append(e.Seconds, window.Second{
				Site: m.names[i], At: m.at, Pageviews: 1, Visitors: 1, Events: 1,
				Active: uint32(m.at%7) + 1, Final: true, Revision: 2, Version: version,
			})
			e.Nows = append(e.Nows, window.Now{Site: m.names[i], At: m.at, Version: version,
				Pages: []window.Count{{Name: "/", Active: 1}, {Name: "/pricing", Active: 1}}})
		}
		m.board.Apply(p, m.at, e)
	}
	m.hub.deliverChanges()
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc) //nolint:gosec // far below
}

// BenchmarkManySites is one second of a board with many sites of which nobody watches any, or of which 1,000
// are watched. It reports what the board keeps of a site.
func BenchmarkManySites(b *testing.B) {
	for _, sites := range []int{1_000, 10_000} {
		for _, watched := range []int{0, 1_000} {
			b.Run(fmt.Sprintf("sites=%d/watched=%d", sites, watched), func(b *testing.B) {
				before := heap()
				m := newManySites(sites, 20)
				var s queueSink
				for i := range watched {
					join(b, m.hub, FeedKey{Sites: m.names[i], Top: 10, Rate: rate("1s")}, Resume{}, &s)
				}
				for range 400 {
					m.second()
					s.queue = nil
				}
				kept := float64(heap() - before)
				for b.Loop() {
					m.second()
					s.queue = nil
				}
				b.ReportMetric(kept/float64(sites), "B/site")
			})
		}
	}
}

// Ten thousand sites for a quarter of an hour: what is kept doesn't grow once the oldest second leaves.
func TestTenThousandSites(t *testing.T) {
	m := newManySites(10_000, 200)
	var s queueSink
	for i := range 50 {
		join(t, m.hub, FeedKey{Sites: m.names[i], Top: 10, Rate: rate("1s")}, Resume{}, &s)
	}
	pass := func(seconds int) int64 {
		for range seconds {
			m.second()
			s.queue = nil
		}
		return heap()
	}
	first := pass(400)
	if later := pass(500); later > first*11/10 {
		t.Errorf("%d MB after 900 s, %d MB after 400 s", later>>20, first>>20)
	}
	runtime.KeepAlive(m)
}
