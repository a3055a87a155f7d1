package aggregator

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/group"
	"nowcast/internal/erasure"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// TestErasure checks that what is erased is in no row that is made from then on, in either lane, that
// everything else is as it was, and that the watermark, and so the recovery of both lanes, doesn't change.
func TestErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	erasures, stopErasures, err := erasure.Follow(t.Context(), w.kafka, log)
	if err != nil {
		t.Fatal(err)
	}
	defer stopErasures()
	w.erasures = erasures
	other := func(visitor uint64, path string) event.Event {
		x := w.view(visitor, path)
		x.Site = "gone.example"
		return x
	}
	second := func() {
		w.clock += 1000
		w.send(0, w.view(1, "/"), w.view(2, "/"), other(1, "/"))
		w.send(1, w.view(3, "/"))
	}
	first := newSink(t)
	_, _, stop := w.lanes(Config{Windows: true, Store: true}, first)
	for range 10 {
		second()
	}
	w.until(10*time.Second, "stored", func() string {
		if n := len(first.rows("events")); n != 40 {
			return fmt.Sprint(n)
		}
		return ""
	})
	stop() // it commits a watermark that counts what is erased next

	before := time.UnixMilli(w.clock).Add(500 * time.Millisecond)
	for _, r := range []erasure.Request{
		{ID: "s", Kind: erasure.Site, Site: "gone.example", Before: before, Requested: before},
		{ID: "v", Kind: erasure.Visitor, Site: "example.com", Visitor: 2, Before: before,
			Requested: before}} {
		if _, err := erasures.Ask(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	service, _, stop := w.lanes(Config{Windows: true, Store: true}, first)
	for range 10 {
		second()
	}
	w.until(10*time.Second, "all stored that counts again", func() string {
		if n := len(first.rows("events")); n != 80 {
			return fmt.Sprint(n)
		}
		return ""
	})
	if ok, reason := service.Ready(); !ok {
		t.Error(reason)
	}
	stop()

	// From the log's start, as a rewind into an empty ClickHouse.
	again := newSink(t)
	work := newStoreWork(&laneDeps{name: "store", cfg: Config{Drain: defaultDrain}, broker: w.kafka,
		log:     log,
		metrics: newMetrics(prometheus.NewRegistry()), erasures: erasures}, again, fromStart())
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); work.Run(ctx) }()
	w.until(10*time.Second, "all read", func() string {
		read := map[topicPartition]int64{}
		for _, p := range work.Positions() {
			read[topicPartition{p.Topic, p.Partition}] = p.Offset
		}
		for _, p := range fromStart() {
			_, end, err := w.kafka.Bounds(t.Context(), p.Topic, p.Partition)
			if err != nil || read[topicPartition{p.Topic, p.Partition}] < end {
				return fmt.Sprint(err, work.Positions())
			}
		}
		return ""
	})
	end()
	<-done
	sites := map[string]int{}
	for _, table := range []string{"events", "windows", "ledger"} {
		for key, row := range again.rows(table) {
			cells := strings.Split(row, "|")
			at, err := strconv.ParseFloat(cells[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sites[table+" "+cells[0]]++
			if cells[0] == "gone.example" && int64(at*1000) < before.UnixMilli() {
				t.Errorf("%s has what is erased: %s %s", table, key, row)
			}
			if table == "events" && cells[0] == "example.com" && cells[2] == "2" &&
				int64(at*1000) < before.UnixMilli() {
				t.Errorf("%s has what is erased: %s %s", table, key, row)
			}
		}
	}
	if sites["events example.com"] != 60-10 || sites["events gone.example"] != 10 ||
		sites["windows example.com"] == 0 {
		t.Errorf("%v, want 50 and 10 events", sites)
	}
	// The ledger counts what came, and knows no visitor.
	counted := uint64(0)
	for key, row := range again.ledger(t) {
		if strings.HasPrefix(key, "example.com ") {
			var n uint64
			if _, err := fmt.Sscan(row, &n); err != nil {
				t.Fatal(err)
			}
			counted += n
		}
	}
	if counted != 60 {
		t.Errorf("the ledger has %d of 60 beacons: %v", counted, again.ledger(t))
	}
}

// fromStart returns positions without a commit.
func fromStart() (all []group.Position) {
	for p := range partitions {
		for _, name := range []string{topic.Events, topic.Windows} {
			all = append(all, group.Position{Topic: name, Partition: p, Offset: -1})
		}
	}
	return all
}

// deps are the dependencies of lanes.
func (w *world) deps(metrics prometheus.Registerer) Deps {
	return Deps{Broker: w.kafka, Erasures: w.erasures, Metrics: metrics,
		Log: slog.New(slog.NewTextHandler(testLog{w.t}, nil))}
}
