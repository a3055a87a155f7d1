package ingest

import (
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"time"

	"github.com/dchest/siphash"
	"github.com/gin-gonic/gin"
)

// Limit is a rate limit: Rate events a second in the long run, Burst at once. Rate 0 is no limit; Burst 0
// is the events of five seconds.
type Limit struct {
	Rate, Burst float64
}

const (
	defaultBurst = 5 * time.Second
	maxRate      = 1e6 // events a second
	maxBurst     = 1e9 // events
)

// Validate returns an error that tells which values are possible.
func (l Limit) Validate() error {
	if !(l.Rate >= 0 && l.Rate <= maxRate) {
		return fmt.Errorf("rate is %g: give 0 (no limit) to %g events a second", l.Rate, maxRate)
	}
	if !(l.Burst >= 0 && l.Burst <= maxBurst) || l.Burst > 0 && l.Burst < 1 {
		return fmt.Errorf("burst is %g: give 0 (five seconds' worth) or 1 to %g events", l.Burst, maxBurst)
	}
	return nil
}

// rateLimiter limits the events from an address and for a site. It stores neither addresses nor domains,
// only hashes with keys that it makes at random.
type rateLimiter struct {
	startedAt        time.Time // 0 on the clock of the tables
	addressRate      gcra
	siteRate         gcra
	addresses, sites *gcraTable // nil: no limit
	addressKey       sipKey
	siteSeed         maphash.Seed
}

func newRateLimiter(address, site Limit) (*rateLimiter, error) {
	l := &rateLimiter{startedAt: time.Now(), siteSeed: maphash.MakeSeed()}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	l.addressKey = newSipKey(secret)
	if err := address.Validate(); err != nil {
		return nil, fmt.Errorf("address limit: %w", err)
	}
	if err := site.Validate(); err != nil {
		return nil, fmt.Errorf("site limit: %w", err)
	}
	if address.Rate > 0 {
		l.addressRate, l.addresses = newGCRA(address), &gcraTable{}
	}
	if site.Rate > 0 {
		l.siteRate, l.sites = newGCRA(site), &gcraTable{}
	}
	return l, nil
}

// hashAddress hashes the part of an address that identifies a sender; see appendAddress.
func (l *rateLimiter) hashAddress(addr netip.Addr) uint64 {
	var b [9]byte
	return siphash.Hash(l.addressKey[0], l.addressKey[1], appendAddress(b[:0], addr))
}

// takeAddress counts n events from an address, as gcraTable.take does.
func (l *rateLimiter) takeAddress(addr netip.Addr, n int, at time.Time) (wait time.Duration, ok bool) {
	if l.addresses == nil {
		return 0, true
	}
	return l.addresses.take(l.hashAddress(addr), l.addressRate, int64(n), int64(at.Sub(l.startedAt)))
}

// takeSite counts one event for a site, as gcraTable.take does.
func (l *rateLimiter) takeSite(domain string, at time.Time) (wait time.Duration, ok bool) {
	if l.sites == nil {
		return 0, true
	}
	return l.sites.take(maphash.String(l.siteSeed, domain), l.siteRate, 1, int64(at.Sub(l.startedAt)))
}

// An ordinary beacon has under 2 KB. A body over smallBody, or of unknown length, is large. At most
// maxLargeBodies are read at a time: a sender that stalls before the end of a megabyte holds its memory
// until the server's time-out.
const (
	smallBody      = 16 << 10 // bytes
	maxLargeBodies = 64
)

// beaconHandler answers a request of the sender at an address.
type beaconHandler func(c *gin.Context, addr netip.Addr)

// senderLimiter limits the events of a sender and the number of large bodies that are read at a time.
type senderLimiter struct {
	limits      *rateLimiter
	metrics     *metrics
	largeBodies chan struct{} // a semaphore
}

func newSenderLimiter(limits *rateLimiter, m *metrics) *senderLimiter {
	return &senderLimiter{limits, m, make(chan struct{}, maxLargeBodies)}
}

// wrap limits a handler before it reads the body. A request counts as one event; the handler counts
// further ones by allow.
func (l *senderLimiter) wrap(h beaconHandler) gin.HandlerFunc {
	return func(c *gin.Context) {
		addr, _ := senderAddress(c.Request)
		if !l.allow(c, addr, 1) {
			return
		}
		if n := c.Request.ContentLength; n >= 0 && n <= smallBody {
			h(c, addr)
			return
		}
		select {
		case l.largeBodies <- struct{}{}:
			defer func() { <-l.largeBodies }()
			h(c, addr)
		default:
			l.metrics.refused.Inc()
			allowAnyOrigin(c)
			c.Header("Retry-After", "1")
			c.JSON(http.StatusServiceUnavailable, gin.H{
				"error": "too many large requests at a time; send it again, with the same id",
			})
		}
	}
}

// allow counts n more events of the sender of a request. If the limit refuses them, it answers and returns
// false.
//
// The loopback address has no limit, unless a proxy named it: a proxy on this machine that isn't trusted
// would share one limit among all visitors, and load generators would measure the limit.
func (l *senderLimiter) allow(c *gin.Context, addr netip.Addr, n int) bool {
	if n <= 0 {
		return true
	}
	if addr.IsLoopback() {
		if _, named := senderAddress(c.Request); !named {
			return true
		}
	}
	wait, ok := l.limits.takeAddress(addr, n, time.Now())
	if !ok {
		l.metrics.limitedAddress.Add(float64(n))
		answerTooMany(c, wait, "too many events from this address")
	}
	return ok
}
