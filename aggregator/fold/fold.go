// Package fold turns one partition's log into windows. It is pure: its output is a function of the envelopes
// and their order. It uses no clock, no random number and no map order, so every reader of the same log
// produces the same rows, however the log is cut into batches, and a crash loses nothing that the log doesn't
// have.
//
//	envelope   ─► Classifier.Begin     drops a retried envelope, moves the watermark
//	           ─► Fold.Advance         makes the seconds final that the watermark has passed
//	each event ─► Classifier.Classify  counted, late, stale or duplicate
//	           ─► Fold.Add             counts it in its second, if its class is Counted
//	envelope   ─► Classifier.End       bounds the events of open seconds
//	           ─► Fold.End             returns the rows that became final
//
// Windows are tumbling, one second of event time long. Each carries the active visitors of its site: those
// seen in the last 300 windows. The terms are those of the Dataflow model (Akidau et al., VLDB 2015).
//
// The state after an envelope depends on less than WarmUp of watermark before it: a visitor is active for
// five minutes after an event, the source of that event depends on the five minutes before it, and whether
// that earlier event counted depends on the ids of the five minutes before that. One minute is spare. Reading
// those records again rebuilds the state.
//
// Page views and custom events count as events and make their visitor active; page views also count as page
// views. Engagement events, sent when a visitor leaves a page, count as neither and make nobody active. All
// three kinds are classified alike, since all are stored.
//
// No method fails. Memory is bounded: too many events in open seconds push the watermark on, see
// Rules.MaxOpenEvents.
package fold

