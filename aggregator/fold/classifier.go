package fold

import (
	"slices"

	"nowcast/internal/event"
)

// Class is the verdict on an event. Each event of the log that isn't in a retried envelope has exactly one.
type Class uint8

// The classes of events.
const (
	Counted   Class = 1 + iota // in its window
	Late                       // its second was final already: stored, in no window
	Stale                      // its envelope is too old to be told from a retry: stored, in no window
	Duplicate                  // its id was used less than Rules.IDMemory before: neither stored nor counted
)

// Classifier is the first stage of both lanes: it drops retried envelopes, moves the watermark and gives each
// event its class. It is for one goroutine.
type Classifier struct {
	rules       Rules
	logTime     int64 // highest timestamp of a record, ms
	watermark   int64
	nodes       []node // few, and the searched one is usually among the first: a list is faster than a map
	ids         ids
	openSeconds []openSecond // ordered by second
	openEvents  int          // of all open seconds

	// The current envelope.
	time  int64 // of its record, ms
	stale bool

	prefetched   []id
	prefetchSink uint64 // stored, so that the compiler keeps the reads of Prefetch
}

type node struct {
	id, sequence uint64
	low          int64 // low watermark that the node promised; None after its close marker
	newest       int64 // highest timestamp of its records
}

type openSecond struct {
	second int64
	events int
}

// NewClassifier returns the state at the start of a log.
func NewClassifier(rules Rules) *Classifier {
	return &Classifier{rules: rules, logTime: None, watermark: None, ids: newIDs(rules.IDMemory)}
}

// Watermark returns the time before which everything is final, in ms, or None.
func (c *Classifier) Watermark() int64 { return c.watermark }

// LogTime returns the highest timestamp of a record so far, in ms, or None. It takes the place of a clock,
// since all readers of a log see the same value.
func (c *Classifier) LogTime() int64 { return c.logTime }

// Begin starts an envelope with its record's timestamp in ms. It returns false for a retry of an envelope
// that was read before, which has to be dropped whole. The watermark moves first, then state that is too old
// is forgotten; the events are classified after both.
func (c *Classifier) Begin(h event.Header, time int64) bool {
	i := slices.IndexFunc(c.nodes, func(n node) bool { return n.id == h.Node })
	if i >= 0 && h.Sequence <= c.nodes[i].sequence {
		return false
	}
	if i < 0 {
		i = len(c.nodes)
		c.nodes = append(c.nodes, node{id: h.Node, newest: time})
	}
	n := &c.nodes[i]
	n.sequence, n.newest = h.Sequence, max(n.newest, time)
	// No event is later than its record: a promise beyond the node's own timestamp comes from a stepped
	// clock.
	n.low = min(h.Low, time)
	if h.CloseMarker {
		n.low = None
	}
	// Once the watermark is so far past an envelope, its node may be forgotten, and a retry would look new.
	c.time, c.stale = time, c.watermark != None && time <= c.watermark-c.rules.NodeMemory
	c.logTime = max(c.logTime, time)
	c.advance()
	c.forget()
	return true
}

// advance moves the watermark to the lowest promise of the nodes that keep up with the log's time. A node
// that lags more than Rules.MaxNodeLag has died, is cut off, or sends its spool. While no node keeps up the
// watermark stands still. It never falls.
func (c *Classifier) advance() {
	lowest, keepsUp := c.logTime, false
	for i := range c.nodes {
		if low := c.nodes[i].low; low >= c.logTime-c.rules.MaxNodeLag {
			lowest, keepsUp = min(lowest, low), true
		}
	}
	if keepsUp {
		c.Raise(lowest)
	}
}

// Raise moves the watermark to at least w. Its only caller outside of the package is the recovery from a log
// that has lost its head.
func (c *Classifier) Raise(w int64) {
	if w <= c.watermark {
		return
	}
	c.watermark = w
	final := 0
	for final < len(c.openSeconds) && (c.openSeconds[final].second+1)*1000 <= w {
		c.openEvents -= c.openSeconds[final].events
		final++
	}
	c.openSeconds = slices.Delete(c.openSeconds, 0, final)
}

func (c *Classifier) forget() {
	if c.watermark == None {
		return
	}
	c.nodes = slices.DeleteFunc(c.nodes,
		func(n node) bool { return c.watermark >= n.newest+c.rules.NodeMemory })
	c.ids.release(c.watermark)
}

// Prefetch reads the places in large tables that Classify needs for the current envelope's events. It changes
// no result. The places aren't in the processor's cache; read in a row, their cache misses overlap.
func (c *Classifier) Prefetch(events []event.Event) {
	ids := c.prefetched[:0]
	for i := range events {
		if events[i].HasID {
			ids = append(ids, idOf(&events[i]))
		}
	}
	sink := uint64(0)
	for _, k := range ids {
		t := c.ids.table(k)
		sink += t.slots[t.home(k)].rest
	}
	c.prefetched, c.prefetchSink = ids, sink
}

// Classify returns the class of an event of the current envelope. It clamps the event's time to its record's.
func (c *Classifier) Classify(e *event.Event) Class {
	e.Time = max(0, min(e.Time, c.time))
	second := e.Time / 1000
	class := Counted
	switch {
	case c.stale:
		class = Stale
	case c.watermark != None && (second+1)*1000 <= c.watermark:
		class = Late
	}
	// Every use of an id renews its memory, whatever its class: otherwise a third use would count again.
	if c.duplicate(e) {
		return Duplicate
	}
	if class == Counted {
		c.addOpen(second)
	}
	return class
}

// duplicate reports whether an event is a duplicate, and remembers its ids: at the begin of a day also the one
// that it had the day before.
func (c *Classifier) duplicate(e *event.Event) bool {
	today := e.HasID && c.ids.duplicate(idOf(e), e.Time, c.watermark)
	yesterday := e.HasPreviousID && c.ids.duplicate(previousIDOf(e), e.Time, c.watermark)
	return today || yesterday
}

func (c *Classifier) addOpen(second int64) {
	i := len(c.openSeconds)
	for i > 0 && c.openSeconds[i-1].second > second {
		i--
	}
	if i == 0 || c.openSeconds[i-1].second < second {
		c.openSeconds = slices.Insert(c.openSeconds, i, openSecond{second: second})
		i++
	}
	c.openSeconds[i-1].events++
	c.openEvents++
}

// End closes the current envelope. While open seconds have more than Rules.MaxOpenEvents events, the
// watermark passes the oldest one. That bounds memory, is a function of the log as well, and only makes more
// events late.
func (c *Classifier) End() {
	for c.openEvents > c.rules.MaxOpenEvents {
		c.Raise((c.openSeconds[0].second + 1) * 1000)
	}
	c.forget() // a record may be too old when it arrives
}
