package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nowcast/internal/retry"
)

// senders post beacons, each with a page of its own, and remember which were accepted.
type senders struct {
	sendConfig

	cancel              context.CancelFunc
	done                sync.WaitGroup
	mu                  sync.Mutex
	acked               map[string]bool // by page
	refused, unanswered atomic.Int64
	slowest             atomic.Int64 // ns, of an accepted beacon
}

type sendConfig struct {
	count     int
	pause     time.Duration // of a sender between two beacons
	post      func(ctx context.Context, sender, i int, page string) (answer, error)
	accepted  func(answer) bool
	onRefused func(answer) // may be nil
}

// startSenders sends until stop, or the end of the test.
func startSenders(t *testing.T, cfg sendConfig) *senders {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &senders{sendConfig: cfg, cancel: cancel, acked: map[string]bool{}}
	t.Cleanup(s.stop)
	for n := range cfg.count {
		s.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if !s.send(ctx, n, i) {
					_ = retry.Sleep(ctx, 50*time.Millisecond)
				}
				_ = retry.Sleep(ctx, s.pause)
			}
		})
	}
	return s
}

// stop waits for the answers to all beacons.
func (s *senders) stop() {
	s.cancel()
	s.done.Wait()
}

// send posts a beacon, also when ctx ends meanwhile, and reports whether it was accepted.
func (s *senders) send(ctx context.Context, sender, i int) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	page := fmt.Sprintf("/%d/%d", sender, i)
	sent := time.Now()
	a, err := s.post(ctx, sender, i, page)
	switch {
	case err != nil:
		s.unanswered.Add(1)
		return false
	case !s.accepted(a):
		s.refused.Add(1)
		if s.onRefused != nil {
			s.onRefused(a)
		}
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest.Store(max(s.slowest.Load(), int64(time.Since(sent))))
	s.acked[page] = true
	return true
}

// count is the number of accepted beacons.
func (s *senders) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}
