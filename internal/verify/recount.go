package verify

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/event"
)

// The protocol's constants, written down independently of fold.Rules.
const (
	maxNodeLag    = 10_000    // a node further behind the log's time doesn't hold the watermark, ms
	nodeMemory    = 660_000   // a node is remembered for this much of watermark, ms
	idMemory      = 300_000   // an id is remembered for this much of watermark, ms
	active        = 300       // a visitor is active for, s
	maxOpenEvents = 4_194_304 // in seconds that aren't final
	never         = -1 << 62  // earlier than every time
)

// recount counts one partition's log from the list of its events.
type recount struct {
	cfg       *Config
	partition int

	nodes       map[uint64]*node
	ids         map[clientID]int64 // newest use
	prunedAt    int64              // watermark
	openSeconds map[int64]int      // events by second that isn't final
	openEvents  int
	logTime     int64 // the log's time, ms
	watermark   int64
	finals      []final // rises of the watermark

	erased       *erasure.Set
	masked       bool // an event of the span is erased
	optional     map[rowKey]optionalRow
	sites        []string
	siteOf       map[string]int32
	counted      []counted
	previousIDs  map[visitorKey]uint64 // a visitor's id of the day before
	storedEvents []storedEvent

	ledger      map[minuteKey]*outcomes
	ledgerEnd   int64 // offset after the last envelope in the ledger
	lostThrough int64 // minutes up to this one may have been in deleted records

	decoder event.Decoder
}

type node struct {
	low, last int64
	sequence  uint64
}

type clientID struct {
	site int32
	id   [16]byte
}

type final struct{ watermark, offset int64 }

type visitorKey struct {
	visitor uint64
	site    int32
}

// counted is an event of a window.
type counted struct {
	second   int64
	visitor  uint64
	site     int32
	pageview bool
	erased   bool
}

// storedEvent is an event that belongs into the table `events`.
type storedEvent struct {
	offset  int64
	index   uint16
	rows    uint8 // found in the table
	site    int32
	erased  bool   // it is in no table, once the erasure has ended
	done    bool   // the erasure has ended
	time    int64  // ms
	content uint64 // hash of all columns
	undated bool   // the event has no day
	key     uint64 // hash of the row's key
}

type class uint8

const (
	inWindow class = iota
	late
	stale
	duplicate
)

func newRecount(c Config, partition int) *recount {
	return &recount{cfg: &c, partition: partition, nodes: map[uint64]*node{}, ids: map[clientID]int64{},
		openSeconds: map[int64]int{}, logTime: never, watermark: never,
		siteOf: map[string]int32{}, previousIDs: map[visitorKey]uint64{}, ledger: map[minuteKey]*outcomes{},
		lostThrough: never}
}

// addEnvelope counts the log's next record.
func (r *recount) addEnvelope(x broker.Record, report *Report) {
	report.Records++
	h, err := r.decoder.Reset(x.Value)
	var events []event.Event
	for err == nil {
		var e event.Event
		if !r.decoder.Next(&e) {
			err = r.decoder.Err()
			break
		}
		events = append(events, e)
	}
	if err != nil {
		report.Unreadable++
		report.note("partition %d, offset %d: the record can't be read (%v), "+
			"it is in no table and in no window; see topic nowcast.dead-letter.v1", r.partition, x.Offset,
			err)
		return
	}
	n := r.nodes[h.Node]
	if n != nil && h.Sequence <= n.sequence {
		report.Retried++
		return
	}
	if n == nil {
		n = &node{last: x.Time}
		r.nodes[h.Node] = n
	}
	n.sequence, n.last, n.low = h.Sequence, max(n.last, x.Time), min(h.Low, x.Time)
	if h.CloseMarker {
		n.low = never
	}
	tooOld := r.watermark != never && x.Time <= r.watermark-nodeMemory
	r.logTime = max(r.logTime, x.Time)
	lowest := int64(never)
	for _, n := range r.nodes {
		if n.low >= r.logTime-maxNodeLag && (lowest == never || n.low < lowest) {
			lowest = n.low
		}
	}
	if lowest != never {
		r.raise(min(lowest, r.logTime), x.Offset)
	}
	r.forget()
	classes := make([]class, len(events))
	for i := range events {
		classes[i] = r.classify(x, h, i, &events[i], tooOld, report)
	}
	r.addToLedger(x, events, classes, r.decoder.Tallies(), report)
	for r.openEvents > maxOpenEvents {
		oldest := int64(1 << 62)
		for s := range r.openSeconds {
			oldest = min(oldest, s)
		}
		r.raise((oldest+1)*1000, x.Offset)
	}
	r.forget()
}

