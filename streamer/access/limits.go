package access

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"

	"nowcast/streamer/api"
)

// Limits bound how many streams are open at a time; 0 means no limit.
type Limits struct {
	Viewers int // in all
	// of an IPv4 address or an IPv6 /64; loopback, which is a proxy or the operator, has no limit
	PerAddress int
	PerKey     int // of a key or a share link
}

// The errors of Acquire.
var (
	ErrFull           = errors.New("this instance has reached its limit of viewers")
	ErrAddressLimit   = errors.New("there are too many streams from this address; close some")
	ErrPrincipalLimit = errors.New("there are too many streams with this key; close some")
	ErrStopping       = errors.New("this instance is about to stop")
)

// Limiter counts open streams and refuses those beyond Limits. Its memory is bounded by the open streams.
type Limiter struct {
	limits Limits
	seed   maphash.Seed

	mu       sync.Mutex
	all      int
	counts   map[uint64]int // streams by the hash of an address or a principal
	stopping bool
}

// NewLimiter makes a limiter without open streams.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l, seed: maphash.MakeSeed(), counts: map[uint64]int{}}
}

// Acquire counts a stream, or says why it may not be opened. It returns the hashes under which the stream
// counts, for Release; 0: under none. Of several principals, the first key or link counts.
func (l *Limiter) Acquire(address string, principals []api.Principal) (addr, key uint64, err error) {
	if a, err := netip.ParseAddr(address); err == nil && !a.Unmap().IsLoopback() {
		bits := 64
		if a = a.Unmap(); a.Is4() {
			bits = 32
		}
		network, _ := a.WithZone("").Prefix(bits)
		addr = maphash.Comparable(l.seed, network)
	}
	for _, p := range principals {
		if p.ID != "" {
			p.Expires, p.Generation = 0, 0 // all sessions of a key count together, for all sites
			key = maphash.Comparable(l.seed, p)
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return addr, key, ErrStopping
	case reached(l.all, l.limits.Viewers):
		return addr, key, ErrFull
	case addr != 0 && reached(l.counts[addr], l.limits.PerAddress):
		return addr, key, ErrAddressLimit
	case key != 0 && reached(l.counts[key], l.limits.PerKey):
		return addr, key, ErrPrincipalLimit
	}
	l.all++
	for _, k := range []uint64{addr, key} {
		if k != 0 {
			l.counts[k]++
		}
	}
	return addr, key, nil
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// Release ends the count of a stream, by what Acquire returned for it.
func (l *Limiter) Release(addr, key uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	for _, k := range []uint64{addr, key} {
		if k == 0 {
			continue
		}
		if l.counts[k]--; l.counts[k] <= 0 {
			delete(l.counts, k)
		}
	}
}

// Stop refuses every stream from now on.
func (l *Limiter) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
}
