package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackoff(t *testing.T) {
	b := Backoff{Min: 10 * time.Millisecond, Max: 70 * time.Millisecond}
	for range 2 {
		if !b.First() {
			t.Error("a new backoff has not paused yet")
		}
		for _, ms := range []int{10, 20, 40, 70, 70} {
			bound := time.Duration(ms) * time.Millisecond
			if d := b.Next(); d < bound/2 || d > bound {
				t.Errorf("pause of %v, want %v to %v", d, bound/2, bound)
			}
			if b.First() {
				t.Error("a backoff that has paused is at its first pause")
			}
		}
		b.Reset()
	}
}

// Two that fail together do not try again together.
func TestBackoffJitter(t *testing.T) {
	distinct := map[time.Duration]bool{}
	for range 20 {
		b := Backoff{Min: time.Second, Max: time.Second}
		distinct[b.Next()] = true
	}
	if len(distinct) < 10 {
		t.Errorf("20 first pauses have %d lengths", len(distinct))
	}
}

func TestBackoffZeroValue(t *testing.T) {
	var b Backoff
	for range 10 {
		if d := b.Next(); d < 5*time.Millisecond || d > 200*time.Millisecond {
			t.Errorf("pause of %v, want 5 ms to 200 ms", d)
		}
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := Sleep(ctx, time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("slept %v, %v", time.Since(start), err)
		}
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != time.Minute {
			t.Errorf("slept %v beyond the context, %v", time.Since(start), err)
		}
		if err := Sleep(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no sleep on a context that has ended: %v", err)
		}
		b := Backoff{Min: time.Second, Max: time.Second}
		start = time.Now()
		if err := b.Wait(t.Context()); err != nil || time.Since(start) < 500*time.Millisecond {
			t.Errorf("waited %v, %v", time.Since(start), err)
		}
	})
}
