// Package board keeps, for each site, the last minutes of nowcast.windows.v1 summed over its partitions:
// the counts of every second, and the active visitors with their pages, sources, countries and devices.
//
// A final second never changes: the watermarks of all partitions have passed it, or those of all that
// aren't missing; see maxBehindSeconds. Rows may arrive twice or out of order, since the highest version of
// a row counts. The board's clock is that of the log: while the whole log stands still, the board does too.
package board

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"nowcast/internal/window"
)

const (
	// SnapshotSeconds is the number of final seconds that a viewer sees.
	SnapshotSeconds = 300

	// RetainedSeconds is the number of final seconds that the board holds at least. It is larger than
	// SnapshotSeconds, so that a caller finds the seconds of a LastFinal that it read some seconds ago.
	RetainedSeconds = SnapshotSeconds + 20

	// evictedSeconds is the age, in final seconds, at which the board drops a second and ignores its
	// rows.
	evictedSeconds = SnapshotSeconds + 30

	// sweepSeconds is the time between two evictions.
	sweepSeconds = 10
)

// Second is a second of a site, summed over all partitions.
type Second struct {
	At                                    int64 // unix seconds
	Pageviews, Visitors, Events, Revision uint32
	Final                                 bool
	Incomplete                            bool // without the events of a partition that is missing
}

// Lists count a site's active visitors by page, source, country and device. Each list is ordered by
// visitors, most first, then by name. The Rest fields count those of values that a partition left out of
// its list.
type Lists struct {
	Pages, Sources, Countries, Devices                 []window.Count
	RestPages, RestSources, RestCountries, RestDevices uint32
}

// Board is safe for concurrent use.
type Board struct {
	now  func() time.Time
	wake chan struct{}

	mu                sync.RWMutex
	partitions        []partition
	sites             map[string]*Site
	lastFinal         int64 // newest final second, unix; 0: none yet
	firstPassed       int64 // newest second that the first emission passed; -1: none yet
	logTime           int64 // ms
	cut               Cut   // all that were noted, in one
	incompleteSeconds uint64
	hasAbsent         bool    // a second on the board is incomplete
	changed           []*Site // watched sites that changed since the last TakeChanges
}

// partition is how far the board has read a partition.
type partition struct {
	watermark  int64              // ms
	lastPassed int64              // newest second that the watermark has passed
	advances   []watermarkAdvance // by lastPassed

	missing     bool
	behindSince time.Time // zero: it isn't behind, or is missing
	absent      []span    // seconds that became final without it, in order
	otherEpoch  int64     // of its newest emission, when that is another than window.Epoch; else -1
}

// watermarkAdvance is an emission by which a partition's watermark passed further seconds, up to
// lastPassed.
type watermarkAdvance struct{ lastPassed, logTime, offset int64 }

// Site is the state of one site.
type Site struct {
	board   *Board
	name    string
	seconds []secondRows          // by time
	active  []timeline[activeRow] // by partition
	lists   []timeline[*listsRow] // by partition
	watches int
	changed bool // it is in board.changed
}

// secondRows are the rows of one second, at most one for each partition.
type secondRows struct {
	at   int64
	rows []row
}

type row struct {
	partition                             int
	version                               uint64
	pageviews, visitors, events, revision uint32
}

// activeRow is the number of active visitors by a partition's newest row.
type activeRow struct {
	at      int64
	version uint64
	n       uint32
}

// listsRow are the lists by a partition's newest row. They never change.
type listsRow struct {
	at      int64
	version uint64
	lists   Lists
}

// New makes a board of a topic with that many partitions.
func New(partitions int) *Board {
	b := &Board{
		now: time.Now, wake: make(chan struct{}, 1),
		partitions: make([]partition, partitions), sites: map[string]*Site{}, firstPassed: -1,
	}
	for i := range b.partitions {
		b.partitions[i].lastPassed, b.partitions[i].otherEpoch = -1, -1
	}
	return b
}

// SetClock replaces the clock by which a partition is missing, time.Now. Call it before any Apply.
func (b *Board) SetClock(now func() time.Time) { b.now = now }

