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

// Span is how many final seconds are kept.
const Span = 300

// margin are the seconds kept beyond Span, so that a reader that is a little behind finds its own.
const margin = 30

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
	mu       sync.RWMutex
	parts    []part
	sites    map[string]*site
	final    int64 // the newest final second; 0: none yet
	now      int64 // log time, ms
	advanced chan struct{}
}

type part struct{ watermark int64 }

type site struct {
	cells   []cell   // by time
	active  []active // by partition
	places  []places // by partition
	lists   *Lists   // of all partitions; nil: to be made again
	changed uint64   // counts what a viewer can see
	notify  chan struct{}
	watched int
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

type places struct {
	at      int64
	version uint64
	lists   Lists
}

// New makes a board for so many partitions.
func New(partitions int) *Board {
	return &Board{parts: make([]part, partitions), sites: map[string]*site{}, advanced: make(chan struct{})}
}

// Apply takes one emission of a partition. Its strings may alias the record: what is kept is copied.
func (b *Board) Apply(partition int, e *window.Emission) {
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
	p := &b.parts[partition]
	p.watermark = max(p.watermark, e.Watermark)
	b.advance()
}

// site finds or makes one.
func (b *Board) site(name string) *site {
	s, ok := b.sites[name]
	if !ok {
		s = &site{active: make([]active, len(b.parts)), places: make([]places, len(b.parts)), notify: make(chan struct{})}
		b.sites[strings.Clone(name)] = s
	}
	return s
}

func (b *Board) second(partition int, r *window.Second) {
	if r.At <= b.final-Span-margin {
		return
	}
	s := b.site(r.Site)
	if a := &s.active[partition]; r.At > a.at || r.At == a.at && r.Version > a.version {
		if a.n != r.Active {
			s.touch()
		}
		*a = active{r.At, r.Version, r.Active}
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
	p := &s.places[partition]
	if n.At < p.at || n.At == p.at && n.Version <= p.version {
		return
	}
	p.at, p.version = n.At, n.Version
	p.lists = Lists{clone(n.Pages), clone(n.Sources), clone(n.Countries), clone(n.Devices), n.RestPages, n.RestSources, n.RestCountries, n.RestDevices}
	s.lists = nil
	s.touch()
}

func clone(l []window.Count) []window.Count {
	out := make([]window.Count, len(l))
	for i, c := range l {
		out[i] = window.Count{Name: strings.Clone(c.Name), Active: c.Active}
	}
	return out
}

// touch wakes who watches the site.
func (s *site) touch() {
	s.changed++
	if s.watched > 0 {
		close(s.notify)
		s.notify = make(chan struct{})
	}
}

// advance makes the seconds final that all partitions' watermarks have passed.
func (b *Board) advance() {
	low := b.parts[0].watermark
	for _, p := range b.parts {
		low = min(low, p.watermark)
	}
	final := low/1000 - 1
	if final <= b.final {
		return
	}
	swept := b.final / 10
	b.final = final
	close(b.advanced)
	b.advanced = make(chan struct{})
	if final/10 > swept {
		b.sweep()
	}
}

// sweep forgets what is older than the board keeps, and sites of which nothing is left.
func (b *Board) sweep() {
	for name, s := range b.sites {
		i := 0
		for i < len(s.cells) && s.cells[i].at <= b.final-Span-margin {
			i++
		}
		s.cells = slices.Delete(s.cells, 0, i)
		if len(s.cells) == 0 && s.visitors() == 0 && s.watched == 0 {
			delete(b.sites, name)
		}
	}
}

func (s *site) visitors() (n uint32) {
	for _, a := range s.active {
		n += a.n
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
