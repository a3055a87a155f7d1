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
	"math"
	"time"
)

// WarmUp is how much of the log before a position, measured in watermark, rebuilds the state at that
// position.
const WarmUp = 16 * time.Minute

// None is earlier than every time: the watermark of a log that has none yet.
const None = math.MinInt64 / 2

// Rules are the protocol's constants. They are part of what a row means: a change needs a higher
// window.Epoch.
type Rules struct {
	Active        int64 // a visitor is active in the second of an event and the following ones, s in all
	IDMemory      int64 // an id is a duplicate if its last use is less than this before it, ms
	NodeMemory    int64 // a node is forgotten once the watermark is this far past its newest record, ms
	MaxNodeLag    int64 // a node further behind the log's time doesn't hold the watermark, ms
	MaxOpenEvents int   // bound on the events of open seconds
	ListRefresh   int64 // unchanged lists of a site with events are emitted again after this time, ms
}

// StandardRules returns the rules of production. Tests scale them down.
func StandardRules() Rules {
	return Rules{Active: 300, IDMemory: 300_000, NodeMemory: 660_000, MaxNodeLag: 10_000,
		MaxOpenEvents: 4 << 20,
		ListRefresh:   30_000}
}
