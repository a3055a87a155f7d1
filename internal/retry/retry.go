// Package retry spaces out attempts at something that failed: exponential backoff with jitter, and sleeps
// that end with a context.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows the pause between attempts from Min to Max, doubling each time. The zero value pauses for 10
// ms to 200 ms. It is for one goroutine.
//
// A pause is a random duration from half of that value to the whole of it ("equal jitter"), so that
// processes which lost the same broker at the same moment do not come back in step. Source:
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
type Backoff struct {
	Min, Max time.Duration

	current time.Duration // upper bound of the newest pause; 0 before the first
}

// Next returns the pause before the next attempt.
func (b *Backoff) Next() time.Duration {
	if b.Min == 0 {
		b.Min = 10 * time.Millisecond
	}
	if b.Max == 0 {
		b.Max = 200 * time.Millisecond
	}
	b.current = min(max(2*b.current, b.Min), b.Max)
	return jitter(b.current)
}

// First reports whether the next pause is the first since the zero value or Reset: the moment to log a
// failure once.
func (b *Backoff) First() bool { return b.current == 0 }

// Reset starts again at Min, after an attempt that succeeded.
func (b *Backoff) Reset() { b.current = 0 }

// Wait sleeps for Next. It returns ctx's error if ctx ends first.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// jitter returns a random duration in [d/2, d].
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Sleep waits for d. It returns ctx's error if ctx ends first, and at once when d is not positive.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// UntilNext returns the time until the next multiple of an interval, in (0, interval]. What many parts do at
// the same multiples wakes an idle machine once for all of them.
func UntilNext(interval time.Duration) time.Duration {
	now := time.Now()
	return now.Truncate(interval).Add(interval).Sub(now)
}
