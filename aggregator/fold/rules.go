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
