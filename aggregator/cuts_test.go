package aggregator

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
	"nowcast/internal/erasure"
	"nowcast/internal/topic"
)

// cut marks that partition 0 of the events topic is cut, and returns the offset of the mark.
func (w *world) cut(c topic.LogCut) int64 {
	w.t.Helper()
	offset, err := w.kafka.ProduceKeyed(w.t.Context(), topic.Events, c.Key(), []byte{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log[0] = append(w.log[0], fold.Envelope{Offset: offset})
	return offset
}

// TestCutHoldsPosition checks that no position behind a cut is committed before ClickHouse has the cut, that
// the lane says why, and that other partitions go on.
func TestCutHoldsPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	s.only = "cuts"
	s.set(errors.New("no space left on device"), false, 0)
	service, _, _ := w.lanes(Config{Store: true}, s)
	w.send(0, w.view(1, "/"))
	offset := w.cut(topic.LogCut{From: 1, After: w.clock})
	for range 3 {
		w.clock += 1000
		w.send(0, w.view(2, "/"))
		w.send(1, w.view(3, "/"))
	}
	ends := func() string {
		c := w.committed("nowcast-store")
		for p := range partitions {
			if got := c[topicPartition{topic.Events, p}]; got != int64(len(w.log[p])) {
				return fmt.Sprint("partition ", p, " is at ", got)
			}
		}
		return ""
	}
	w.until(10*time.Second, "held at the cut", func() string {
		if n := len(s.rows("events")); n != 7 {
			return fmt.Sprint(n, " events")
		}
		if _, why := service.Ready(); !strings.Contains(why, "can't insert into ClickHouse: ") {
			return why
		}
		if still := ends(); !strings.HasPrefix(still, "partition 0 ") {
			return "not held: " + still
		}
		if c := w.committed("nowcast-store"); c[topicPartition{topic.Events, 1}] != 3 {
			return fmt.Sprint(c)
		}
		return ""
	})
	// The next commit has all positions that were reached before.
	w.clock += 1000
	w.send(1, w.view(3, "/"))
	w.until(10*time.Second, "committed in the other partition", func() string {
		if c := w.committed("nowcast-store"); c[topicPartition{topic.Events, 1}] != 4 {
			return fmt.Sprint(c)
		}
		return ""
	})
	if c := w.committed("nowcast-store")[topicPartition{topic.Events, 0}]; c > offset {
		t.Errorf("%d is committed, and the cut at %d isn't stored", c, offset)
	}
	s.set(nil, false, 0)
	w.until(10*time.Second, "committed past the cut", ends)
	if rows := s.rows("cuts"); len(rows) != 1 || !strings.HasPrefix(rows[fmt.Sprint("0/", offset)],
		fmt.Sprintf("0|%d|", offset)) {
		t.Errorf("stored %v, want the cut at %d", rows, offset)
	}
}

// TestCutStored checks that the table has a cut once, with its times, after a start of the lane from the
// committed position and after a rewind.
func TestCutStored(t *testing.T) {
	w := newEngineWorld(t)
	_, stop := w.start(Config{Store: true})
	after := w.clock
	w.send(0, w.view(1, "/"))
	offset := w.cut(topic.LogCut{From: 1, After: after})
	w.clock += 1000
	w.send(0, w.view(2, "/"))
	type row struct {
		Partition uint16    `ch:"kpart"`
		Offset    uint64    `ch:"koff"`
		After     time.Time `ch:"after"`
		At        time.Time `ch:"at"`
	}
	committed := func() string {
		if c := w.committed("nowcast-store")[topicPartition{topic.Events, 0}]; c != int64(len(w.log[0])) {
			return fmt.Sprint(c)
		}
		return ""
	}
	check := func(when string) {
		t.Helper()
		var rows []row
		if err := w.db.Select(t.Context(), &rows,
			"SELECT kpart, koff, after, at FROM cuts FINAL"); err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].Partition != 0 || rows[0].Offset != uint64(offset) ||
			rows[0].After.UnixMilli() != after || time.Since(rows[0].At).Abs() > time.Minute {
			t.Errorf("%s: %+v, want one of partition 0 at offset %d after %d", when, rows, offset, after)
		}
	}
	w.until(20*time.Second, "committed", committed)
	check("live")
	stop()

	_, stop = w.start(Config{Store: true}) // the warm-up reads the cut again
	w.clock += 1000
	w.send(0, w.view(3, "/"))
	w.until(20*time.Second, "committed again", committed)
	check("after a restart")
	stop()

	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	erasures, stopErasures, err := erasure.Follow(t.Context(), w.kafka, log)
	if err != nil {
		t.Fatal(err)
	}
	defer stopErasures()
	rewind := func() {
		t.Helper()
		if _, err := (Rewind{From: time.UnixMilli(0)}).Run(t.Context(), Deps{Broker: w.kafka,
			Erasures: erasures, Warehouse: w.db, Log: log, Metrics: prometheus.NewRegistry()}); err != nil {
			t.Fatal(err)
		}
	}
	rewind()
	check("after a rewind")
	if err := w.db.Exec(t.Context(), "TRUNCATE TABLE cuts"); err != nil {
		t.Fatal(err)
	}
	rewind()
	check("after a rewind into an empty table")
}
