package fold

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// Fold is the second stage of the windows lane: it counts events in the seconds of their sites.
//
// Each open second (one that the watermark hasn't passed) has a bucket: a row for each site, and the visitors seen in it. Nothing in them
// depends on the order of events, so the events themselves aren't kept. When the watermark passes the second, its rows are final and
// its visitors are active for 300 more seconds. Each active one waits in the list of one passed second, no later than the one in which
// they were last seen: when that second's time is over, they leave, or go on to wait in the list of the later one.
//
// A visitor is present on a site when active (seen in one of the last 300 final seconds) or seen in an open second. Provisional rows
// and the lists of now count those present, so that somebody new is there at once; final rows count the active ones.
//
// What is provisional stays here until somebody takes it (Provisional, News): of what changes faster than it is taken, only the newest
// content is given. It is for one goroutine.
type Fold struct {
	rules Rules

	sites    slab[site]
	siteOf   table // by name
	visitors visitors
	names    names

	open   []*bucket // by second
	passed []passed  // by second
	free   []*bucket
	spare  [][]int32 // lists of passed seconds, to be used again
	left   []int32   // sites that lost an active visitor in the second being finished

	envelope int64     // how many there were: what is marked with it was changed by the current one
	moved    []*bucket // with rows that the current envelope changed
	listed   []int32   // sites whose lists it changed
	changed  []*bucket // with rows that changed since they were last taken
	news     []int32   // sites whose lists did
	finals   []window.Second

	events []event.Event
	ahead  []found // of the current envelope's events
	seen   uint64  // kept so that the compiler lets it be read

	// What a list needs while it is put in order.
	merging []value
	order   []uint64
}

// passed is a final second of the last 300 in which anybody was seen, and who waits there.
type passed struct {
	second  int64
	waiting []int32
}

type bucket struct {
	second  int64
	rows    []row
	rowOf   map[int32]int32    // by site; of those that don't remember it
	seen    []int32            // visitors, in the order of the log
	others  map[int32]struct{} // of them, those of whom the visitor itself can't tell
	moved   []int32            // rows that the current envelope changed
	changed []int32            // rows that changed since they were last taken
}

type row struct {
	site                        int32
	pageviews, visitors, events uint32
	present                     uint32 // on the site, at the end of the last envelope that changed the row
	changed                     bool   // since it was last taken
	envelope, offset            int64  // of the last envelope that changed it
}

type site struct {
	name            string
	hash            uint32   // of it
	active, present uint32   // visitors; with nobody present the site is forgotten
	rows            [2]rowOf // of the two seconds in which it was last counted
	news            bool     // its lists changed since they were last taken
	list            list
	listed          int64 // log time at which its lists last changed, and of which envelope
	listedOffset    int64
	given           int64 // when its lists were last taken, by the taker's clock
	envelope        int64
	left            int64 // newest second in which it lost somebody
}

type rowOf struct {
	second int64
	row    int32
}

var noRows = [2]rowOf{{second: None}, {second: None}}

// New is at the log's start.
func New(rules Rules) *Fold {
	return &Fold{rules: rules, visitors: newVisitors(), envelope: 1}
}

// Active is how many visitors are present, on all sites.
func (f *Fold) Active() int { return f.visitors.len() }

// Advance makes final every second that ends at or before the watermark; offset is that of the envelope which moved it. Also a second
// without events has a row for a site that lost active visitors in it; else seconds without events are skipped, not walked through.
func (f *Fold) Advance(watermark, offset int64) {
	const never = 1 << 62
	for {
		next := int64(never)
		if len(f.open) > 0 {
			next = f.open[0].second
		}
		if len(f.passed) > 0 {
			next = min(next, f.passed[0].second+f.rules.Active)
		}
		if next == never || (next+1)*1000 > watermark {
			return
		}
		f.finish(next, window.RowVersion(window.Epoch, true, offset))
	}
}

func (f *Fold) finish(second int64, version uint64) {
	var b *bucket
	if len(f.open) > 0 && f.open[0].second == second {
		b = f.open[0]
		f.open = slices.Delete(f.open, 0, 1)
		f.activate(b)
	}
	for len(f.passed) > 0 && f.passed[0].second <= second-f.rules.Active {
		p := f.passed[0]
		for _, v := range p.waiting {
			f.deactivate(v, p.second, second)
		}
		f.spare = append(f.spare, p.waiting[:0])
		f.passed = slices.Delete(f.passed, 0, 1)
	}
	if b != nil {
		for i := range b.rows {
			f.final(second, version, &b.rows[i])
		}
	}
	for _, s := range f.left {
		has := false
		if b != nil {
			_, has = b.find(f.sites.at(s), s)
		}
		if !has {
			f.final(second, version, &row{site: s})
		}
	}
	f.left = f.left[:0]
	if b != nil {
		f.recycle(b)
	}
}