// Apply adds one emission of a partition, from the record with an offset. It ignores emissions of
// another epoch, of which Faults tells, and of a partition that the board doesn't have. It copies the
// strings that it keeps, so e may alias the record.
func (b *Board) Apply(partition int, offset int64, e *window.Emission) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if partition < 0 || partition >= len(b.partitions) || !b.partitions[partition].noteEpoch(e) {
		return
	}
	for i := range e.Seconds {
		b.applySecond(partition, &e.Seconds[i])
	}
	for i := range e.Nows {
		b.applyLists(partition, &e.Nows[i])
	}
	b.logTime = max(b.logTime, e.Now)
	if p := &b.partitions[partition]; e.Watermark > p.watermark {
		p.watermark = e.Watermark
		if passed := e.Watermark/1000 - 1; passed > p.lastPassed {
			if b.firstPassed < 0 {
				b.firstPassed = passed
			}
			p.advance(watermarkAdvance{passed, e.Now, offset}, b.lastFinal-SnapshotSeconds-hubLagSeconds)
			b.finalize()
		}
	}
	if len(b.changed) > 0 {
		b.notify()
	}
}

// Cut is a span in which the log has lost records, with a loss of power. Its seconds may lack events.
type Cut struct {
	After int64 // the first second that may lack some, unix
	At    int64 // the second at which the log goes on, unix; 0: there is no cut
}

// cutLag is how long before the newest record that is left an event may have come that is lost, in seconds:
// the embedded broker syncs each topic once a second, and windows are emitted every second.
const cutLag = 2

// Cut notes that the log has lost records and goes on at a time; after is the time of the newest record that
// is left, 0 if none is. Both are in ms. Seconds before the cut may have been shown with other numbers than
// the board has.
func (b *Board) Cut(after, at int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := at/1000 - cutLag
	if after > 0 {
		from = after/1000 - cutLag
	}
	if b.cut.At == 0 || from < b.cut.After {
		b.cut.After = from
	}
	b.cut.At = max(b.cut.At, at/1000)
}

// CutSince returns the cut that reaches into the seconds from since on; the zero Cut if none does.
func (b *Board) CutSince(since int64) Cut {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.cut.At < since {
		return Cut{}
	}
	return b.cut
}

// CutAfter reports whether the log has lost records since a second, so that the board may have other numbers
// for it than were shown.
func (b *Board) CutAfter(second int64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.cut.At >= second && b.cut.At > 0
}

// advance records that an emission passed seconds, and drops the advances that are not needed for any
// second after oldest.
func (p *partition) advance(a watermarkAdvance, oldest int64) {
	p.lastPassed = a.lastPassed
	drop := 0
	for drop < len(p.advances) &&
		(p.advances[drop].lastPassed < oldest || len(p.advances)-drop >= 2*SnapshotSeconds) {
		drop++
	}
	p.advances = append(append(p.advances[:0], p.advances[drop:]...), a)
}

// advancePast returns the emission by which the watermark passed a second; ok is false when it hasn't.
// In place of an emission that was dropped it returns the oldest one that is kept.
func (p *partition) advancePast(second int64) (a watermarkAdvance, ok bool) {
	i, _ := slices.BinarySearchFunc(p.advances, second, func(a watermarkAdvance, at int64) int {
		return cmp.Compare(a.lastPassed, at)
	})
	if i == len(p.advances) {
		return watermarkAdvance{}, false
	}
	return p.advances[i], true
}

// notify makes Changed ready.
func (b *Board) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// site returns a site, which it makes when the board doesn't have it.
func (b *Board) site(name string) *Site {
	s, ok := b.sites[name]
	if !ok {
		n := len(b.partitions)
		name = strings.Clone(name)
		s = &Site{
			board: b, name: name,
			active: make([]timeline[activeRow], n), lists: make([]timeline[*listsRow], n),
		}
		b.sites[name] = s
	}
	return s
}

func (b *Board) applySecond(partition int, r *window.Second) {
	if r.At <= b.lastFinal-evictedSeconds {
		return
	}
	s := b.site(r.Site)
	if a := s.active[partition].latest(); r.At > a.at || r.At == a.at && r.Version > a.version {
		if a.n != r.Active {
			s.markChanged()
		}
		newest := activeRow{r.At, r.Version, r.Active}
		s.active[partition].set(b.partitions[partition].lastPassed, s.oldest(), newest)
	}
	if r.Events == 0 {
		return // the row has only the number of active visitors
	}
	s.applyRow(r.At, row{partition, r.Version, r.Pageviews, r.Visitors, r.Events, r.Revision})
}

