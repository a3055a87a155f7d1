package aggregator

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
	"nowcast/internal/embedded"
	"nowcast/internal/erasure"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
	"nowcast/internal/window"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const partitions = 2

// world is a broker in this process, an ingest node and a tail of the windows topic.
type world struct {
	t     *testing.T
	kafka *broker.Client
	db    *warehouse.DB

	engine *embedded.ClickHouse // of newEngineWorld

	cluster   *kfake.Cluster
	erasures  *erasure.Log // of lanes; nil: none
	maxFinals int          // pending final rows, if not the usual number
	garbage   atomic.Bool  // the test writes windows that can't be read

	clock    int64 // ms
	node     uint64
	sequence [partitions]uint64
	log      [partitions][]fold.Envelope

	mu        sync.Mutex
	emissions []window.Emission
	arrived   []time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	w := &world{t: t, cluster: k, kafka: broker.New(broker.Config{Addrs: k.ListenAddrs()}),
		clock: time.Now().UnixMilli(), node: 7}
	t.Cleanup(w.kafka.Close)
	if err := w.kafka.Ensure(t.Context(), topic.Specs(partitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var tails sync.WaitGroup
	t.Cleanup(func() { stop(); tails.Wait() })
	for p := range partitions {
		tails.Go(func() {
			_ = w.kafka.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: p,
				Record: func(r broker.Record) error {
					var e window.Emission
					if err := e.Decode(append([]byte(nil), r.Value...)); err != nil {
						if !w.garbage.Load() {
							t.Error(err)
						}
						return nil
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					w.emissions, w.arrived = append(w.emissions, e), append(w.arrived, time.Now())
					return nil
				}})
		})
	}
	return w
}

// start runs an aggregator until stop or the end of the test.
func (w *world) start(cfg Config) (s *Service, stop func()) {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(testLog{w.t}, nil))
	erasures, stopErasures, err := erasure.Follow(w.t.Context(), w.kafka, log)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err = New(cfg, Deps{Broker: w.kafka, Erasures: erasures, Warehouse: w.db, Log: log,
		Metrics: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
			stopErasures()
		})
	}
	w.t.Cleanup(stop)
	w.until(30*time.Second, "ready", func() string { return reasonOf(s) })
	return s, stop
}

func isReady(s *Service) bool { ok, _ := s.Ready(); return ok }

// reasonOf is why a service isn't ready, or is degraded; "" when it does all of its work.
func reasonOf(s *Service) string {
	_, reason := s.Ready()
	for lane, why := range s.Degraded() {
		reason += lane + " lane: " + why
	}
	return reason
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// until polls what until it returns "".
func (w *world) until(limit time.Duration, name string, what func() string) {
	w.t.Helper()
	end := time.Now().Add(limit)
	for {
		still := what()
		if still == "" {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("not %s after %v: %s", name, limit, still)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// send writes an envelope of the node at the world's clock. Without events it is a tick.
func (w *world) send(partition int, events ...event.Event) {
	w.t.Helper()
	w.sequence[partition]++
	e := fold.Envelope{Offset: int64(len(w.log[partition])), Time: w.clock,
		Header: event.Header{Version: event.Version, Node: w.node, Sequence: w.sequence[partition],
			Low: w.clock - 1}, Events: events}
	for _, x := range events {
		e.Header.Low = min(e.Header.Low, x.Time-1)
	}
	w.append(partition, e)
}

func (w *world) append(partition int, e fold.Envelope) {
	w.t.Helper()
	b := event.AppendHeader(nil, e.Header)
	for i := range e.Events {
		b = event.AppendEvent(b, &e.Events[i])
	}
	for _, x := range e.Tallies {
		b = event.AppendTally(b, x)
	}
	if _, err := w.kafka.Produce(w.t.Context(), topic.Events, partition, time.UnixMilli(e.Time),
		b); err != nil {
		w.t.Fatal(err)
	}
	w.log[partition] = append(w.log[partition], e)
}

func (w *world) view(visitor uint64, path string) event.Event {
	return event.Event{Time: w.clock, Visitor: visitor, Kind: event.Pageview, Name: "pageview",
		Site: "example.com", Hostname: "example.com", Path: path, Country: "DE", Device: "Desktop"}
}

// emitted returns everything that has been emitted: the newest content of each row and list. It fails the
// test if one version has two contents.
func (w *world) emitted() (rows map[string]window.Second, nows map[string]window.Now,
	watermark [partitions]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, nows = map[string]window.Second{}, map[string]window.Now{}
	versions := map[string]window.Second{}
	for _, e := range w.emissions {
		watermark[e.Partition] = max(watermark[e.Partition], e.Watermark)
		for _, s := range e.Seconds {
			key := fmt.Sprint(e.Partition, " ", s.Site, " ", s.At)
			version := fmt.Sprint(key, " ", s.Version)
			if old, has := versions[version]; has && old != s {
				w.t.Errorf("two contents of one version: %+v, %+v", old, s)
			}
			versions[version] = s
			if s.Version >= rows[key].Version {
				rows[key] = s
			}
		}
		for _, n := range e.Nows {
			if key := fmt.Sprint(e.Partition, " ", n.Site); n.Version >= nows[key].Version {
				nows[key] = n
			}
		}
	}
	return rows, nows, watermark
}

// want returns the rows of one pass over the log.
func (w *world) want() map[string]window.Second {
	rows := map[string]window.Second{}
	for p := range partitions {
		all := fold.NewWindows(fold.StandardRules())
		for _, e := range w.log[p] {
			e.Events = append([]event.Event(nil), e.Events...)
			finals, _ := all.Apply(&e)
			keep := func(s *window.Second) { rows[fmt.Sprint(p, " ", s.Site, " ", s.At)] = *s }
			all.Fold.Provisional(keep)
			for i := range finals {
				keep(&finals[i])
			}
		}
	}
	return rows
}

// agree waits until the emitted rows are exactly those of one pass over the log.
func (w *world) agree() {
	w.t.Helper()
	want := w.want()
	w.until(10*time.Second, "all emitted", func() string {
		rows, _, _ := w.emitted()
		return differs(rows, want)
	})
}

// differs describes a difference between rows and want, or returns "".
func differs[R comparable](rows, want map[string]R) string {
	for k, r := range want {
		if rows[k] != r {
			return fmt.Sprintf("%s: %+v, want %+v", k, rows[k], r)
		}
	}
	if len(rows) != len(want) {
		return fmt.Sprintf("%d rows, want %d", len(rows), len(want))
	}
	return ""
}

// newEngineWorld makes a world whose database is the real engine.
func newEngineWorld(t *testing.T) *world {
	t.Helper()
	library, err := embedded.FindLibrary("../bin/libchdb.so")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.NewClickHouse(embedded.Config{Dir: t.TempDir(), Library: library,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	w.engine = engine
	if w.db, err = warehouse.Open(engine.DSN()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	return w
}