func (f *Fold) final(second int64, version uint64, r *row) {
	s := f.sites.at(r.site)
	f.finals = append(f.finals, window.Second{Site: s.name, At: second, Pageviews: r.pageviews, Visitors: r.visitors,
		Events: r.events, Active: s.active, Final: true, Revision: r.events + 1, Version: version})
}

// found is where an event's site and visitor were found ahead of its turn.
type found struct {
	hash uint32 // of the site
	site int32  // nobody: it isn't known yet
	slot int32  // where to look for the visitor
}

// Ahead takes the events of an envelope, of which Add will count some. It finds their sites, and looks at all that Add will need: see
// Reader.Ahead. Each loop reads what the one before has led to.
func (f *Fold) Ahead(events []event.Event) {
	places, seen := f.ahead[:0], uint64(0)
	for i := range events {
		hash := hashOf(events[i].Site)
		seen += f.siteOf.touch(hash)
		places = append(places, found{hash: hash})
	}
	for i := range places {
		if _, at := f.siteOf.first(places[i].hash); at != nobody {
			seen += uint64(f.sites.at(at).hash)
		}
	}
	for i := range places {
		p := &places[i]
		if p.site = f.known(events[i].Site, p.hash); p.site != nobody {
			p.slot = int32(f.visitors.home(events[i].Visitor, p.site))
			seen += uint64(f.visitors.table[p.slot])
			if values := f.sites.at(p.site).list.values; len(values) > 0 {
				seen += uint64(values[0].key)
			}
		}
	}
	for _, p := range places {
		if p.site != nobody {
			if v := f.visitors.table[p.slot]; v != nobody {
				seen += f.visitors.at(v).id
			}
		}
	}
	f.events, f.ahead, f.seen = events, places, seen
}

// Add counts the event at a place of those that Ahead was given, which the reader has judged Counted.
func (f *Fold) Add(i int) {
	e := &f.events[i]
	if e.Kind == event.Engagement {
		return
	}
	at := f.ahead[i].site
	if at == nobody {
		at = f.site(e.Site, f.ahead[i].hash)
	}
	s := f.sites.at(at)
	v, x := f.visitors.find(e.Visitor, e.PreviousVisitor, at)
	if x == nil {
		v, x = f.visitors.add(e.Visitor, e.PreviousVisitor, at)
		s.present++
	}
	b := f.bucket(e.Time / 1000)
	row := f.row(b, s, at)
	r := &b.rows[row]
	if e.Kind == event.Pageview {
		r.pageviews++
	}
	r.events++
	if b.first(v, x) {
		b.seen = append(b.seen, v)
		r.visitors++
		x.open++
	}
	f.place(at, s, x, e)
	if r.envelope != f.envelope {
		r.envelope = f.envelope
		if len(b.moved) == 0 {
			f.moved = append(f.moved, b)
		}
		b.moved = append(b.moved, row)
	}
}

// End closes an envelope, with its offset and the log's time, and gives the rows that it made final, by time and valid until the next End. A
// provisional row is fixed here and nowhere else: another envelope may change how many are present without touching it, so only
// its own last envelope can say what it holds.
func (f *Fold) End(offset, now int64) []window.Second {
	for _, b := range f.moved {
		for _, i := range b.moved {
			r := &b.rows[i]
			s := f.sites.at(r.site)
			r.present, r.offset = s.present, offset
			if !r.changed {
				r.changed = true
				if len(b.changed) == 0 {
					f.changed = append(f.changed, b)
				}
				b.changed = append(b.changed, i)
			}
			if now-s.listed >= f.rules.Refresh {
				f.list(r.site, s)
			}
		}
		b.moved = b.moved[:0]
	}
	for _, i := range f.listed {
		s := f.sites.at(i)
		s.listed, s.listedOffset = now, offset
		if !s.news {
			s.news = true
			f.news = append(f.news, i)
		}
	}
	f.moved, f.listed = f.moved[:0], f.listed[:0]
	f.envelope++
	finals := f.finals
	f.finals = f.finals[:0]
	return finals
}

// Pending says whether there are provisional rows or lists to be taken.
func (f *Fold) Pending() bool { return len(f.changed)+len(f.news) > 0 }

