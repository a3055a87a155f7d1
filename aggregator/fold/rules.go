// Package fold turns one partition's log into windows. It is pure: what comes out is a function of the envelopes that went in, in their
// order, and of nothing else — no clock, no random number, no order of a map. So whoever reads the same log, at any time and cut into
// any batches, gets the same rows, and after a crash nothing needs to be restored but the log itself.
//
//	envelope ─► Reader.Begin   drops a retried envelope, moves the watermark
//	         ─► Fold.Advance   makes final what the watermark has passed
//	each event ─► Reader.Judge counted, late, stale or a repeat
//	           ─► Fold.Add     counts it in its second, if counted
//	         ─► Reader.End     bounds what may wait
//	         ─► Fold.End       gives the rows that changed
//
// The windows are tumbling ones of one second of event time, and for each site the visitors of the last 300 of them. The memory is
// short on purpose: the state after an envelope depends on no more than the sixteen minutes of watermark before it: a visitor is active for
// five after an event, has come from where an event up to five minutes before that one said, and whether that one counted hangs on the
// ids of the five before it; one is to spare. To rebuild the state, read those again (WarmUp).
//
// What counts: a page view counts as page view and event, a custom event as event; both make their visitor active. An engagement
// event, sent on leaving, counts as neither and neither makes nor keeps anybody active. All three are judged by the reader alike, as
// all are stored.
//
// Nothing here fails and nothing is unbounded: events too many to wait push the watermark on, see Rules.Waiting.
package fold

import (
	"math"
	"time"
)

// WarmUp is how much of the log, in watermark before a position, rebuilds the state at that position.
const WarmUp = 16 * time.Minute

// None is the time before any: the watermark of a log that has none yet.
const None = math.MinInt64 / 2

// Rules are the protocol's constants. They are part of what a row means: change one and window.Epoch has to rise.
type Rules struct {
	Active  int64 // a visitor is active in the second of their event and this many seconds in all
	IDs     int64 // an id is a repeat of one less than this before it, ms
	Nodes   int64 // a node is remembered until the watermark is this far past it, ms
	Lag     int64 // a node this far behind the log's time doesn't hold the watermark any more, ms
	Waiting int   // so many events may wait for their second's end
	Refresh int64 // the lists of a site with events are given again after so long without a change, ms
}

// Standard gives the rules that everybody follows. Tests scale them down.
func Standard() Rules {
	return Rules{Active: 300, IDs: 300_000, Nodes: 660_000, Lag: 10_000, Waiting: 4 << 20, Refresh: 30_000}
}
