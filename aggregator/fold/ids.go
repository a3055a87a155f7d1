package fold

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"nowcast/internal/event"
)

// id identifies an event within its partition. It combines the client's id and the site, since two sites may
// share a client. Ingest hashes what the client sent, so all bits of a client's id are uniformly distributed.
type id [2]uint64

func idOf(e *event.Event) id { return idOfSite(e.Site, &e.ID) }

// previousIDOf returns the id that the event had yesterday: ids depend on the day.
func previousIDOf(e *event.Event) id { return idOfSite(e.Site, &e.PreviousID) }

func idOfSite(site string, x *[16]byte) id {
	return id{binary.LittleEndian.Uint64(x[:]) ^ xxhash.Sum64String(site), binary.LittleEndian.Uint64(x[8:])}
}

func (k id) hash() uint64 { return k[0] * 0x9e3779b97f4a7c15 } // Fibonacci hashing

// ids remembers when each id was last used, in event time, until the watermark is memory past that.
//
// The ids are spread over many small tables. A full table drops expired ids or grows by itself, so no single
// event waits for a pass over all ids.
type ids struct {
	memory int64 // ms
	tables []idTable
	newest int64    // newest use of any id
	live   []idSlot // buffer of sweep
}

// idTable is a hash table with open addressing and linear probing.
type idTable struct {
	slots []idSlot
	used  int
}

// idSlot is an id and the time of its last use in 16 bytes. They hold 86 bits of the id. The result is exact
// as long as no two ids of five minutes share those bits: in a billion events the chance of that is one in
// ten billion.
type idSlot struct {
	id uint64 // its first half
	// low timeBits: ms since 1970 plus 1, so that only a free slot is 0; high bits: of the second half
	rest uint64
}

const (
	timeBits  = 42 // until 2109
	maxTime   = 1<<timeBits - 2
	freeSlot  = int64(-1) // time of a free slot
	tableBits = 10
	minSlots  = 8
)

func newIDs(memory int64) ids {
	m := ids{memory: memory}
	m.reset()
	return m
}

func (m *ids) reset() {
	m.tables, m.newest, m.live = make([]idTable, 1<<tableBits), None, nil
	slots := make([]idSlot, minSlots<<tableBits)
	for i := range m.tables {
		m.tables[i].slots = slots[i*minSlots : (i+1)*minSlots]
	}
}

func (m *ids) table(k id) *idTable { return &m.tables[k.hash()>>(64-tableBits)] }

// home returns the slot where probing for an id starts.
func (t *idTable) home(k id) int {
	i, _ := bits.Mul64(k.hash()<<tableBits, uint64(len(t.slots)))
	return int(i)
}

// slot returns the slot of an id, or the free slot where it belongs.
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

// duplicate reports whether an event at t is a duplicate, and remembers its id.
func (m *ids) duplicate(k id, t, watermark int64) bool {
	t = min(t, maxTime)
	in := m.table(k)
	s := in.slot(k)
	last := s.time()
	if last == freeSlot {
		if 3*in.used >= 2*len(in.slots) {
			m.sweep(in, watermark)
			s = in.slot(k)
		}
		in.used++
	}
	dup := false
	if last != freeSlot && last+m.memory > watermark { // an expired id stays until its table is swept
		dup = t-last < m.memory
		t = max(t, last)
	}
	s.set(k, t)
	m.newest = max(m.newest, t)
	return dup
}

// sweep drops the expired ids of a table. It allocates another table if the live ones fill more than half of
// this one or less than an eighth.
func (m *ids) sweep(t *idTable, watermark int64) {
	live := m.live[:0]
	for _, s := range t.slots {
		if last := s.time(); last == freeSlot || last+m.memory <= watermark {
			continue
		}
		live = append(live, s)
	}
	if n := len(t.slots); 2*len(live) > n || 8*len(live) < n {
		t.slots = make([]idSlot, max(minSlots, 3*len(live)))
	} else {
		clear(t.slots)
	}
	for _, s := range live {
		*t.slot(id{s.id, s.rest >> timeBits}) = s
	}
	t.used, m.live = len(live), live
}

// release frees the memory once all ids have expired.
func (m *ids) release(watermark int64) {
	if m.newest != None && watermark >= m.newest+m.memory {
		m.reset()
	}
}
