package fold

import "hash/maphash"

// table finds places in a slab by hash: open addressing with linear probing. It keeps no keys but their hashes, so it grows and moves up
// without a look at what is in the slab.
type table struct {
	slots []tableSlot // a power of two
	used  int
}

type tableSlot struct {
	hash uint32
	at   int32 // one more than the place; 0: the slot is free
}

// hashOf is another in each process, so that nobody can send names that get into each other's way. Nothing that comes out depends on it.
func hashOf(name string) uint32 { return uint32(maphash.String(seed, name)) }

var seed = maphash.MakeSeed()

// first gives the first slot with a hash, and the place that is there; nobody: there is none.
func (t *table) first(hash uint32) (slot int, at int32) {
	if len(t.slots) == 0 {
		return 0, nobody
	}
	return t.next(int(hash)-1, hash)
}

// touch reads what first would begin with.
func (t *table) touch(hash uint32) uint64 {
	if len(t.slots) == 0 {
		return 0
	}
	return uint64(t.slots[int(hash)&(len(t.slots)-1)].hash)
}

// next gives the next after a slot, with the same hash.
func (t *table) next(slot int, hash uint32) (int, int32) {
	mask := len(t.slots) - 1
	for {
		slot = (slot + 1) & mask
		if s := t.slots[slot]; s.at == 0 || s.hash == hash {
			return slot, s.at - 1
		}
	}
}

func (t *table) add(hash uint32, at int32) {
	if 3*(t.used+1) > 2*len(t.slots) {
		old := t.slots
		t.slots, t.used = make([]tableSlot, max(16, 2*len(old))), 0
		for _, s := range old {
			if s.at != 0 {
				t.add(s.hash, s.at-1)
			}
		}
	}
	mask := len(t.slots) - 1
	slot := int(hash) & mask
	for t.slots[slot].at != 0 {
		slot = (slot + 1) & mask
	}
	t.slots[slot] = tableSlot{hash, at + 1}
	t.used++
}

// clear takes all out.
func (t *table) clear() {
	clear(t.slots)
	t.used = 0
}

// remove takes a place out and moves up what stood behind it only because of it.
func (t *table) remove(hash uint32, at int32) {
	hole, found := t.first(hash)
	for found != at {
		hole, found = t.next(hole, hash)
	}
	mask := len(t.slots) - 1
	for i := (hole + 1) & mask; t.slots[i].at != 0; i = (i + 1) & mask {
		if (i-int(t.slots[i].hash))&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = tableSlot{}
	t.used--
}

// names keeps each name once, however many sites have it in a list.
type names struct {
	slab slab[name]
	of   table
}

type name struct {
	text string
	hash uint32
	uses int32 // values of lists
}

func (t *names) text(n int32) string { return t.slab.at(n).text }

// find gives the place of a name; nobody: it isn't kept.
func (t *names) find(text string, hash uint32) int32 {
	slot, n := t.of.first(hash)
	for n != nobody && t.text(n) != text {
		slot, n = t.of.next(slot, hash)
	}
	return n
}

// release ends a use of a name.
func (t *names) release(n int32) {
	x := t.slab.at(n)
	if x.uses--; x.uses > 0 {
		return
	}
	t.of.remove(x.hash, n)
	t.slab.remove(n)
}
