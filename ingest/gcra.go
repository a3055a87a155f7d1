package ingest

import (
	"math"
	"sync"
	"time"
)

// gcra is a rate limit in the form of the generic cell rate algorithm (GCRA, virtual scheduling): an
// event takes interval, and the theoretical arrival time of the next event may be at most tolerance ahead
// of the clock. Source: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
type gcra struct {
	interval, tolerance int64 // ns
}

// newGCRA returns the algorithm's form of a limit whose Rate isn't 0.
func newGCRA(l Limit) gcra {
	interval := int64(math.Ceil(float64(time.Second) / l.Rate))
	if l.Burst == 0 {
		return gcra{interval, max(interval, int64(defaultBurst))}
	}
	return gcra{interval, int64(l.Burst * float64(interval))}
}

// A table has room for 65,536 keys in groups of 8, each group with a lock of its own. It takes 1.5 MB.
const (
	gcraGroups   = 1 << 13
	keysPerGroup = 8
)

// gcraTable holds the theoretical arrival time of each key, in a table of fixed size. A time that isn't
// after the clock is the same as none. A new key in a full group evicts the key with the earliest time,
// which is the closest to its full burst. So a key that is far over its rate stays limited, however many
// other keys come, and none is refused for want of room.
type gcraTable struct {
	groups [gcraGroups]gcraGroup
}

type gcraGroup struct {
	mu                 sync.Mutex
	key                [keysPerGroup]uint64
	theoreticalArrival [keysPerGroup]int64 // ns on the clock of the callers
	_                  [56]byte            // pads the group to whole cache lines, against false sharing
}

// take counts n events of a key, all or none. If the limit refuses them it returns how long the key has to
// wait. n is capped at the burst minus one, because the request itself has taken one event already: a
// larger n would be refused for ever.
func (t *gcraTable) take(key uint64, limit gcra, n, now int64) (wait time.Duration, ok bool) {
	cost := limit.interval * min(n, max(1, limit.tolerance/limit.interval-1))
	g := &t.groups[key%gcraGroups]
	g.mu.Lock()
	defer g.mu.Unlock()
	found, earliest := -1, 0
	for i := range g.key {
		if g.key[i] == key {
			found = i
			break
		}
		if g.theoreticalArrival[i] < g.theoreticalArrival[earliest] {
			earliest = i
		}
	}
	arrival := now
	if found >= 0 {
		arrival = max(arrival, g.theoreticalArrival[found])
	} else {
		found = earliest
	}
	if arrival += cost; arrival-now > limit.tolerance {
		return time.Duration(arrival - now - limit.tolerance), false
	}
	g.key[found], g.theoreticalArrival[found] = key, arrival
	return 0, true
}
