package load

import (
	"math/bits"
	"time"
)

// histogram counts latencies from 1 µs to over an hour in log-linear buckets, 32 to each power of two, as
// an HDR histogram does. A quantile is too high by at most 3 %.
type histogram struct {
	buckets [32 * (32 - 4)]int64
	n       int64
	sum     time.Duration
	max     time.Duration
}

func (h *histogram) add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	i := min(index(us), len(h.buckets)-1)
	h.buckets[i]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// index is the bucket of a value. Values below 64 have a bucket each, larger ones 32 to each power of two.
func index(us uint64) int {
	if us < 64 {
		return int(us)
	}
	shift := bits.Len64(us) - 6
	return 32*shift + int(us>>shift)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i/32 - 1
	return (uint64(i-32*shift)+1)<<shift - 1
}

// quantile is the smallest value that is not exceeded by a share q of all values; 0 without values.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want, seen := max(1, int64(q*float64(h.n)+0.5)), int64(0)
	for i, n := range h.buckets {
		if seen += n; seen >= want {
			return min(time.Duration(upper(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}
