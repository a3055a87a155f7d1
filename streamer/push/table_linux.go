package push

import (
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/hub"
)

// none is the index of no entry.
const none = -1

// entry is a viewer. It holds no pointer, so that the garbage collector doesn't scan the table of
// 100,000 viewers.
type entry struct {
	sentThrough   int64 // newest final second that the viewer has been sent
	slot          Slot
	fd            int32 // none: the entry is free
	generation    int32 // distinguishes the events of this viewer from those of the former one
	group         int32
	next, prev    int32 // the neighbours in the group's list
	authorization int64
	missed        uint32 // frames not sent since sentThrough
	deadline      uint32 // on the shard's clock
	stalledAt     uint32 // last progress of the write that is pending, on the shard's clock; 0: none is
}

// group is the list of a feed's viewers on one shard.
type group struct {
	feed    *hub.Feed // nil: the group is free
	head, n int32
	sent    rateMetrics
	viewers prometheus.Gauge
}

// table is a slab allocator of viewers and their groups: indices of removed ones are used again.
type table struct {
	entries    []entry
	freeEntry  []int32
	groups     []group
	freeGroup  []int32
	groupIndex map[*hub.Feed]int32
}

// groupOf returns the index of a feed's group; created says that it is a new one, without metrics.
func (t *table) groupOf(f *hub.Feed) (k int32, created bool) {
	if k, ok := t.groupIndex[f]; ok {
		return k, false
	}
	if n := len(t.freeGroup); n > 0 {
		k, t.freeGroup = t.freeGroup[n-1], t.freeGroup[:n-1]
	} else {
		k = int32(len(t.groups)) //nolint:gosec // bounded by the open files
		t.groups = append(t.groups, group{})
	}
	t.groups[k] = group{feed: f, head: none}
	t.groupIndex[f] = k
	return k, true
}

// insert adds a viewer at the head of its group's list. It sets e's generation and neighbours.
func (t *table) insert(e entry) (i int32) {
	if n := len(t.freeEntry); n > 0 {
		i, t.freeEntry = t.freeEntry[n-1], t.freeEntry[:n-1]
	} else {
		i = int32(len(t.entries)) //nolint:gosec // bounded by the open files
		t.entries = append(t.entries, entry{})
	}
	g := &t.groups[e.group]
	e.generation, e.prev, e.next = t.entries[i].generation+1, none, g.head
	if g.head != none {
		t.entries[g.head].prev = i
	}
	g.head = i
	g.n++
	t.entries[i] = e
	return i
}

// remove frees a viewer's entry, and its group with the last viewer. The group's metrics stay readable
// until the group is used again.
func (t *table) remove(i int32) {
	e := &t.entries[i]
	g := &t.groups[e.group]
	if e.next != none {
		t.entries[e.next].prev = e.prev
	}
	if e.prev != none {
		t.entries[e.prev].next = e.next
	} else {
		g.head = e.next
	}
	if g.n--; g.n == 0 {
		delete(t.groupIndex, g.feed)
		g.feed = nil
		t.freeGroup = append(t.freeGroup, e.group)
	}
	e.fd = none
	t.freeEntry = append(t.freeEntry, i)
}
