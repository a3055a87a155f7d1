package fold

// visitor is one who is present on a site, in 64 bytes without a pointer: one line of the processor's cache.
type visitor struct {
	id        uint64            // of the day
	mask      uint64            // bit i: seen in the open second base+i
	time      int64             // of the latest event, ms
	holds     [dimensions]int32 // names
	site      int32
	base      uint32 // unix seconds
	last      uint32 // newest final second in which they were seen, unix seconds; 0 when not active
	sourceAge uint32 // ms from the latest event that had a source to the latest event
	open      uint32 // open seconds in which they were seen
}

const nobody = int32(-1)

// first says whether a visitor is seen in b's second for the first time, and remembers it. A visitor tells so by a mask of 64 open
// seconds; more than that are open only when the watermark stands still, and then the bucket keeps a set.
func (b *bucket) first(v int32, x *visitor) bool {
	if x.mask == 0 {
		x.base = uint32(b.second)
	}
	if i := b.second - int64(x.base); i >= 0 && i < 64 {
		bit := uint64(1) << i
		first := x.mask&bit == 0
		if _, has := b.others[v]; has {
			return false
		}
		x.mask |= bit
		return first
	}
	if _, has := b.others[v]; has {
		return false
	}
	if b.others == nil {
		b.others = map[int32]struct{}{}
	}
	b.others[v] = struct{}{}
	return true
}

// forget clears what first has remembered: b's second is not open any more.
func (b *bucket) forget(v int32, x *visitor) {
	if _, has := b.others[v]; has {
		return
	}
	x.mask &^= 1 << (b.second - int64(x.base))
}

// visitors are those present: a table of places in a slab, by open addressing with linear probing. It keeps no keys, as whoever looks
// something up wants the visitor next.
type visitors struct {
	slab  slab[visitor]
	table []int32 // a power of two long; nobody: free
	used  int

	// Ids of the day before, both ways; empty but for some minutes after midnight.
	former   map[visitorKey]int32
	formerOf map[int32]uint64
}

type visitorKey struct {
	id   uint64
	site int32
}

func newVisitors() visitors {
	t := visitors{former: map[visitorKey]int32{}, formerOf: map[int32]uint64{}}
	t.resize(1 << 10)
	return t
}

func (t *visitors) len() int { return t.used }

func (t *visitors) at(v int32) *visitor { return t.slab.at(v) }

// home is where a key is, or would be if nobody else was there. Ids are keyed hashes already.
func (t *visitors) home(id uint64, site int32) int {
	h := (id ^ uint64(uint32(site))*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return int(h>>32) & (len(t.table) - 1)
}

// search gives the slot of a key, and whether it is there.
func (t *visitors) search(id uint64, site int32) (slot int, known bool) {
	for slot = t.home(id, site); ; slot = (slot + 1) & (len(t.table) - 1) {
		v := t.table[slot]
		if v == nobody {
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
		t.table[i] = nobody
	}
	for _, v := range old {
		if v != nobody {
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

// erase takes a key out of the table and moves up whoever stood behind it only because of it.
func (t *visitors) erase(x *visitor) {
	mask := len(t.table) - 1
	hole, known := t.search(x.id, x.site)
	if !known {
		return
	}
	for i := (hole + 1) & mask; t.table[i] != nobody; i = (i + 1) & mask {
		y := t.slab.at(t.table[i])
		if (i-t.home(y.id, y.site))&mask >= (i-hole)&mask {
			t.table[hole] = t.table[i]
			hole = i
		}
	}
	t.table[hole] = nobody
	t.used--
}

// find also bridges midnight UTC, when every visitor's id changes: in the first minutes of a day an event carries the id of the day
// before as well. Whoever is known by either is one visitor, known by both from then on: nodes cross midnight at slightly different
// moments, so an event with the old id may follow one with the new. The visitor is nil when unknown.
func (t *visitors) find(id, former uint64, site int32) (int32, *visitor) {
	if slot, known := t.search(id, site); known {
		v := t.table[slot]
		x := t.slab.at(v)
		t.know(v, x, former)
		return v, x
	}
	if len(t.former) > 0 {
		if v, known := t.former[visitorKey{id, site}]; known {
			x := t.slab.at(v)
			if former != id {
				t.know(v, x, former)
			}
			return v, x
		}
	}
	if former == 0 || former == id {
		return nobody, nil
	}
	v, known := t.former[visitorKey{former, site}] // two new ids of one former: the latest holds
	if !known {
		slot, known := t.search(former, site)
		if !known {
			return nobody, nil
		}
		v = t.table[slot]
		t.unknow(v, site)
	}
	x := t.slab.at(v)
	t.erase(x)
	x.id = id
	t.insert(v, x)
	t.former[visitorKey{former, site}], t.formerOf[v] = v, former
	return v, x
}

// know lets a visitor be found by a former id as well.
func (t *visitors) know(v int32, x *visitor, former uint64) {
	if former == 0 || former == x.id {
		return
	}
	key := visitorKey{former, x.site}
	if _, taken := t.former[key]; taken {
		return
	}
	if _, has := t.formerOf[v]; has {
		return
	}
	if _, taken := t.search(former, x.site); !taken {
		t.former[key], t.formerOf[v] = v, former
	}
}

// unknow forgets a visitor's former id. Maps never shrink, so empty ones are thrown away.
func (t *visitors) unknow(v, site int32) {
	if len(t.formerOf) == 0 {
		return
	}
	former, has := t.formerOf[v]
	if !has {
		return
	}
	delete(t.former, visitorKey{former, site})
	delete(t.formerOf, v)
	if len(t.formerOf) == 0 {
		t.former, t.formerOf = map[visitorKey]int32{}, map[int32]uint64{}
	}
}

func (t *visitors) add(id, former uint64, site int32) (int32, *visitor) {
	v := t.slab.add(visitor{id: id, site: site, time: None, sourceAge: never, holds: holdsNothing})
	x := t.slab.at(v)
	t.insert(v, x)
	t.know(v, x, former)
	return v, x
}

func (t *visitors) remove(v int32) {
	x := t.slab.at(v)
	t.erase(x)
	t.unknow(v, x.site)
	t.slab.remove(v)
}
