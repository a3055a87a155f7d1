package fold

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"nowcast/internal/event"
)

// id of an event within its partition. A client's id is one of a site: two sites may share a client. Ingest hashes what the client gave, so
// all bits of it are as good as random.
type id [2]uint64

func idOf(e *event.Event) id {
	return id{binary.LittleEndian.Uint64(e.ID[:]) ^ xxhash.Sum64String(e.Site), binary.LittleEndian.Uint64(e.ID[8:])}
}

// hash says where an id is looked for.
func (k id) hash() uint64 { return k[0] * 0x9e3779b97f4a7c15 }

// ids remembers when each id was last seen, in event time. An id is worth remembering until the watermark is `memory` past it.
//
// They are spread over many small tables. A table that is full drops what isn't worth remembering, or grows, by itself: with all ids in one
// table everything would stand still for that.
type ids struct {
	memory int64
	tables []idTable
	newest int64
	kept   []idSlot // of a table being swept
}

// idTable is by open addressing with linear probing.
type idTable struct {
	slots []idSlot
	used  int
}

// idSlot is an id and when it was last seen, in 16 bytes. Those have room for 86 bits of the id: that is exact as long as no two ids of five
// minutes share them, which of a billion events with ids is to be expected with a chance of one in ten billion.
type idSlot struct {
	id   uint64 // its first half
	rest uint64 // lowest bits: ms since 1970 and 1, so that only a free slot is zero; the others: of the second half
}

const (
	timeBits  = 42 // until 2109
	latest    = 1<<timeBits - 2
	free      = int64(-1) // time of a slot
	tableBits = 10
	fewSlots  = 8
)

func newIDs(memory int64) ids {
	m := ids{memory: memory}
	m.reset()
	return m
}

func (m *ids) reset() {
	m.tables, m.newest, m.kept = make([]idTable, 1<<tableBits), None, nil
	slots := make([]idSlot, fewSlots<<tableBits)
	for i := range m.tables {
		m.tables[i].slots = slots[i*fewSlots : (i+1)*fewSlots]
	}
}

// table is where an id is or would be, and home its place there if no other was in the way.
func (m *ids) table(k id) *idTable { return &m.tables[k.hash()>>(64-tableBits)] }

func (t *idTable) home(k id) int {
	i, _ := bits.Mul64(k.hash()<<tableBits, uint64(len(t.slots)))
	return int(i)
}

// slot is where an id is or would be.
func (t *idTable) slot(k id) *idSlot {
	for i := t.home(k); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		if s := &t.slots[i]; s.rest == 0 || s.id == k[0] && (s.rest^k[1]<<timeBits)>>timeBits == 0 {
			return s
		}
	}
}

func (s *idSlot) time() int64 { return int64(s.rest&(1<<timeBits-1)) - 1 }

func (s *idSlot) set(k id, t int64) { s.id, s.rest = k[0], k[1]<<timeBits|uint64(t+1) }

// repeated says whether an event at t is a repeat, and remembers it.
func (m *ids) repeated(k id, t, watermark int64) bool {
	t = min(t, latest)
	in := m.table(k)
	s := in.slot(k)
	last := s.time()
	if last == free {
		if 3*in.used >= 2*len(in.slots) {
			m.sweep(in, watermark)
			s = in.slot(k)
		}
		in.used++
	}
	again := false
	if last != free && last+m.memory > watermark { // else it is only not yet dropped
		again = t-last < m.memory
		t = max(t, last)
	}
	s.set(k, t)
	m.newest = max(m.newest, t)
	return again
}

// sweep drops what is too old. There is a new table where that leaves less room than is worth it, or far too much.
func (m *ids) sweep(t *idTable, watermark int64) {
	kept := m.kept[:0]
	for _, s := range t.slots {
		if last := s.time(); last == free || last+m.memory <= watermark {
			continue
		}
		kept = append(kept, s)
	}
	if n := len(t.slots); 2*len(kept) > n || 8*len(kept) < n {
		t.slots = make([]idSlot, max(fewSlots, 3*len(kept)))
	} else {
		clear(t.slots)
	}
	for _, s := range kept {
		*t.slot(id{s.id, s.rest >> timeBits}) = s
	}
	t.used, m.kept = len(kept), kept
}

// forget gives the memory back when nothing in it matters any more.
func (m *ids) forget(watermark int64) {
	if m.newest != None && watermark >= m.newest+m.memory {
		m.reset()
	}
}