import (
	"slices"
	"strings"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// Fold is the second stage of the windows lane: it counts events in the seconds of their sites.
//
// Each open second, one that the watermark hasn't passed, has a bucket: a row a site and the visitors seen in
// it. A bucket doesn't depend on the order of events, so the events themselves aren't kept. When the
// watermark passes the second, its rows become final and its visitors are active for Rules.Active seconds,
// see expire.
//
// A visitor is active if seen in one of the last Rules.Active final seconds, and provisionally active if
// active or seen in an open second. Final rows count active visitors. Provisional rows and lists count
// provisionally active ones, so that a new visitor shows up at once.
//
// Provisional rows and lists stay here until Provisional and Lists emit them. If they change faster than they
// are emitted, only the newest content is emitted. A Fold is for one goroutine.
type Fold struct {
	rules Rules

	sites     slab[site]
	siteTable table // by name
	visitors  visitors
	names     names

	open        []*bucket    // ordered by second
	freeBuckets []*bucket    // for reuse
	expiry      []expiryList // ordered by second
	freeLists   [][]int32    // of expired expiryLists, for reuse
	departed    []int32      // sites that lost an active visitor in the second that is being finished

	envelope       int64     // number of the current one; marks what it has changed
	touchedBuckets []*bucket // with rows that the current envelope changed
	touchedSites   []int32   // whose lists the current envelope changed
	dirtyBuckets   []*bucket // with rows that changed since they were emitted
	dirtySites     []int32   // whose lists changed since they were emitted
	finals         []window.Second

	// The current envelope.
	events       []event.Event
	lookups      []lookup
	prefetchSink uint64 // stored, so that the compiler keeps the reads of Prefetch

	// Buffers of sort and top.
	mergeBuffer []value
	sortKeys    []uint64
}

type site struct {
	name              string
	hash              uint32    // of name
	active            uint32    // visitors
	provisionalActive uint32    // visitors; at 0 the site is forgotten once that is emitted
	rows              [2]rowRef // of the two seconds in which the site was last counted
	dirty             bool      // its lists changed since they were emitted
	values            siteValues
	changedAt         int64 // log time of the newest change of the lists, ms
	changedOffset     int64 // offset of the envelope of that change
	emittedAt         int64 // when the lists were emitted, by the caller's clock
	touchedBy         int64 // newest envelope that changed the lists
	lastDeparture     int64 // newest second in which the site lost an active visitor
}

// New returns the state at the start of a log.
func New(rules Rules) *Fold {
	return &Fold{rules: rules, visitors: newVisitors(), envelope: 1}
}

// Active returns the number of provisionally active visitors on all sites.
func (f *Fold) Active() int { return f.visitors.len() }

// Advance makes every second final that ends at or before the watermark; offset is that of the envelope which
// moved it. A second without events has a row for a site that lost active visitors in it. Other empty seconds
// are skipped without a loop over them.
func (f *Fold) Advance(watermark, offset int64) {
	const never = 1 << 62
	for {
		next := int64(never)
		if len(f.open) > 0 {
			next = f.open[0].second
		}
		if len(f.expiry) > 0 {
			next = min(next, f.expiry[0].second+f.rules.Active)
		}
		if next == never || (next+1)*1000 > watermark {
			return
		}
		f.finish(next, window.RowVersion(window.Epoch, true, offset))
	}
}

// finish makes one second final.
func (f *Fold) finish(second int64, version uint64) {
	var b *bucket
	if len(f.open) > 0 && f.open[0].second == second {
		b = f.open[0]
		f.open = slices.Delete(f.open, 0, 1)
		f.activate(b)
	}
	for len(f.expiry) > 0 && f.expiry[0].second <= second-f.rules.Active {
		list := f.expiry[0]
		for _, v := range list.visitors {
			f.expire(v, list.second, second)
		}
		f.freeLists = append(f.freeLists, list.visitors[:0])
		f.expiry = slices.Delete(f.expiry, 0, 1)
	}
	if b != nil {
		for i := range b.rows {
			f.appendFinal(second, version, &b.rows[i])
		}
	}
	for _, s := range f.departed {
		has := false
		if b != nil {
			_, has = b.find(f.sites.at(s), s)
		}
		if !has {
			f.appendFinal(second, version, &row{site: s})
		}
	}
	f.departed = f.departed[:0]
	if b != nil {
		f.recycle(b)
	}
}

func (f *Fold) appendFinal(second int64, version uint64, r *row) {
	s := f.sites.at(r.site)
	f.finals = append(f.finals, window.Second{Site: s.name, At: second, Pageviews: r.pageviews,
		Visitors: r.visitors,
		Events:   r.events, Active: s.active, Final: true, Revision: r.events + 1, Version: version})
}

// lookup is what Prefetch has found of an event.
type lookup struct {
	hash uint32 // of the site's name
	site int32  // absent: a new site
	slot int32  // where the search for the visitor starts
}

// Prefetch takes the events of an envelope, some of which Add counts. It finds their sites and reads the
// places that Add needs, see Classifier.Prefetch. Each loop reads what the loop before has led to.
func (f *Fold) Prefetch(events []event.Event) {
	lookups, sink := f.lookups[:0], uint64(0)
	for i := range events {
		hash := hashOf(events[i].Site)
		sink += f.siteTable.prefetch(hash)
		lookups = append(lookups, lookup{hash: hash})
	}
	for i := range lookups {
		if _, s := f.siteTable.first(lookups[i].hash); s != absent {
			sink += uint64(f.sites.at(s).hash)
		}
	}
	for i := range lookups {
		l := &lookups[i]
		if l.site = f.findSite(events[i].Site, l.hash); l.site != absent {
			l.slot = int32(f.visitors.home(events[i].Visitor, l.site))
			sink += uint64(f.visitors.table[l.slot])
			if values := f.sites.at(l.site).values.all; len(values) > 0 {
				sink += uint64(values[0].key)
			}
		}
	}
	for _, l := range lookups {
		if l.site != absent {
			if v := f.visitors.table[l.slot]; v != absent {
				sink += f.visitors.at(v).id
			}
		}
	}
	f.events, f.lookups, f.prefetchSink = events, lookups, sink
}

// Add counts the event at an index of those given to Prefetch. The classifier must have classified it
// Counted.
func (f *Fold) Add(i int) {
	e := &f.events[i]
	if e.Kind == event.Engagement {
		return
	}
	at := f.lookups[i].site
	if at == absent {
		at = f.findOrAddSite(e.Site, f.lookups[i].hash)
	}
	s := f.sites.at(at)
	v, x := f.visitors.find(e.Visitor, e.PreviousVisitor, at)
	if x == nil {
		v, x = f.visitors.add(e.Visitor, e.PreviousVisitor, at)
		s.provisionalActive++
	}
	b := f.bucket(e.Time / 1000)
	row := f.row(b, s, at)
	r := &b.rows[row]
	if e.Kind == event.Pageview {
		r.pageviews++
	}
	r.events++
	if b.addVisitor(v, x) {
		b.visitors = append(b.visitors, v)
		r.visitors++
		x.open++
	}
	f.countInLists(at, s, x, e)
	if r.envelope != f.envelope {
		r.envelope = f.envelope
		if len(b.touched) == 0 {
			f.touchedBuckets = append(f.touchedBuckets, b)
		}
		b.touched = append(b.touched, row)
	}
}

// End closes an envelope, with its offset and the log's time in ms. It returns the rows that the envelope
// made final, ordered by time and valid until the next End. It fixes the content of the provisional rows that
// the envelope touched: a later envelope may change the site's active visitors without touching the row, and
// then a version would have two contents.
func (f *Fold) End(offset, logTime int64) []window.Second {
	for _, b := range f.touchedBuckets {
		for _, i := range b.touched {
			r := &b.rows[i]
			s := f.sites.at(r.site)
			r.active, r.offset = s.provisionalActive, offset
			if !r.dirty {
				r.dirty = true
				if len(b.dirty) == 0 {
					f.dirtyBuckets = append(f.dirtyBuckets, b)
				}
				b.dirty = append(b.dirty, i)
			}
			if logTime-s.changedAt >= f.rules.ListRefresh {
				f.touchLists(r.site, s)
			}
		}
		b.touched = b.touched[:0]
	}
	for _, i := range f.touchedSites {
		s := f.sites.at(i)
		s.changedAt, s.changedOffset = logTime, offset
		if !s.dirty {
			s.dirty = true
			f.dirtySites = append(f.dirtySites, i)
		}
	}
	f.touchedBuckets, f.touchedSites = f.touchedBuckets[:0], f.touchedSites[:0]
	f.envelope++
	finals := f.finals
	f.finals = f.finals[:0]
	return finals
}

// Pending reports whether provisional rows or lists have changed since they were emitted.
func (f *Fold) Pending() bool { return len(f.dirtyBuckets)+len(f.dirtySites) > 0 }

// Provisional emits each open row that has changed since it was last emitted. The row is valid only during
// the call.
func (f *Fold) Provisional(emit func(*window.Second)) {
	var s window.Second
	for _, b := range f.dirtyBuckets {
		for _, i := range b.dirty {
			r := &b.rows[i]
			r.dirty = false
			s = window.Second{Site: f.sites.at(r.site).name, At: b.second, Pageviews: r.pageviews,
				Visitors: r.visitors,
				Events:   r.events, Active: r.active, Revision: r.events,
				Version: window.RowVersion(window.Epoch, false, r.offset)}
			emit(&s)
		}
		b.dirty = b.dirty[:0]
	}
	f.dirtyBuckets = f.dirtyBuckets[:0]
}

// findSite returns the index of a site, or absent.
func (f *Fold) findSite(name string, hash uint32) int32 {
	slot, i := f.siteTable.first(hash)
	for i != absent && f.sites.at(i).name != name {
		slot, i = f.siteTable.next(slot, hash)
	}
	return i
}

func (f *Fold) findOrAddSite(name string, hash uint32) int32 {
	i := f.findSite(name, hash)
	if i == absent {
		i = f.sites.add(site{name: strings.Clone(name), hash: hash, rows: noRows,
			changedAt: None, emittedAt: None, lastDeparture: None})
		f.siteTable.add(hash, i)
	}
	return i
}
