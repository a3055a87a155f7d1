package verify

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// The protocol's constants, ms.
const (
	lag      = 10_000    // a node further behind the log's time doesn't hold the watermark
	nodes    = 660_000   // a node is remembered for, in watermark
	repeats  = 300_000   // an id is remembered for
	active   = 300       // s
	mostOpen = 4_194_304 // events that may wait for their second's end
	never    = -1 << 62
)

// recount is what one partition's log says, counted from the list of its events.
type recount struct {
	cfg       *Config
	partition int

	nodes     map[uint64]*node
	ids       map[clientID]int64 // the newest time of each
	pruned    int64
	open      map[int64]int // events of seconds that aren't final
	opened    int
	now       int64
	watermark int64
	finals    []final // where the watermark rose

	sites   []string
	siteOf  map[string]int32
	counted []counted
	former  map[who]uint64 // a visitor's id of the day before
	stored  []stored
	stale   bool // there are stale events

	ledger    map[minuteKey]*outcomes
	ledgerEnd int64 // offset after the last envelope that is in it
	headless  int64 // minutes up to it may have been in records that are gone

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

type who struct {
	visitor uint64
	site    int32
}

// counted is an event that is in a window.
type counted struct {
	second   int64
	visitor  uint64
	site     int32
	pageview bool
}

// stored is an event that has to be in the table `events`.
type stored struct {
	offset  int64
	index   uint16
	stale   bool
	seen    uint8 // times that it was found there
	site    int32
	time    int64  // ms
	content uint64 // hash of all columns
	key     uint64 // hash of what makes the row the same as another
}

type class uint8

const (
	inWindow class = iota
	late
	stale
	repeated
)

func newRecount(c Config, partition int) *recount {
	return &recount{cfg: &c, partition: partition, nodes: map[uint64]*node{}, ids: map[clientID]int64{}, open: map[int64]int{}, now: never, watermark: never,
		siteOf: map[string]int32{}, former: map[who]uint64{}, ledger: map[minuteKey]*outcomes{}, headless: never}
}

// envelope takes the log's next record.
func (r *recount) envelope(x broker.Record, report *Report) error {
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
		report.note("partition %d, offset %d: the record can't be read (%v), it is in no table and in no window; see topic nowcast.dead-letter.v1", r.partition, x.Offset, err)
		return nil
	}
	n := r.nodes[h.Node]
	if n != nil && h.Sequence <= n.sequence {
		report.Retried++
		return nil
	}
	if n == nil {
		n = &node{last: x.Time}
		r.nodes[h.Node] = n
	}
	n.sequence, n.last, n.low = h.Sequence, max(n.last, x.Time), min(h.Low, x.Time)
	if h.CloseMarker {
		n.low = never
	}
	tooOld := r.watermark != never && x.Time <= r.watermark-nodes
	r.now = max(r.now, x.Time)
	lowest := int64(never)
	for _, n := range r.nodes {
		if n.low >= r.now-lag && (lowest == never || n.low < lowest) {
			lowest = n.low
		}
	}
	if lowest != never {
		r.raise(min(lowest, r.now), x.Offset)
	}
	r.forget()
	classes := make([]class, len(events))
	for i := range events {
		classes[i] = r.event(x, h, i, &events[i], tooOld, report)
	}
	r.tallied(x, events, classes, r.decoder.Tallies(), report)
	for r.opened > mostOpen {
		oldest := int64(1 << 62)
		for s := range r.open {
			oldest = min(oldest, s)
		}
		r.raise((oldest+1)*1000, x.Offset)
	}
	r.forget()
	return nil
}

func (r *recount) raise(w, offset int64) {
	if w <= r.watermark {
		return
	}
	r.watermark = w
	r.finals = append(r.finals, final{w, offset})
	for s, n := range r.open {
		if (s+1)*1000 <= w {
			r.opened -= n
			delete(r.open, s)
		}
	}
}

func (r *recount) forget() {
	if r.watermark == never {
		return
	}
	for id, n := range r.nodes {
		if r.watermark >= n.last+nodes {
			delete(r.nodes, id)
		}
	}
	if r.watermark > r.pruned+repeats/2 { // only to save memory: what is too old is never asked for
		r.pruned = r.watermark
		for id, t := range r.ids {
			if t <= r.watermark-repeats {
				delete(r.ids, id)
			}
		}
	}
}

