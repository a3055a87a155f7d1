package fold

import (
	"slices"
	"strings"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// Fold is the second stage of the windows lane: it counts events in the seconds of their sites.
//
// Each open second (one that the watermark hasn't passed) has a bucket: a row for each site, and the set of visitors seen in it. Nothing
// in them depends on the order of events, so the events themselves aren't kept. When the watermark passes the second, its visitors
// become the last seen, those whom 300 seconds haven't seen leave, and its rows are final.
//
// A visitor is present on a site when active (seen in one of the last 300 final seconds) or seen in an open second. Provisional rows
// and the lists of now count those present, so that somebody new is there at once; final rows count the active ones.
//
// It is for one goroutine.
type Fold struct {
	rules Rules

	sites     slab[site]
	siteOf    map[string]int32
	visitors  slab[visitor]
	visitorOf map[visitorKey]int32
	values    slab[value]

	oldest, newest int32     // ends of the list of active visitors, in order of the second they were last seen in
	open           []*bucket // by second
	free           []*bucket
	left           []int32 // sites that lost an active visitor in the second being finished

	envelope int64     // how many there were: what is marked with it was changed by the current one
	moved    []*bucket // with rows that the current envelope changed
	changes  Changes
	given    Changes
}

// Changes are what one envelope did.
type Changes struct {
	// Seconds are rows as they are from now on: the final ones by time, then the provisional ones.
	Seconds []window.Second
	// Nows are the sites whose lists are news; see Lists.
	Nows []string
}

type bucket struct {
	second int64
	rows   []row
	rowOf  map[int32]int32    // by site
	seen   map[int32]struct{} // visitors
	order  []int32            // the same, in the order of the log
	moved  []int32            // rows that the current envelope changed
}

type row struct {
	site                        int32
	pageviews, visitors, events uint32
	envelope                    int64
}

type site struct {
	name            string
	active, present uint32 // visitors; with nobody present the site is forgotten
	values          [dimensions]map[string]int32
	listed          int64 // log time at which its lists were last news
	envelope        int64
	left            int64 // newest second in which it lost somebody
}

type visitorKey struct {
	id   uint64
	site int32
}

type visitor struct {
	key          visitorKey
	former       uint64 // its id of the day before, 0 if that isn't known
	open         int32  // open seconds in which it was seen
	older, newer int32  // its neighbours among the active
	last         int64  // newest final second in which it was seen, None when not active
	time         int64  // of its latest event, ms
	sourceTime   int64  // of its latest event that had a source, ms
	holds        [dimensions]int32
}

const nobody = int32(-1)

// New is at the log's start.
func New(rules Rules) *Fold {
	return &Fold{rules: rules, siteOf: map[string]int32{}, visitorOf: map[visitorKey]int32{}, oldest: nobody, newest: nobody, envelope: 1}
}

// Advance makes final every second that ends at or before the watermark; offset is that of the envelope which moved it. Also a second
// without events has a row for a site that lost active visitors in it; else seconds without events are skipped, not walked through.
func (f *Fold) Advance(watermark, offset int64) {
	const never = 1 << 62
	for {
		next := int64(never)
		if len(f.open) > 0 {
			next = f.open[0].second
		}
		if f.oldest != nobody {
			next = min(next, f.visitors.at(f.oldest).last+f.rules.Active)
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
		for _, v := range b.order {
			f.activate(v, second)
		}
	}
	for f.oldest != nobody && f.visitors.at(f.oldest).last <= second-f.rules.Active {
		f.deactivate(f.oldest, second)
	}
	if b != nil {
		for i := range b.rows {
			f.final(second, version, &b.rows[i])
		}
	}
	for _, s := range f.left {
		has := false
		if b != nil {
			_, has = b.rowOf[s]
		}
		if !has {
			f.final(second, version, &row{site: s})
		}
		if f.sites.at(s).present == 0 {
			delete(f.siteOf, f.sites.at(s).name)
			f.sites.remove(s)
		}
	}
	f.left = f.left[:0]
	if b != nil {
		f.recycle(b)
	}
}

func (f *Fold) final(second int64, version uint64, r *row) {
	s := f.sites.at(r.site)
	f.changes.Seconds = append(f.changes.Seconds, window.Second{Site: s.name, At: second, Pageviews: r.pageviews, Visitors: r.visitors,
		Events: r.events, Active: s.active, Final: true, Revision: r.events + 1, Version: version})
}

// Add counts an event that the reader has judged Counted.
func (f *Fold) Add(e *event.Event) {
	if e.Kind == event.Engagement {
		return
	}
	v := f.visitor(e)
	b := f.bucket(e.Time / 1000)
	r := b.row(f.visitors.at(v).key.site)
	if e.Kind == event.Pageview {
		r.pageviews++
	}
	r.events++
	if _, seen := b.seen[v]; !seen {
		b.seen[v] = struct{}{}
		b.order = append(b.order, v)
		r.visitors++
		f.visitors.at(v).open++
	}
	f.place(v, e)
	if r.envelope != f.envelope {
		r.envelope = f.envelope
		if len(b.moved) == 0 {
			f.moved = append(f.moved, b)
		}
		b.moved = append(b.moved, b.rowOf[r.site])
	}
}

// End closes an envelope, with its offset and the log's time, and gives what it changed, valid until the next End. A provisional row is
// fixed here and nowhere else: another envelope may change how many are present without touching it, so only its own last envelope
// can say what it holds.
func (f *Fold) End(offset, now int64) Changes {
	version := window.RowVersion(window.Epoch, false, offset)
	for _, b := range f.moved {
		for _, i := range b.moved {
			r := &b.rows[i]
			s := f.sites.at(r.site)
			f.changes.Seconds = append(f.changes.Seconds, window.Second{Site: s.name, At: b.second, Pageviews: r.pageviews,
				Visitors: r.visitors, Events: r.events, Active: s.present, Revision: r.events, Version: version})
			if now-s.listed >= f.rules.Refresh {
				f.list(s)
			}
		}
		b.moved = b.moved[:0]
	}
	for _, name := range f.changes.Nows {
		if i, known := f.siteOf[name]; known {
			f.sites.at(i).listed = now
		}
	}
	f.moved = f.moved[:0]
	f.envelope++
	f.given, f.changes = f.changes, Changes{f.given.Seconds[:0], f.given.Nows[:0]}
	return f.given
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
	b := &bucket{rowOf: map[int32]int32{}, seen: map[int32]struct{}{}}
	if n := len(f.free); n > 0 {
		b, f.free = f.free[n-1], f.free[:n-1]
	}
	b.second = second
	f.open = slices.Insert(f.open, i, b)
	return b
}

func (f *Fold) recycle(b *bucket) {
	// Clearing a map costs as much as it ever held, so one of a rush isn't kept.
	if len(b.order) > 1<<16 || len(f.free) > 16 {
		return
	}
	clear(b.rowOf)
	clear(b.seen)
	b.rows, b.order, b.moved = b.rows[:0], b.order[:0], b.moved[:0]
	f.free = append(f.free, b)
}

func (b *bucket) row(site int32) *row {
	i, has := b.rowOf[site]
	if !has {
		i = int32(len(b.rows))
		b.rowOf[site] = i
		b.rows = append(b.rows, row{site: site})
	}
	return &b.rows[i]
}

// visitor finds whom an event is of, or makes them present.
func (f *Fold) visitor(e *event.Event) int32 {
	s, known := f.siteOf[e.Site]
	if !known {
		name := strings.Clone(e.Site)
		s = f.sites.add(site{name: name, listed: None, left: None})
		f.siteOf[name] = s
	}
	key := visitorKey{e.Visitor, s}
	v, known := f.find(key, e.PreviousVisitor)
	if known {
		return v
	}
	v = f.visitors.add(visitor{key: key, last: None, time: None, sourceTime: None, holds: holdsNothing})
	f.visitorOf[key] = v
	f.know(v, e.PreviousVisitor)
	f.sites.at(s).present++
	return v
}

// find also bridges midnight UTC, when every visitor's id changes: in the first minutes of a day an event carries the id of the day
// before as well. Whoever is known by either is one visitor, known by both from then on: nodes cross midnight at slightly different
// moments, so an event with the old id may follow one with the new.
func (f *Fold) find(key visitorKey, former uint64) (int32, bool) {
	v, known := f.visitorOf[key]
	if former == 0 || former == key.id {
		return v, known
	}
	if known {
		f.know(v, former)
		return v, true
	}
	if v, known = f.visitorOf[visitorKey{former, key.site}]; !known {
		return 0, false
	}
	x := f.visitors.at(v)
	if x.key.id != former { // two new ids of one former: the latest holds
		delete(f.visitorOf, x.key)
	} else if x.former != 0 {
		delete(f.visitorOf, visitorKey{x.former, key.site})
	}
	x.key, x.former = key, former
	f.visitorOf[key] = v
	return v, true
}

// know lets v be found by its former id as well.
func (f *Fold) know(v int32, former uint64) {
	x := f.visitors.at(v)
	if former == 0 || former == x.key.id || x.former != 0 {
		return
	}
	key := visitorKey{former, x.key.site}
	if _, taken := f.visitorOf[key]; !taken {
		f.visitorOf[key] = v
		x.former = former
	}
}

// activate makes a visitor the one last seen.
func (f *Fold) activate(v int32, second int64) {
	x := f.visitors.at(v)
	x.open--
	if x.last == None {
		f.sites.at(x.key.site).active++
	} else {
		f.unlink(x)
	}
	x.last, x.older, x.newer = second, f.newest, nobody
	if f.newest == nobody {
		f.oldest = v
	} else {
		f.visitors.at(f.newest).newer = v
	}
	f.newest = v
}

func (f *Fold) deactivate(v int32, second int64) {
	x := f.visitors.at(v)
	f.unlink(x)
	x.last = None
	s := f.sites.at(x.key.site)
	s.active--
	if s.left != second {
		s.left = second
		f.left = append(f.left, x.key.site)
	}
	if x.open > 0 {
		return
	}
	s.present--
	f.list(s)
	for d := range dimensions {
		f.release(s, d, x.holds[d])
	}
	delete(f.visitorOf, x.key)
	if x.former != 0 {
		delete(f.visitorOf, visitorKey{x.former, x.key.site})
	}
	f.visitors.remove(v)
}

func (f *Fold) unlink(x *visitor) {
	if x.older == nobody {
		f.oldest = x.newer
	} else {
		f.visitors.at(x.older).newer = x.newer
	}
	if x.newer == nobody {
		f.newest = x.older
	} else {
		f.visitors.at(x.newer).older = x.older
	}
}
