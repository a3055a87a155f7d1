package fold

import (
	"slices"

	"nowcast/internal/event"
)

// Class is what a reader makes of an event. Each event of the log that isn't in a retried envelope has exactly one.
type Class uint8

// What a reader can make of an event.
const (
	Counted  Class = 1 + iota // in its window
	Late                      // its second was final already: stored, in no window
	Stale                     // its envelope is too old to tell it from a retry: stored, in no window
	Repeated                  // its id was there less than five minutes before: neither stored nor counted
)

// Reader is the first stage, which both lanes share: it decides what of the log is heard, and when a second is over. Its zero value
// is of no use; see NewReader. It is for one goroutine.
type Reader struct {
	rules     Rules
	now       int64
	watermark int64
	nodes     []node // few, and most often one of the first: a list beats a map
	ids       ids
	waiting   []waiting // by second
	waitingN  int

	time  int64 // of the current envelope
	stale bool  // it is

	ahead []id
	seen  uint64 // kept so that the compiler lets it be read
}

type node struct {
	id, sequence uint64
	low          int64 // low watermark; None after a farewell
	seen         int64 // highest timestamp of its records
}

type waiting struct {
	second int64
	events int
}

// NewReader is at the log's start.
func NewReader(rules Rules) *Reader {
	return &Reader{rules: rules, now: None, watermark: None, ids: newIDs(rules.IDs)}
}

// Watermark is the time before which everything is final, in ms, or None.
func (r *Reader) Watermark() int64 { return r.watermark }

// Now is the log's time: the highest timestamp of a record so far, in ms, or None. Every reader of the log sees the same one, so it
// serves where others would look at a clock.
func (r *Reader) Now() int64 { return r.now }

// Begin takes an envelope and its record's timestamp in ms. False: it is a retry of one already read, to be dropped whole. The
// watermark moves first, then what is too old is forgotten, and only then are the events judged.
func (r *Reader) Begin(h event.Header, time int64) bool {
	i := slices.IndexFunc(r.nodes, func(n node) bool { return n.id == h.Node })
	if i >= 0 && h.Sequence <= r.nodes[i].sequence {
		return false
	}
	if i < 0 {
		i = len(r.nodes)
		r.nodes = append(r.nodes, node{id: h.Node, seen: time})
	}
	n := &r.nodes[i]
	n.sequence, n.seen = h.Sequence, max(n.seen, time)
	// Nothing is later than its record: a node that promises more than its own clock says has stepped its clock.
	n.low = min(h.Low, time)
	if h.CloseMarker {
		n.low = None
	}
	// A node may have been forgotten when the watermark is so far past this envelope; then a retry of it looks like news.
	r.time, r.stale = time, r.watermark != None && time <= r.watermark-r.rules.Nodes
	r.now = max(r.now, time)
	r.advance()
	r.forget()
	return true
}

// advance moves the watermark to the lowest promise of the nodes that count. One that is too far behind the log's time doesn't:
// it died, or is cut off, or drains what it had kept. With none that counts the watermark holds. It never falls.
func (r *Reader) advance() {
	least, counts := r.now, false
	for i := range r.nodes {
		if low := r.nodes[i].low; low >= r.now-r.rules.Lag {
			least, counts = min(least, low), true
		}
	}
	if counts {
		r.Raise(least)
	}
}

// Raise moves the watermark to at least w. Only recovery from a log that lost its head needs it from outside.
func (r *Reader) Raise(w int64) {
	if w <= r.watermark {
		return
	}
	r.watermark = w
	over := 0
	for over < len(r.waiting) && (r.waiting[over].second+1)*1000 <= w {
		r.waitingN -= r.waiting[over].events
		over++
	}
	r.waiting = slices.Delete(r.waiting, 0, over)
}

func (r *Reader) forget() {
	if r.watermark == None {
		return
	}
	r.nodes = slices.DeleteFunc(r.nodes, func(n node) bool { return r.watermark >= n.seen+r.rules.Nodes })
	r.ids.forget(r.watermark)
}

// Ahead prepares for judging events of the current envelope. It changes nothing but the time that takes: it looks at places in large tables
// before they are needed. They aren't in the processor's cache, and one after the other, with work in between that waits for each, they
// take many times as long as in a row.
func (r *Reader) Ahead(events []event.Event) {
	ids := r.ahead[:0]
	for i := range events {
		if events[i].HasID {
			ids = append(ids, idOf(&events[i]))
		}
	}
	seen := uint64(0)
	for _, k := range ids {
		t := r.ids.table(k)
		seen += t.slots[t.home(k)].rest
	}
	r.ahead, r.seen = ids, seen
}

// Judge says what an event of the current envelope is. It clamps the event's time to its record's.
func (r *Reader) Judge(e *event.Event) Class {
	e.Time = max(0, min(e.Time, r.time))
	second := e.Time / 1000
	class := Counted
	switch {
	case r.stale:
		class = Stale
	case r.watermark != None && (second+1)*1000 <= r.watermark:
		class = Late
	}
	// Every occurrence renews the memory, whatever became of it: else a third one would count again.
	if e.HasID && r.ids.repeated(idOf(e), e.Time, r.watermark) {
		return Repeated
	}
	if class == Counted {
		r.wait(second)
	}
	return class
}

func (r *Reader) wait(second int64) {
	i := len(r.waiting)
	for i > 0 && r.waiting[i-1].second > second {
		i--
	}
	if i == 0 || r.waiting[i-1].second < second {
		r.waiting = slices.Insert(r.waiting, i, waiting{second: second})
		i++
	}
	r.waiting[i-1].events++
	r.waitingN++
}

// End closes the current envelope. When too many events wait, the oldest seconds are called over: a bound on memory that, being
// a function of the log as well, does no harm to anything but lateness.
func (r *Reader) End() {
	for r.waitingN > r.rules.Waiting {
		r.Raise((r.waiting[0].second + 1) * 1000)
	}
	r.forget() // also what came in too old
}