func (r *recount) raise(w, offset int64) {
	if w <= r.watermark {
		return
	}
	r.watermark = w
	r.finals = append(r.finals, final{w, offset})
	for s, n := range r.openSeconds {
		if (s+1)*1000 <= w {
			r.openEvents -= n
			delete(r.openSeconds, s)
		}
	}
}

func (r *recount) forget() {
	if r.watermark == never {
		return
	}
	for id, n := range r.nodes {
		if r.watermark >= n.last+nodeMemory {
			delete(r.nodes, id)
		}
	}
	if r.watermark > r.prunedAt+idMemory/2 { // only to save memory: older ids match no event
		r.prunedAt = r.watermark
		for id, t := range r.ids {
			if t <= r.watermark-idMemory {
				delete(r.ids, id)
			}
		}
	}
}

// isDuplicate reports whether an id was used before, and remembers it.
func (r *recount) isDuplicate(id clientID, at int64) bool {
	last, has := r.ids[id]
	if !has || last <= r.watermark-idMemory {
		r.ids[id] = at
		return false
	}
	r.ids[id] = max(last, at)
	return last > at-idMemory
}

func (r *recount) classify(x broker.Record, h event.Header, i int, e *event.Event, tooOld bool,
	report *Report) class {
	e.Time = max(0, min(e.Time, x.Time))
	second := e.Time / 1000
	site := r.site(e.Site)
	c := inWindow
	switch {
	case tooOld:
		c = stale
	case r.watermark != never && (second+1)*1000 <= r.watermark:
		c = late
	}
	if e.HasID && r.isDuplicate(clientID{site, e.ID}, e.Time) {
		c = duplicate
	}
	if e.HasPreviousID && r.isDuplicate(clientID{site, e.PreviousID}, e.Time) {
		c = duplicate
	}
	if c == inWindow {
		r.openSeconds[second]++
		r.openEvents++
	}
	if !r.cfg.includes(e.Site) || second < r.cfg.From.Unix()-active || second >= r.cfg.To.Unix() {
		return c
	}
	erased := r.erased.Event(e.Site, e.Visitor, e.Time)
	r.masked = r.masked || erased
	if c == inWindow && e.Kind != event.Engagement {
		r.counted = append(r.counted,
			counted{second, e.Visitor, site, e.Kind == event.Pageview, erased})
		if e.PreviousVisitor != 0 && e.PreviousVisitor != e.Visitor {
			r.previousIDs[visitorKey{e.Visitor, site}] = e.PreviousVisitor
		}
	}
	if second < r.cfg.From.Unix() {
		return c
	}
	report.addEvent(c)
	if erased {
		report.Erased++
	}
	if c == late {
		report.addLate(r.partition, x.Offset, h.Node, r.sites[site], e.Time, r.watermark-e.Time)
	}
	if c != duplicate {
		r.storedEvents = append(r.storedEvents, storedEvent{offset: x.Offset, index: uint16(i), site: site,
			erased: erased, done: r.erased.Done(e.Site, e.Visitor, e.Time), time: e.Time,
			content: contentOf(e, c == late, c != stale), key: keyOf(e, h, i),
			undated: e.Day == 0})
	}
	return c
}

func (r *recount) site(name string) int32 {
	i, has := r.siteOf[name]
	if !has {
		name = strings.Clone(name)
		i = int32(len(r.sites))
		r.sites = append(r.sites, name)
		r.siteOf[name] = i
	}
	return i
}

