package fold

// visitor is a provisionally active visitor of a site. It has 64 bytes, one cache line, and no pointer.
type visitor struct {
	id        uint64            // of the day
	mask      uint64            // bit i: seen in the open second base+i
	time      int64             // of the latest event, ms
	values    [dimensions]int32 // names of the lists' values that the visitor counts in; absent: none
	site      int32
	base      uint32 // unix s
	last      uint32 // newest final second in which the visitor was seen, unix s; 0 when not active
	sourceAge uint32 // ms from the latest event that had a source to the latest event
	open      uint32 // number of open seconds in which the visitor was seen
}

// absent is the index of a value that isn't there.
const absent = int32(-1)

// addVisitor reports whether b's second sees a visitor for the first time, and records it. A visitor's mask
// covers 64 open seconds. There are more only while the watermark stands still; the bucket's set covers
// those.
func (b *bucket) addVisitor(v int32, x *visitor) bool {
	if x.mask == 0 {
		x.base = uint32(b.second)
	}
	if i := b.second - int64(x.base); i >= 0 && i < 64 {
		bit := uint64(1) << i
		first := x.mask&bit == 0
		if _, has := b.unmasked[v]; has {
			return false
		}
		x.mask |= bit
		return first
	}
	if _, has := b.unmasked[v]; has {
		return false
	}
	if b.unmasked == nil {
		b.unmasked = map[int32]struct{}{}
	}
	b.unmasked[v] = struct{}{}
	return true
}

// removeVisitor clears what addVisitor recorded, when b's second becomes final.
func (b *bucket) removeVisitor(v int32, x *visitor) {
	if _, has := b.unmasked[v]; has {
		return
	}
	x.mask &^= 1 << (b.second - int64(x.base))
}

// visitors are a slab and a hash table of its indexes, with open addressing and linear probing. The table
// stores no keys, since a caller reads the visitor next anyway.
type visitors struct {
	slab  slab[visitor]
	table []int32 // a power of two long; absent: free
	used  int

	// Aliases are the ids of the day before, mapped both ways. They exist for some minutes after midnight.
	aliases map[visitorKey]int32
	aliasOf map[int32]uint64
}

type visitorKey struct {
	id   uint64
	site int32
}

func newVisitors() visitors {
	t := visitors{aliases: map[visitorKey]int32{}, aliasOf: map[int32]uint64{}}
	t.resize(1 << 10)
	return t
}

func (t *visitors) len() int { return t.used }

func (t *visitors) at(v int32) *visitor { return t.slab.at(v) }

// home returns the slot where probing for a key starts. Ids are keyed hashes already.
func (t *visitors) home(id uint64, site int32) int {
	h := (id ^ uint64(uint32(site))*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return int(h>>32) & (len(t.table) - 1)
}

// search returns the slot of a key, or the free slot where it belongs.
func (t *visitors) search(id uint64, site int32) (slot int, found bool) {
	for slot = t.home(id, site); ; slot = (slot + 1) & (len(t.table) - 1) {
		v := t.table[slot]
		if v == absent {
			return slot, false
		}
		if x := t.slab.at(v); x.id == id && x.site == site {
			return slot, true
		}
	}
}

func (t *visitors) resize(n int) {
	old := t.table
	t.table = make([]int32, n)
	for i := range t.table {
		t.table[i] = absent
	}
	for _, v := range old {
		if v != absent {
			x := t.slab.at(v)
			slot, _ := t.search(x.id, x.site)
			t.table[slot] = v
		}
	}
}

func (t *visitors) insert(v int32, x *visitor) {
	if 8*(t.used+1) > 5*len(t.table) {
		t.resize(2 * len(t.table))
	}
	slot, _ := t.search(x.id, x.site)
	t.table[slot] = v
	t.used++
}

// erase deletes a key from the table by backward shift, as table.remove does.
func (t *visitors) erase(x *visitor) {
	mask := len(t.table) - 1
	hole, found := t.search(x.id, x.site)
	if !found {
		return
	}
	for i := (hole + 1) & mask; t.table[i] != absent; i = (i + 1) & mask {
		y := t.slab.at(t.table[i])
		if (i-t.home(y.id, y.site))&mask >= (i-hole)&mask {
			t.table[hole] = t.table[i]
			hole = i
		}
	}
	t.table[hole] = absent
	t.used--
}

// find returns a visitor, or absent and nil. It bridges the midnight of a site, when the ids of its visitors
// change: in the first minutes of the day an event carries the previous id as well. A visitor found by either
// id is one visitor and has both from then on. Nodes cross midnight at slightly different moments, so an
// event with the old id may follow one with the new id.
func (t *visitors) find(id, previous uint64, site int32) (int32, *visitor) {
	if slot, found := t.search(id, site); found {
		v := t.table[slot]
		x := t.slab.at(v)
		t.addAlias(v, x, previous)
		return v, x
	}
	if len(t.aliases) > 0 {
		if v, found := t.aliases[visitorKey{id, site}]; found {
			x := t.slab.at(v)
			if previous != id {
				t.addAlias(v, x, previous)
			}
			return v, x
		}
	}
	if previous == 0 || previous == id {
		return absent, nil
	}
	v, found := t.aliases[visitorKey{previous, site}] // of two new ids of one previous id, the latest holds
	if !found {
		slot, found := t.search(previous, site)
		if !found {
			return absent, nil
		}
		v = t.table[slot]
		t.removeAlias(v, site)
	}
	x := t.slab.at(v)
	t.erase(x)
	x.id = id
	t.insert(v, x)
	t.aliases[visitorKey{previous, site}], t.aliasOf[v] = v, previous
	return v, x
}

// addAlias makes a visitor findable by a previous id as well, if neither has an alias and the id is free.
func (t *visitors) addAlias(v int32, x *visitor, previous uint64) {
	if previous == 0 || previous == x.id {
		return
	}
	key := visitorKey{previous, x.site}
	if _, taken := t.aliases[key]; taken {
		return
	}
	if _, has := t.aliasOf[v]; has {
		return
	}
	if _, taken := t.search(previous, x.site); !taken {
		t.aliases[key], t.aliasOf[v] = v, previous
	}
}

// removeAlias deletes a visitor's alias. Go's maps never shrink, so empty ones are replaced.
func (t *visitors) removeAlias(v, site int32) {
	if len(t.aliasOf) == 0 {
		return
	}
	previous, has := t.aliasOf[v]
	if !has {
		return
	}
	delete(t.aliases, visitorKey{previous, site})
	delete(t.aliasOf, v)
	if len(t.aliasOf) == 0 {
		t.aliases, t.aliasOf = map[visitorKey]int32{}, map[int32]uint64{}
	}
}

func (t *visitors) add(id, previous uint64, site int32) (int32, *visitor) {
	v := t.slab.add(visitor{id: id, site: site, time: None, sourceAge: noSource, values: noValues})
	x := t.slab.at(v)
	t.insert(v, x)
	t.addAlias(v, x, previous)
	return v, x
}

func (t *visitors) remove(v int32) {
	x := t.slab.at(v)
	t.erase(x)
	t.removeAlias(v, x.site)
	t.slab.remove(v)
}
