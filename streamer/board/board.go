// Package board adds up what all partitions of nowcast.windows.v1 say: the last five minutes of every site, second by second, and where its
// visitors are now.
//
// It promises that a second which it calls final is complete and never changes: all partitions' watermarks have passed it. Rows may
// arrive twice or late, since the highest version of a row is the truth. While the log stands still the board stands still with it.
package board

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"nowcast/internal/window"
)

// SnapshotSeconds is how many final seconds a viewer is shown. RetainedSeconds is how many are there at least, so that a reader who looked at Final some seconds ago
// finds its own. What is older than SnapshotSeconds and margin is forgotten.
const (
	SnapshotSeconds = 300
	RetainedSeconds = SnapshotSeconds + 20
	margin          = 30
)

// Second is a second of a site, over all partitions.
type Second struct {
	At                                    int64 // unix seconds
	Pageviews, Visitors, Events, Revision uint32
	Final                                 bool
}

// Lists are where a site's visitors are now, each by visitors, then name.
type Lists struct {
	Pages, Sources, Countries, Devices                 []window.Count
	RestPages, RestSources, RestCountries, RestDevices uint32 // what partitions left out
}

// Board is safe for concurrent use.
type Board struct {
	mu    sync.RWMutex
	parts []part
	sites map[string]*Site
	final int64 // the newest final second; 0: none yet
	now   int64 // log time, ms
	wake  chan struct{}
	dirty []*Site // watched ones that changed since the last Take
}

// part is how far a partition is.
type part struct {
	watermark int64
	final     int64      // the newest second that its watermark has passed
	crossings []crossing // by final
}

// crossing is an emission by which seconds of a partition became final, up to the one given.
type crossing struct{ final, now, offset int64 }

// Site is what a board knows of a site.
type Site struct {
	b       *Board
	name    string
	cells   []cell            // by time
	active  []history[active] // by partition
	places  []history[*place] // by partition
	watched int
	dirty   bool
}

type cell struct {
	at   int64
	rows []row
}

type row struct {
	part                                  int
	version                               uint64
	pageviews, visitors, events, revision uint32
}

// active is a partition's number of active visitors by its newest row.
type active struct {
	at      int64
	version uint64
	n       uint32
}

type place struct {
	at      int64
	version uint64
	lists   Lists // never changed
}

// New makes a board for so many partitions.
func New(partitions int) *Board {
	b := &Board{parts: make([]part, partitions), sites: map[string]*Site{}, wake: make(chan struct{}, 1)}
	for i := range b.parts {
		b.parts[i].final = -1
	}
	return b
}

// Apply takes one emission of a partition, from the record with the given offset. Its strings may alias the record: what is kept is copied.
func (b *Board) Apply(partition int, offset int64, e *window.Emission) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if partition < 0 || partition >= len(b.parts) || e.Epoch != window.Epoch {
		return
	}
	for i := range e.Seconds {
		b.second(partition, &e.Seconds[i])
	}
	for i := range e.Nows {
		b.place(partition, &e.Nows[i])
	}
	b.now = max(b.now, e.Now)
	if p := &b.parts[partition]; e.Watermark > p.watermark {
		p.watermark = e.Watermark
		if final := e.Watermark/1000 - 1; final > p.final {
			p.cross(crossing{final, e.Now, offset}, b.final-SnapshotSeconds-slack)
			b.advance()
		}
	}
	if len(b.dirty) > 0 {
		b.rouse()
	}
}

// cross notes that an emission made seconds of the partition final, and forgets what no second after oldest asks for.
func (p *part) cross(c crossing, oldest int64) {
	p.final = c.final
	drop := 0
	for drop < len(p.crossings) && (p.crossings[drop].final < oldest || len(p.crossings)-drop >= 2*SnapshotSeconds) {
		drop++
	}
	p.crossings = append(append(p.crossings[:0], p.crossings[drop:]...), c)
}

// crossed is the emission by which the partition passed a second; ok is false when it hasn't, or long ago.
func (p *part) crossed(second int64) (c crossing, ok bool) {
	i, _ := slices.BinarySearchFunc(p.crossings, second, func(c crossing, at int64) int { return cmp.Compare(c.final, at) })
	if i == len(p.crossings) {
		return crossing{}, false
	}
	return p.crossings[i], true
}

