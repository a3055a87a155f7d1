package fold

import "hash/maphash"

// table maps hashes to indexes of a slab: a hash table with open addressing and linear probing. It stores
// hashes instead of keys, so growing and removing never read the slab. Several indexes may share a hash: a
// caller compares the keys of those that first and next return.
type table struct {
	slots []tableSlot // a power of two
	used  int
}

type tableSlot struct {
	hash   uint32
	index1 int32 // index + 1; 0: the slot is free
}

// hashOf differs between processes, so that nobody can choose names that collide. No output depends on it.
func hashOf(name string) uint32 { return uint32(maphash.String(seed, name)) }

var seed = maphash.MakeSeed()

// first returns the first slot with a hash and its index, or absent.
func (t *table) first(hash uint32) (slot int, index int32) {
	if len(t.slots) == 0 {
		return 0, absent
	}
	return t.next(int(hash)-1, hash)
}

// prefetch reads the slot where first starts.
func (t *table) prefetch(hash uint32) uint64 {
	if len(t.slots) == 0 {
		return 0
	}
	return uint64(t.slots[int(hash)&(len(t.slots)-1)].hash)
}

// next returns the next slot with the same hash and its index, or absent.
func (t *table) next(slot int, hash uint32) (int, int32) {
	mask := len(t.slots) - 1
	for {
		slot = (slot + 1) & mask
		if s := t.slots[slot]; s.index1 == 0 || s.hash == hash {
			return slot, s.index1 - 1
		}
	}
}

func (t *table) add(hash uint32, index int32) {
	if 3*(t.used+1) > 2*len(t.slots) {
		old := t.slots
		t.slots, t.used = make([]tableSlot, max(16, 2*len(old))), 0
		for _, s := range old {
			if s.index1 != 0 {
				t.add(s.hash, s.index1-1)
			}
		}
	}
	mask := len(t.slots) - 1
	slot := int(hash) & mask
	for t.slots[slot].index1 != 0 {
		slot = (slot + 1) & mask
	}
	t.slots[slot] = tableSlot{hash, index + 1}
	t.used++
}

func (t *table) clear() {
	clear(t.slots)
	t.used = 0
}

// remove deletes an entry by backward shift: entries behind the hole that would no longer be found move into
// it.
func (t *table) remove(hash uint32, index int32) {
	hole, found := t.first(hash)
	for found != index {
		hole, found = t.next(hole, hash)
	}
	mask := len(t.slots) - 1
	for i := (hole + 1) & mask; t.slots[i].index1 != 0; i = (i + 1) & mask {
		if (i-int(t.slots[i].hash))&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = tableSlot{}
	t.used--
}

// names interns the names of lists: each is kept once, however many sites use it.
type names struct {
	slab  slab[name]
	table table
}

type name struct {
	text string
	hash uint32
	uses int32 // reference count: values of lists
}

func (t *names) text(n int32) string { return t.slab.at(n).text }

// find returns the index of a name, or absent.
func (t *names) find(text string, hash uint32) int32 {
	slot, n := t.table.first(hash)
	for n != absent && t.text(n) != text {
		slot, n = t.table.next(slot, hash)
	}
	return n
}

// release ends a use of a name.
func (t *names) release(n int32) {
	x := t.slab.at(n)
	if x.uses--; x.uses > 0 {
		return
	}
	t.table.remove(x.hash, n)
	t.slab.remove(n)
}
