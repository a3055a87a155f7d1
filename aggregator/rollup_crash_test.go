package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// TestRollupOverKillsOfClickHouse kills ClickHouse at random moments of a roll-up. Whenever it answers, it
// answers the same.
func TestRollupOverKillsOfClickHouse(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	want := w.answers()
	kills, done := 0, 0
	for done < 3 { // sums; their use; the deletion
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- w.rollup(w.db).run(ctx, w.now) }()
		pid := w.engine.PID()
		select {
		case err := <-ended:
			ended <- err
		case <-time.After(rand.N(120 * time.Millisecond)):
			if kills < 6 {
				kills++
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := <-ended
		cancel()
		w.until(30*time.Second, "back", func() string {
			if err := w.db.Ping(t.Context()); err != nil {
				return err.Error()
			}
			return ""
		})
		w.check(fmt.Sprintf("after %d kills, %v", kills, err), want)
		if err == nil {
			done++
			w.passes(2*time.Hour + time.Minute)
			w.check(fmt.Sprintf("two hours after %d kills", kills), want)
		}
	}
	if n := w.old(); n != 0 || kills == 0 {
		t.Errorf("%d old rows keep the partition after %d kills", n, kills)
	}
	t.Log("kills:", kills)
}

// TestRollupIsRun checks that an aggregator with the store lane rolls up.
func TestRollupIsRun(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	w.start(Config{Store: true, Repair: true, firstRollup: 10 * time.Millisecond})
	w.until(30*time.Second, "rolled up", func() string {
		return map[uint64]string{0: "not yet"}[w.number("SELECT count() FROM rolled_up")]
	})
}
