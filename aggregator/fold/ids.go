package fold

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"nowcast/internal/event"
)

// id of an event within its partition. A client's id is one of a site: two sites may share a client. Ingest hashes what the client gave, so
// all bits of it are as good as random.
type id [2]uint64

func idOf(e *event.Event) id {
	return id{binary.LittleEndian.Uint64(e.ID[:]) ^ xxhash.Sum64String(e.Site), binary.LittleEndian.Uint64(e.ID[8:])}
}

// ids remembers when each id was last seen, in event time: a table by open addressing with linear probing. An id is worth remembering until
// the watermark is `memory` past it; those that aren't are dropped when the table is full, so nothing is ever taken out of it.
type ids struct {
	memory int64
	slots  []idSlot // a power of two
	used   int
	newest int64
}

type idSlot struct {
	id   id
	time int64 // ms; free: the slot is
}

const (
	free     = int64(None)
	fewSlots = 1 << 8
)

func newIDs(memory int64) ids {
	m := ids{memory: memory, newest: None}
	m.reset(fewSlots)
	return m
}

func (m *ids) reset(slots int) {
	m.slots, m.used = make([]idSlot, slots), 0
	for i := range m.slots {
		m.slots[i].time = free
	}
}

// slot is where an id is or would be.
func (m *ids) slot(k id) *idSlot {
	mask := len(m.slots) - 1
	for i := int(k[0]) & mask; ; i = (i + 1) & mask {
		if s := &m.slots[i]; s.time == free || s.id == k {
			return s
		}
	}
}

// repeated says whether an event at t is a repeat, and remembers it.
func (m *ids) repeated(k id, t, watermark int64) bool {
	s := m.slot(k)
	if s.time == free && 3*m.used >= 2*len(m.slots) {
		m.rebuild(watermark)
		s = m.slot(k)
	}
	if s.time == free {
		s.id = k
		m.used++
	}
	again := false
	if last := s.time; last != free && last+m.memory > watermark { // else it is only not yet dropped
		again = t-last < m.memory
		t = max(t, last)
	}
	s.time = t
	m.newest = max(m.newest, t)
	return again
}

// rebuild drops what is too old, and makes room for as many again as are left.
func (m *ids) rebuild(watermark int64) {
	live := 0
	for i := range m.slots {
		if m.live(&m.slots[i], watermark) {
			live++
		}
	}
	n := fewSlots
	for n < 3*live {
		n *= 2
	}
	old := m.slots
	m.reset(n)
	for i := range old {
		if m.live(&old[i], watermark) {
			*m.slot(old[i].id) = old[i]
			m.used++
		}
	}
}

func (m *ids) live(s *idSlot, watermark int64) bool {
	return s.time != free && s.time+m.memory > watermark
}

// forget gives the memory back when nothing in it matters any more.
func (m *ids) forget(watermark int64) {
	if m.used > 0 && watermark >= m.newest+m.memory {
		m.reset(fewSlots)
		m.newest = None
	}
}
