package ingest

import (
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/dchest/siphash"
	"github.com/gin-gonic/gin"
)

// Limit is a token bucket: Rate events a second in the long run, Burst at once. Rate 0 is no limit; Burst 0 is five seconds' worth.
type Limit struct {
	Rate, Burst float64
}

const (
	defaultBurst = 5 * time.Second
	maxRate      = 1e6 // events a second
	maxBurst     = 1e9
)

// Validate says in one sentence what can't be meant.
func (l Limit) Validate() error {
	if !(l.Rate >= 0 && l.Rate <= maxRate) {
		return fmt.Errorf("rate is %g: give 0 (no limit) to %g events a second", l.Rate, maxRate)
	}
	if !(l.Burst >= 0 && l.Burst <= maxBurst) || l.Burst > 0 && l.Burst < 1 {
		return fmt.Errorf("burst is %g: give 0 (five seconds' worth) or 1 to %g events", l.Burst, maxBurst)
	}
	return nil
}

// allowance is a limit as arithmetic needs it: how long an event takes, and how far ahead of the clock a sender may be.
type allowance struct {
	event, ahead int64 // ns
}

// allowance of a limit that is one.
func (l Limit) allowance() allowance {
	each := int64(math.Ceil(float64(time.Second) / l.Rate))
	if l.Burst == 0 {
		return allowance{each, max(each, int64(defaultBurst))}
	}
	return allowance{each, int64(l.Burst * float64(each))}
}

// A table has room for 65,536 buckets, in groups of 8 under a lock of their own; it takes 1.5 MB.
const (
	groups   = 1 << 13
	perGroup = 8
)

// buckets are token buckets by key, in a table that never grows. A bucket is the moment at which it will be full again; one that is full is
// the same as none. Where a group has no room for a new key, the bucket that is nearest to full is forgotten, so that what is forgiven is
// always the least: however many senders come, whoever is far over their rate stays so, and nobody is refused for want of room.
type buckets struct {
	groups [groups]group
}

type group struct {
	mu   sync.Mutex
	key  [perGroup]uint64
	full [perGroup]int64 // ns on the clock of the callers
	_    [56]byte        // to the end of a cache line: neighbours don't slow each other
}

// take takes n events from the bucket of key, all or none. When there are too few it says after how long there will be enough. More than
// one are at most a burst without one, else a request that had to take one before could never be sent.
func (b *buckets) take(key uint64, p allowance, n, now int64) (wait time.Duration, ok bool) {
	cost := p.event * min(n, max(1, p.ahead/p.event-1))
	s := &b.groups[key%groups]
	s.mu.Lock()
	defer s.mu.Unlock()
	at, least := -1, 0
	for i := range s.key {
		if s.key[i] == key {
			at = i
			break
		}
		if s.full[i] < s.full[least] {
			least = i
		}
	}
	full := now
	if at >= 0 {
		full = max(full, s.full[at])
	} else {
		at = least
	}
	if full += cost; full-now > p.ahead {
		return time.Duration(full - now - p.ahead), false
	}
	s.key[at], s.full[at] = key, full
	return 0, true
}

// limiter keeps senders and sites to their rates. It knows neither an address nor a domain, only hashes by keys that die with the process.
type limiter struct {
	begin          time.Time
	address, site  allowance
	senders, sites *buckets // nil: no limit
	secret         sipKey
	seed           maphash.Seed
}

func newLimiter(address, site Limit) (*limiter, error) {
	l := &limiter{begin: time.Now(), seed: maphash.MakeSeed()}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	l.secret = newSipKey(secret)
	if err := address.Validate(); err != nil {
		return nil, fmt.Errorf("address limit: %w", err)
	}
	if err := site.Validate(); err != nil {
		return nil, fmt.Errorf("site limit: %w", err)
	}
	if address.Rate > 0 {
		l.address, l.senders = address.allowance(), &buckets{}
	}
	if site.Rate > 0 {
		l.site, l.sites = site.allowance(), &buckets{}
	}
	return l, nil
}

// key of a sender, by what counts of the address.
func (l *limiter) key(addr netip.Addr) uint64 {
	var b [9]byte
	return siphash.Hash(l.secret[0], l.secret[1], appendAddr(b[:0], addr))
}

// from takes n events from a sender's bucket.
func (l *limiter) from(addr netip.Addr, n int, at time.Time) (wait time.Duration, ok bool) {
	if l.senders == nil {
		return 0, true
	}
	return l.senders.take(l.key(addr), l.address, int64(n), int64(at.Sub(l.begin)))
}

// to takes one event from a site's bucket.
func (l *limiter) to(domain string, at time.Time) (wait time.Duration, ok bool) {
	if l.sites == nil {
		return 0, true
	}
	return l.sites.take(maphash.String(l.seed, domain), l.site, 1, int64(at.Sub(l.begin)))
}

// throttle refuses a sender that is over its rate before anything of the body is read. Each request counts as one event; what has more in
// it says so with alsoFrom. Who speaks from this machine, and isn't a proxy that names somebody else, has no limit: a proxy that isn't
// trusted would share one bucket among all visitors, and measuring tools would measure it.
func (s *Service) throttle(h beaconHandler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if addr := clientAddr(c.Request, s.cfg.TrustedProxies); s.alsoFrom(c, addr, 1) {
			h(c, addr)
		}
	}
}

// beaconHandler answers a request from an address, which is found once.
type beaconHandler func(c *gin.Context, addr netip.Addr)

// alsoFrom counts n more events of a request's sender. When there may not be so many it answers and is false.
func (s *Service) alsoFrom(c *gin.Context, addr netip.Addr, n int) bool {
	if n <= 0 || addr.IsLoopback() && addr == peerAddr(c.Request) {
		return true
	}
	wait, ok := s.limits.from(addr, n, time.Now())
	if !ok {
		s.meter.limitedAddress.Add(float64(n))
		tooMany(c, wait, "too many events from this address")
	}
	return ok
}

// Bodies beyond smallBody, or of a length that isn't said, are for few requests at a time: an ordinary beacon has under 2 KB, and a sender who
// stalls shortly before the end of a megabyte holds it until the server cuts them off.
const (
	smallBody   = 16 << 10
	largeBodies = 64
)

// large lets through what is small, and the rest while there is room.
func (s *Service) large(h beaconHandler) beaconHandler {
	return func(c *gin.Context, addr netip.Addr) {
		if n := c.Request.ContentLength; n >= 0 && n <= smallBody {
			h(c, addr)
			return
		}
		select {
		case s.room <- struct{}{}:
			defer func() { <-s.room }()
			h(c, addr)
		default:
			s.meter.refused.Inc()
			allowAny(c)
			c.Header("Retry-After", "1")
			c.JSON(http.StatusServiceUnavailable, gin.H{"error": "too many large requests at a time; send it again, with the same id"})
		}
	}
}

// tooMany answers 429.
func tooMany(c *gin.Context, wait time.Duration, what string) {
	allowAny(c)
	retryAfter(c, wait)
	c.JSON(http.StatusTooManyRequests, gin.H{"error": what + "; send it again after the seconds in Retry-After, with the same id"})
}

func retryAfter(c *gin.Context, wait time.Duration) {
	c.Header("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
}