// finalAt returns the offset of the envelope that made a second final, or -1.
func (r *recount) finalAt(second int64) int64 {
	i, _ := slices.BinarySearchFunc(r.finals, (second+1)*1000,
		func(f final, w int64) int { return cmp.Compare(f.watermark, w) })
	if i == len(r.finals) {
		return -1
	}
	return r.finals[i].offset
}

// last returns the offset of the last event that belongs into the table, or -1.
func (r *recount) last() int64 {
	if len(r.storedEvents) == 0 {
		return -1
	}
	return r.storedEvents[len(r.storedEvents)-1].offset
}

type rowKey struct {
	site   string
	second int64
}

// row is the content of a window.
type row struct{ pageviews, visitors, events, active uint32 }

// rows returns the windows of the span: one for each second in which the site had an event or lost an active
// visitor.
func (r *recount) rows() map[rowKey]row {
	for i := range r.counted {
		c := &r.counted[i]
		for range 64 { // a visitor with ids of several days counts by the oldest
			previous, has := r.previousIDs[visitorKey{c.visitor, c.site}]
			if !has {
				break
			}
			c.visitor = previous
		}
	}
	slices.SortFunc(r.counted, func(a, b counted) int {
		return cmp.Or(cmp.Compare(a.site, b.site),
			cmp.Compare(a.second, b.second))
	})
	rows := r.sweepSites(r.counted)
	if r.masked {
		left := slices.Clone(r.counted)
		left = slices.DeleteFunc(left, func(c counted) bool { return c.erased })
		r.addOptional(rows, r.sweepSites(left))
	}
	return rows
}

// optionalRow is the least content of a row that counts erased events: the events may have been erased before
// it was published or after.
type optionalRow struct {
	row
	absent bool // there may be no row
}

// addOptional notes the rows that differ without the erased events.
func (r *recount) addOptional(with, without map[rowKey]row) {
	r.optional = map[rowKey]optionalRow{}
	for k, w := range with {
		if x, has := without[k]; !has || x != w {
			r.optional[k] = optionalRow{x, !has}
		}
	}
}

// allows reports whether a row that isn't the recounted one is explained by an erasure.
func (r *recount) allows(k rowKey, want, got row) bool {
	x, has := r.optional[k]
	between := func(low, n, high uint32) bool { return low <= n && n <= high }
	return has && between(x.pageviews, got.pageviews, want.pageviews) &&
		between(x.visitors, got.visitors, want.visitors) && between(x.events, got.events, want.events) &&
		between(x.active, got.active, want.active)
}

// sweepSites counts events, sorted by site and second, in rows.
func (r *recount) sweepSites(events []counted) map[rowKey]row {
	rows := map[rowKey]row{}
	for rest := events; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].site == rest[0].site {
			n++
		}
		r.sweep(rest[:n], rows)
		rest = rest[n:]
	}
	return rows
}

// sweep moves a span of active seconds over the events of one site, which are sorted.
func (r *recount) sweep(events []counted, rows map[rowKey]row) {
	var seconds []int64
	for _, e := range events {
		seconds = append(seconds, e.second, e.second+active)
	}
	slices.Sort(seconds)
	times := map[uint64]int{} // events in the span, by visitor
	in, out := 0, 0
	for _, s := range slices.Compact(seconds) {
		var w row
		visitors := map[uint64]bool{}
		for ; in < len(events) && events[in].second == s; in++ {
			e := events[in]
			times[e.visitor]++
			visitors[e.visitor] = true
			w.events++
			if e.pageview {
				w.pageviews++
			}
		}
		lost := false
		for ; out < in && events[out].second == s-active; out++ {
			v := events[out].visitor
			if times[v]--; times[v] == 0 {
				delete(times, v)
				lost = true
			}
		}
		w.visitors, w.active = uint32(len(visitors)), uint32(len(times))
		if (w.events > 0 || lost) && s >= r.cfg.From.Unix() && s < r.cfg.To.Unix() {
			rows[rowKey{r.sites[events[0].site], s}] = w
		}
	}
}