// rouse tells whoever waits on Wake.
func (b *Board) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// site finds or makes one.
func (b *Board) site(name string) *Site {
	s, ok := b.sites[name]
	if !ok {
		name = strings.Clone(name)
		s = &Site{b: b, name: name, active: make([]history[active], len(b.parts)), places: make([]history[*place], len(b.parts))}
		b.sites[name] = s
	}
	return s
}

func (b *Board) second(partition int, r *window.Second) {
	if r.At <= b.final-SnapshotSeconds-margin {
		return
	}
	s := b.site(r.Site)
	if a := s.active[partition].now(); r.At > a.at || r.At == a.at && r.Version > a.version {
		if a.n != r.Active {
			s.touch()
		}
		s.active[partition].set(b.parts[partition].final, s.oldest(), active{r.At, r.Version, r.Active})
	}
	if r.Events == 0 {
		return // its active visitors are all that it had to say
	}
	i, ok := slices.BinarySearchFunc(s.cells, r.At, func(c cell, at int64) int { return cmp.Compare(c.at, at) })
	if !ok {
		s.cells = slices.Insert(s.cells, i, cell{at: r.At})
	}
	c := &s.cells[i]
	fresh := row{partition, r.Version, r.Pageviews, r.Visitors, r.Events, r.Revision}
	for k := range c.rows {
		if old := &c.rows[k]; old.part == partition {
			if r.Version > old.version {
				*old = fresh
				s.touch()
			}
			return
		}
	}
	c.rows = append(c.rows, fresh)
	s.touch()
}

func (b *Board) place(partition int, n *window.Now) {
	s := b.site(n.Site)
	if p := s.places[partition].now(); p != nil && (n.At < p.at || n.At == p.at && n.Version <= p.version) {
		return
	}
	s.places[partition].set(b.parts[partition].final, s.oldest(), &place{n.At, n.Version,
		Lists{clone(n.Pages), clone(n.Sources), clone(n.Countries), clone(n.Devices), n.RestPages, n.RestSources, n.RestCountries, n.RestDevices}})
	s.touch()
}

func clone(l []window.Count) []window.Count {
	out := make([]window.Count, len(l))
	for i, c := range l {
		out[i] = window.Count{Name: strings.Clone(c.Name), Active: c.Active}
	}
	return out
}

// oldest is the second after which frames may still be made.
func (s *Site) oldest() int64 {
	if s.watched == 0 {
		return s.b.final - unwatched
	}
	return s.b.final - slack
}

// touch notes that a watched site changed.
func (s *Site) touch() {
	if s.watched > 0 && !s.dirty {
		s.dirty = true
		s.b.dirty = append(s.b.dirty, s)
	}
}

// advance makes the seconds final that all partitions' watermarks have passed.
func (b *Board) advance() {
	final := b.parts[0].final
	for i := range b.parts {
		final = min(final, b.parts[i].final)
	}
	if final <= b.final {
		return
	}
	swept := b.final / 10
	b.final = final
	b.rouse()
	if final/10 > swept {
		b.sweep()
	}
}

// sweep forgets what is older than the board keeps, and sites of which nothing is left.
func (b *Board) sweep() {
	for name, s := range b.sites {
		i := 0
		for i < len(s.cells) && s.cells[i].at <= b.final-SnapshotSeconds-margin {
			i++
		}
		s.cells = slices.Delete(s.cells, 0, i)
		if len(s.cells) == 0 && s.visitors() == 0 && s.watched == 0 {
			delete(b.sites, name)
		}
	}
}

func (s *Site) visitors() (n uint32) {
	for i := range s.active {
		n += s.active[i].now().n
	}
	return n
}

func (c *cell) sum(final int64) Second {
	out := Second{At: c.at, Final: c.at <= final}
	for _, r := range c.rows {
		out.Pageviews += r.pageviews
		out.Visitors += r.visitors
		out.Events += r.events
		out.Revision += r.revision
	}
	return out
}
