package sealer

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRebuild builds everything beside what counts, says what changes, and switches at once. A sealer beside
// it drops nothing of it.
func TestRebuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := history(rand.New(rand.NewPCG(13, 14)), 40)
	w.store(all)
	s := w.sealer(Config{Rolled: 1}, w.db)
	s.orphanAge = 0
	w.seal(s)
	// As if older rules had counted other bounces.
	w.exec("ALTER TABLE visits UPDATE bounced = NOT bounced WHERE site = 'big.example' AND day = " +
		"toDate(20701) SETTINGS mutations_sync = 2")
	before := w.number("SELECT any(seal) FROM seals FINAL")
	log := slog.New(slog.DiscardHandler)
	r := Rebuild{From: time.Unix(0, 0), DryRun: true, Most: 10, config: Config{Rolled: 1, Slice: 100}}
	days, changes, err := r.Run(t.Context(), w.db, log)
	if err != nil || days != 9 || len(changes) != 1 || changes[0].Site != "big.example" ||
		changes[0].Day != "2026-09-05" || changes[0].Bounces == changes[0].Bounces2 {
		t.Fatalf("%d days, changes %+v, %v", days, changes, err)
	}
	if w.number("SELECT any(seal) FROM seals FINAL WHERE site != ''") != before {
		t.Error("a dry run has switched")
	}
	r.DryRun = false
	r.Progress = func(int, int, uint64) {
		for range 3 { // a sealer finds the partitions that aren't named yet
			if _, err := s.turn(t.Context()); err != nil {
				t.Error(err)
			}
			w.now = w.now.Add(time.Minute)
		}
		w.whole()
	}
	if days, changes, err = r.Run(t.Context(), w.db, log); err != nil || days != 9 || len(changes) != 1 {
		t.Fatalf("%d days, %d changes, %v", days, len(changes), err)
	}
	w.agree("rebuilt", all)
	if n := w.number("SELECT countIf(seal = " + fmt.Sprint(before) + ") + countIf(site = '') FROM " +
		"seals FINAL"); n != 0 {
		t.Errorf("%d rows of before the switch", n)
	}
	w.settle(s)
	if st, err := ReadStatus(t.Context(), w.db, time.Unix(0,
		0)); err != nil || st.Days != 9 || st.Sealed != 9 {
		t.Errorf("%+v, %v", st, err)
	}
}