// Provisional gives each open row that has changed since it was last given. The row is valid only during the call.
func (f *Fold) Provisional(give func(*window.Second)) {
	var s window.Second
	for _, b := range f.changed {
		for _, i := range b.changed {
			r := &b.rows[i]
			r.changed = false
			s = window.Second{Site: f.sites.at(r.site).name, At: b.second, Pageviews: r.pageviews, Visitors: r.visitors, Events: r.events,
				Active: r.present, Revision: r.events, Version: window.RowVersion(window.Epoch, false, r.offset)}
			give(&s)
		}
		b.changed = b.changed[:0]
	}
	f.changed = f.changed[:0]
}

// bucket of an open second. Nearly always it is the last or the one before it.
func (f *Fold) bucket(second int64) *bucket {
	i := len(f.open)
	for i > 0 && f.open[i-1].second > second {
		i--
	}
	if i > 0 && f.open[i-1].second == second {
		return f.open[i-1]
	}
	b := &bucket{}
	if n := len(f.free); n > 0 {
		b, f.free = f.free[n-1], f.free[:n-1]
	}
	b.second = second
	f.open = slices.Insert(f.open, i, b)
	return b
}

// recycle lets a bucket be used again. What of it is provisional isn't to be taken any more.
func (f *Fold) recycle(b *bucket) {
	if len(b.changed) > 0 {
		f.changed = slices.DeleteFunc(f.changed, func(c *bucket) bool { return c == b })
	}
	if len(f.free) < 16 {
		*b = bucket{rows: b.rows[:0], seen: b.seen[:0], moved: b.moved[:0], changed: b.changed[:0]}
		f.free = append(f.free, b)
	}
}

// find gives the number of a site's row.
func (b *bucket) find(s *site, at int32) (row int32, has bool) {
	for i := range s.rows {
		if s.rows[i].second == b.second {
			return s.rows[i].row, true
		}
	}
	row, has = b.rowOf[at]
	return row, has
}

// row finds a site's row or adds it. A site remembers two rows, which nearly always are all that it has in open seconds: only when there is
// another, a bucket has to.
func (f *Fold) row(b *bucket, s *site, at int32) int32 {
	last := &s.rows[0]
	if last.second == b.second {
		return last.row
	}
	i, has := b.find(s, at)
	if !has {
		i = int32(len(b.rows))
		b.rows = append(b.rows, row{site: at})
	}
	if old := s.rows[1]; old.second != b.second && old.second >= f.open[0].second {
		o := f.bucket(old.second)
		if o.rowOf == nil {
			o.rowOf = map[int32]int32{}
		}
		o.rowOf[at] = old.row
	}
	s.rows = [2]rowOf{{b.second, i}, *last}
	return i
}

// known finds a site.
func (f *Fold) known(name string, hash uint32) int32 {
	slot, i := f.siteOf.first(hash)
	for i != nobody && f.sites.at(i).name != name {
		slot, i = f.siteOf.next(slot, hash)
	}
	return i
}

// site finds a site or makes it known.
func (f *Fold) site(name string, hash uint32) int32 {
	i := f.known(name, hash)
	if i == nobody {
		i = f.sites.add(site{name: strings.Clone(name), hash: hash, rows: noRows, listed: None, given: None, left: None})
		f.siteOf.add(hash, i)
	}
	return i
}

// activate makes the visitors of b those who were last seen in its second, which is final now. The second is later than all passed ones.
func (f *Fold) activate(b *bucket) {
	p := passed{second: b.second}
	if n := len(f.spare); n > 0 {
		p.waiting, f.spare = f.spare[n-1], f.spare[:n-1]
	}
	for _, v := range b.seen {
		x := f.visitors.at(v)
		x.open--
		b.forget(v, x)
		if x.last == 0 {
			f.sites.at(x.site).active++
			p.waiting = append(p.waiting, v)
		}
		x.last = uint32(b.second)
	}
	f.passed = append(f.passed, p)
}

// deactivate lets a visitor leave, at the end of second, who waits in the list of the second passed.
func (f *Fold) deactivate(v int32, passed, second int64) {
	x := f.visitors.at(v)
	if int64(x.last) != passed { // seen again since
		p := f.passedAt(int64(x.last))
		p.waiting = append(p.waiting, v)
		return
	}
	x.last = 0
	s := f.sites.at(x.site)
	s.active--
	if s.left != second {
		s.left = second
		f.left = append(f.left, x.site)
	}
	if x.open > 0 {
		return
	}
	s.present--
	f.list(x.site, s)
	for d := range dimensions {
		f.release(&s.list, d, x.holds[d])
	}
	f.visitors.remove(v)
}

// passedAt is a second of the last 300 in which somebody was seen.
func (f *Fold) passedAt(second int64) *passed {
	i, _ := slices.BinarySearchFunc(f.passed, second, func(p passed, second int64) int { return cmp.Compare(p.second, second) })
	return &f.passed[i]
}
