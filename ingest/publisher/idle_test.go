package publisher

import (
	"testing"
	"testing/synctest"
	"time"

	"nowcast/internal/event"
)

// TestIdle lets a publisher be alone for an hour, wakes it, and lets it be alone again.
func TestIdle(t *testing.T) {
	const partitions = 3
	publish(t, partitions, func(m *memory, p *Publisher, _ func()) {
		count := func(span time.Duration, first ...func()) (n [partitions]int) {
			for i := range n {
				n[i] = -len(m.records(t, i))
			}
			for _, f := range first {
				f()
			}
			time.Sleep(span)
			synctest.Wait()
			for i := range n {
				n[i] += len(m.records(t, i))
			}
			return n
		}
		all := func(n int) [partitions]int { return [partitions]int{n, n, n} }
		if got := count(5 * time.Minute); got[0] < 4*300-1 {
			t.Errorf("%d records in five minutes that somebody watches", got)
		}
		m.unwatched.Store(true)
		if got := count(time.Hour); got != all(60) && got != all(61) {
			t.Errorf("%d records in an hour that nobody watches", got)
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		wake := func() {
			if !p.Wake() || p.Wake() {
				t.Error("Wake: want true once")
			}
		}
		if got := count(time.Millisecond, wake); got != all(1) {
			t.Errorf("%d records at a wake-up", got)
		}
		if got := count(30 * time.Second); got[0] < 4*30-1 {
			t.Errorf("%d records in the half minute after a wake-up", got)
		}
		count(time.Hour)
		add := func() {
			if _, err := p.Add(1, &event.Event{Site: "s"}, nil); err != nil {
				t.Error(err)
			}
		}
		if got := count(time.Millisecond, add); got != all(1) {
			t.Errorf("%d records at the first beacon", got)
		}
		count(time.Hour)
		if got := count(time.Millisecond, func() { p.CountDropped("s", "bot") }); got != all(1) {
			t.Errorf("%d records at a beacon that is dropped", got)
		}
	})
}
