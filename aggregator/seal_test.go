package aggregator

import (
	"fmt"
	"testing"
	"time"

	"nowcast/aggregator/sealer"
	"nowcast/internal/topic"
)

// TestMarks checks that the store lane marks the days of what it stores, also when an insert of marks fails
// after the rows are stored.
func TestMarks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	s.only = "marks"
	s.set(fmt.Errorf("no marks now"), false, 0)
	_, _, stop := w.lanes(Config{Store: true}, s)
	defer stop()
	w.send(0, w.view(1, "/a"))
	w.clock += 24 * 60 * 60 * 1000
	w.send(0, w.view(2, "/b"))
	rows := func(table string, want int) {
		t.Helper()
		w.until(10*time.Second, "stored in "+table, func() string {
			if n := len(s.rows(table)); n != want {
				return fmt.Sprint(n)
			}
			return ""
		})
	}
	rows("events", 2)
	all, err := w.kafka.Committed(t.Context(), topic.Group("store"), []int{0}, topic.Events)
	if err != nil || len(all) > 0 && all[0].Offset > 0 {
		t.Errorf("%v is committed without marks: %v", all, err)
	}
	s.set(nil, false, 0)
	rows("marks", 2)
}

// TestSealLane checks that of two aggregators one seals, and the other one when that has ended.
func TestSealLane(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	cfg := Config{Store: true, Seal: true, sealer: sealer.Config{Interval: 50 * time.Millisecond,
		Quiet: 10 * time.Millisecond}}
	_, stopFirst := w.start(cfg)
	_, stopSecond := w.start(cfg)
	defer stopSecond()
	days := 0
	sealed := func() {
		t.Helper()
		days++
		w.clock = time.Now().Add(-time.Duration(5+days) * 24 * time.Hour).UnixMilli()
		at := w.clock
		w.clock = time.Now().UnixMilli()
		e := w.view(uint64(days), "/")
		e.Time = at
		w.send(0, e)
		w.until(30*time.Second, "sealed", func() string {
			if n := w.number("SELECT count() FROM seals FINAL WHERE events > 0"); n < uint64(days) {
				return fmt.Sprint(n)
			}
			return ""
		})
	}
	sealed()
	stopFirst()
	sealed()
}
