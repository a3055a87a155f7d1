package access

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// The rate of failed keys and codes of one address: so many at once, and then one in every interval.
const (
	failureInterval = 6 * time.Second
	failureBurst    = 10
	failureBuckets  = 4096
)

// failures limits failed keys and codes by address (GCRA). Addresses share buckets by a hash whose key dies
// with the process, so that its memory is fixed and nobody can aim at another address's bucket.
type failures struct {
	seed    maphash.Seed
	counted *prometheus.CounterVec

	mu      sync.Mutex
	arrival [failureBuckets]time.Time // theoretical arrival of the next failure
}

func newFailures(r prometheus.Registerer) (*failures, error) {
	f := &failures{seed: maphash.MakeSeed(), counted: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nowcast_streamer_failed_credentials_total",
		Help: "Keys and login codes that were not valid, by kind, and requests refused for too many of them.",
	}, []string{"kind"})}
	for _, kind := range []string{failedKey, failedCode, failedLimit} {
		f.counted.WithLabelValues(kind)
	}
	if r == nil {
		return f, nil
	}
	return f, r.Register(f.counted)
}

// The values of the label kind.
const (
	failedKey   = "key"
	failedCode  = "code"
	failedLimit = "limited"
)

// wait returns how long an address has to wait until its next failure is answered as one; 0: it may fail.
func (f *failures) wait(n netip.Prefix, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if arrival := f.bucket(n); arrival.After(now) { // otherwise it may be the zero time
		return max(0, arrival.Sub(now)-(failureBurst-1)*failureInterval)
	}
	return 0
}

// add counts a failure.
func (f *failures) add(n netip.Prefix, kind string, now time.Time) {
	f.counted.WithLabelValues(kind).Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	arrival := f.bucket(n)
	if arrival.Before(now) {
		*arrival = now
	}
	*arrival = arrival.Add(failureInterval)
}

func (f *failures) bucket(n netip.Prefix) *time.Time {
	return &f.arrival[maphash.Comparable(f.seed, n)%failureBuckets]
}

// limited is the error of an address with too many failures; nil if it has not.
func (f *failures) limited(n netip.Prefix, now time.Time) error {
	wait := f.wait(n, now)
	if wait == 0 {
		return nil
	}
	f.counted.WithLabelValues(failedLimit).Inc()
	return &Denied{Kind: TooMany, Wait: wait, Reason: "there were too many failed keys and codes from this " +
		"address; wait for the seconds in Retry-After and try again with a valid one"}
}

// LimitFailures is the middleware that counts a key in the Authorization header that isn't valid, and refuses
// it with 429 after too many. A valid key is never refused, so that a client with an old key doesn't keep
// others with the same address out. The sites have to be read.
func (a *Control) LimitFailures(c *gin.Context) error {
	secret := bearer(c.Request)
	if secret == "" {
		return nil
	}
	if _, ok := a.signer.authenticate(secret); ok {
		return nil
	}
	now, client := time.Now(), addressOf(c)
	if err := a.failures.limited(client, now); err != nil {
		return err
	}
	a.failures.add(client, failedKey, now)
	return nil
}