func (r *recount) event(x broker.Record, h event.Header, i int, e *event.Event, tooOld bool, report *Report) class {
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
	if e.HasID {
		id := clientID{site, e.ID}
		last, known := r.ids[id]
		if known && last > r.watermark-repeats {
			if last > e.Time-repeats {
				c = repeated
			}
			r.ids[id] = max(last, e.Time)
		} else {
			r.ids[id] = e.Time
		}
	}
	if c == inWindow {
		r.open[second]++
		r.opened++
	}
	if !r.cfg.asked(e.Site) || second < r.cfg.From.Unix()-active || second >= r.cfg.To.Unix() {
		return c
	}
	if c == inWindow && e.Kind != event.Engagement {
		r.counted = append(r.counted, counted{second, e.Visitor, site, e.Kind == event.Pageview})
		if e.PreviousVisitor != 0 && e.PreviousVisitor != e.Visitor {
			r.former[who{e.Visitor, site}] = e.PreviousVisitor
		}
	}
	if second < r.cfg.From.Unix() {
		return c
	}
	report.event(c)
	if c == late {
		report.late(r.partition, x.Offset, h.Node, r.sites[site], e.Time, r.watermark-e.Time)
	}
	if c != repeated {
		r.stale = r.stale || c == stale
		r.stored = append(r.stored, stored{offset: x.Offset, index: uint16(i), stale: c == stale, site: site, time: e.Time,
			content: contentOf(e, c == late, c != stale), key: keyOf(e, h, i)})
	}
	return c
}

func (r *recount) site(name string) int32 {
	i, known := r.siteOf[name]
	if !known {
		name = strings.Clone(name)
		i = int32(len(r.sites))
		r.sites = append(r.sites, name)
		r.siteOf[name] = i
	}
	return i
}

// finalAt is the offset of the envelope that made a second final.
func (r *recount) finalAt(second int64) int64 {
	i, _ := slices.BinarySearchFunc(r.finals, (second+1)*1000, func(f final, w int64) int { return cmp.Compare(f.watermark, w) })
	if i == len(r.finals) {
		return -1
	}
	return r.finals[i].offset
}

// last is the offset of the last event that has to be stored.
func (r *recount) last() int64 {
	if len(r.stored) == 0 {
		return -1
	}
	return r.stored[len(r.stored)-1].offset
}

type rowKey struct {
	site   string
	second int64
}

// row is a window.
type row struct{ pageviews, visitors, events, active uint32 }

// rows are the windows of the span, of each second in which the site had an event or lost an active visitor.
func (r *recount) rows() map[rowKey]row {
	for i := range r.counted {
		c := &r.counted[i]
		for range 64 { // whoever is known by two ids is counted by the older one, day by day
			former, known := r.former[who{c.visitor, c.site}]
			if !known {
				break
			}
			c.visitor = former
		}
	}
	slices.SortFunc(r.counted, func(a, b counted) int { return cmp.Or(cmp.Compare(a.site, b.site), cmp.Compare(a.second, b.second)) })
	rows := map[rowKey]row{}
	for rest := r.counted; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].site == rest[0].site {
			n++
		}
		r.sweep(rest[:n], rows)
		rest = rest[n:]
	}
	return rows
}

// sweep moves a window of 300 seconds over the events of one site, which are sorted.
func (r *recount) sweep(events []counted, rows map[rowKey]row) {
	var seconds []int64
	for _, e := range events {
		seconds = append(seconds, e.second, e.second+active)
	}
	slices.Sort(seconds)
	times := map[uint64]int{} // in the window, by visitor
	in, out := 0, 0
	for _, s := range slices.Compact(seconds) {
		var w row
		here := map[uint64]bool{}
		for ; in < len(events) && events[in].second == s; in++ {
			e := events[in]
			times[e.visitor]++
			here[e.visitor] = true
			w.events++
			if e.pageview {
				w.pageviews++
			}
		}
		left := false
		for ; out < in && events[out].second == s-active; out++ {
			v := events[out].visitor
			if times[v]--; times[v] == 0 {
				delete(times, v)
				left = true
			}
		}
		w.visitors, w.active = uint32(len(here)), uint32(len(times))
		if (w.events > 0 || left) && s >= r.cfg.From.Unix() && s < r.cfg.To.Unix() {
			rows[rowKey{r.sites[events[0].site], s}] = w
		}
	}
}