// applyRow adds a row to its second, where it replaces the partition's row of a lower version.
func (s *Site) applyRow(at int64, r row) {
	i, ok := s.search(at)
	if !ok {
		s.seconds = slices.Insert(s.seconds, i, secondRows{at: at})
	}
	second := &s.seconds[i]
	for k := range second.rows {
		if old := &second.rows[k]; old.partition == r.partition {
			if r.version > old.version {
				*old = r
				s.markChanged()
			}
			return
		}
	}
	second.rows = append(second.rows, r)
	s.markChanged()
}

// search returns the index of a second, or where it belongs.
func (s *Site) search(at int64) (i int, ok bool) {
	return slices.BinarySearchFunc(s.seconds, at, func(x secondRows, at int64) int {
		return cmp.Compare(x.at, at)
	})
}

func (b *Board) applyLists(partition int, n *window.Now) {
	s := b.site(n.Site)
	if l := s.lists[partition].latest(); l != nil && (n.At < l.at || n.At == l.at && n.Version <= l.version) {
		return
	}
	s.lists[partition].set(b.partitions[partition].lastPassed, s.oldest(), &listsRow{n.At, n.Version, Lists{
		clone(n.Pages), clone(n.Sources), clone(n.Countries), clone(n.Devices),
		n.RestPages, n.RestSources, n.RestCountries, n.RestDevices,
	}})
	s.markChanged()
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
	if s.watches == 0 {
		return s.board.lastFinal - unwatchedLagSeconds
	}
	return s.board.lastFinal - hubLagSeconds
}

// markChanged puts a watched site among those of the next TakeChanges.
func (s *Site) markChanged() {
	if s.watches > 0 && !s.changed {
		s.changed = true
		s.board.changed = append(s.board.changed, s)
	}
}

// finalize makes the seconds final that the watermarks of all partitions but the missing ones have passed.
func (b *Board) finalize() {
	final := b.newestPassed()
	b.updateMissing(final)
	for i := range b.partitions {
		if p := &b.partitions[i]; !p.missing {
			final = min(final, p.lastPassed)
		}
	}
	if final <= b.lastFinal {
		return
	}
	b.recordMissing(final)
	sweep := final/sweepSeconds > b.lastFinal/sweepSeconds
	b.lastFinal = final
	b.notify()
	if sweep {
		b.sweep()
	}
}

// sweep drops old seconds, and sites without seconds, active visitors and watches.
func (b *Board) sweep() {
	for name, s := range b.sites {
		i := 0
		for i < len(s.seconds) && s.seconds[i].at <= b.lastFinal-evictedSeconds {
			i++
		}
		s.seconds = slices.Delete(s.seconds, 0, i)
		if len(s.seconds) == 0 && s.watches == 0 && s.isEmpty() {
			delete(b.sites, name)
		}
	}
}

// activeVisitors sums the newest rows of all partitions that aren't missing.
func (s *Site) activeVisitors() (n uint32) {
	for i := range s.active {
		if !s.board.partitions[i].missing {
			n += s.active[i].latest().n
		}
	}
	return n
}

// isEmpty reports whether no partition has active visitors, not even one that is missing: when it comes
// back it tells only of changes.
func (s *Site) isEmpty() bool {
	for i := range s.active {
		if s.active[i].latest().n > 0 {
			return false
		}
	}
	return true
}

// sum adds up the rows of a second. Once it is final, the rows of partitions that were missing don't count.
func (b *Board) sum(x *secondRows) Second {
	out := Second{At: x.at, Final: x.at <= b.lastFinal}
	if b.hasAbsent {
		out.Incomplete = slices.ContainsFunc(b.partitions, func(p partition) bool {
			return p.absentAt(x.at) || p.missing && !out.Final
		})
	}
	for _, r := range x.rows {
		if b.hasAbsent && b.partitions[r.partition].absentAt(x.at) {
			continue
		}
		out.Pageviews += r.pageviews
		out.Visitors += r.visitors
		out.Events += r.events
		out.Revision += r.revision
	}
	return out
}
