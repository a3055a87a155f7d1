package streamer

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"

	"nowcast/streamer/push"
)

// Limits bound how many streams are open at a time; 0 is no limit.
type Limits struct {
	Viewers    int // in all
	PerAddress int // of an IPv4 address or an IPv6 /64; loopback, which is a proxy here or the operator, has none
	PerKey     int // of a key or a share link
}

var (
	errFull    = errors.New("this instance has as many viewers as it may have")
	errAddress = errors.New("there are too many streams from this address; close some")
	errKey     = errors.New("there are too many streams with this key; close some")
)

// seats counts viewers. Its maps have an entry only for whoever has a stream open.
type seats struct {
	limits Limits
	seed   maphash.Seed

	mu       sync.Mutex
	all      int
	of       map[uint64]int // by address and by key, hashed
	refusing bool           // this instance is about to stop
}

func newSeats(l Limits) *seats {
	return &seats{limits: l, seed: maphash.MakeSeed(), of: map[uint64]int{}}
}

// take lets a viewer in, or says why not. Keys of several sites are the same one, or the first counts.
func (s *seats) take(address string, by []access) (push.Slot, error) {
	var seat push.Slot
	if a, err := netip.ParseAddr(address); err == nil && !a.Unmap().IsLoopback() {
		bits := 64
		if a = a.Unmap(); a.Is4() {
			bits = 32
		}
		p, _ := a.WithZone("").Prefix(bits)
		seat.Addr = maphash.Comparable(s.seed, p)
	}
	for _, a := range by {
		if a.id != "" {
			a.until = 0 // all of a key's sessions are one
			seat.Key = maphash.Comparable(s.seed, a)
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch l := s.limits; {
	case s.refusing:
		return seat, errors.New("this instance is about to stop")
	case l.Viewers > 0 && s.all >= l.Viewers:
		return seat, errFull
	case l.PerAddress > 0 && seat.Addr != 0 && s.of[seat.Addr] >= l.PerAddress:
		return seat, errAddress
	case l.PerKey > 0 && seat.Key != 0 && s.of[seat.Key] >= l.PerKey:
		return seat, errKey
	}
	s.all++
	for _, k := range []uint64{seat.Addr, seat.Key} {
		if k != 0 {
			s.of[k]++
		}
	}
	return seat, nil
}

func (s *seats) leave(seat push.Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	for _, k := range []uint64{seat.Addr, seat.Key} {
		if k == 0 {
			continue
		}
		if s.of[k]--; s.of[k] <= 0 {
			delete(s.of, k)
		}
	}
}

// refuse lets nobody in from now on.
func (s *seats) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = true
}
