package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator"
	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/embedded"
	"nowcast/internal/erasure"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

const (
	partitions    = 4
	logSpan       = 100 * time.Second // event time that the lanes are measured on
	partitionRate = 10_000            // events/s of a partition in it
	storeLimit    = 40 * time.Second  // of the store lane's measurement
	logEvents     = int(logSpan/time.Second) * partitionRate * partitions
)

// longLog is a Kafka with a long events topic.
type longLog struct {
	dir        string
	addrs      []string
	broker     *broker.Client
	generators []*eventGenerator // by partition
	end        time.Time         // of the event time written so far
}

// cost is what a measurement took.
type cost struct{ wall, cpu time.Duration }

func (c cost) print(name string, events int, more string) {
	fmt.Printf("%-36s %8d events in %7v, CPU %7v: %5.0f ns/event, %5.2f M events/CPU-s%s\n", name, events,
		c.wall.Round(time.Millisecond), c.cpu.Round(time.Millisecond),
		float64(c.cpu.Nanoseconds())/float64(events),
		float64(events)/c.cpu.Seconds()/1e6, more)
}

// measure returns what f costs this process.
func measure(f func() error) (c cost, err error) {
	begin, before := time.Now(), ownCPU()
	err = f()
	return cost{time.Since(begin), ownCPU() - before}, err
}

// benchAggregator measures the lanes of an aggregator one after the other on the same log, in this process.
func benchAggregator(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := &longLog{dir: dir}
	stop, err := l.startKafka(ctx)
	if err != nil {
		return err
	}
	defer stop()
	l.broker = broker.New(broker.Config{Addrs: l.addrs})
	defer l.broker.Close()
	if err := l.broker.Ensure(ctx, topic.Specs(partitions, 1), nil); err != nil {
		return err
	}
	for p := range partitions {
		l.generators = append(l.generators, newEventGenerator(p))
	}
	logf("writing %d events", logEvents)
	// No event may be in the future, and all have to be within the warm-up's 16 minutes when the last
	// measurement begins.
	if err := l.write(ctx, time.Now().Add(-11*time.Minute), logSpan, partitionRate); err != nil {
		return err
	}
	for _, f := range []func(context.Context) error{l.measureWindowsLane, l.measureStoreLane,
		l.measureKill} {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startKafka starts a real Kafka or, where there is none, the embedded broker.
func (l *longLog) startKafka(ctx context.Context) (stop func(), err error) {
	k, err := kafkatest.Start(kafkatest.Config{Dir: filepath.Join(l.dir, "kafka"), HeapMB: 512})
	if err == nil {
		l.addrs = k.Addrs()
		return k.Stop, nil
	}
	if !errors.Is(err, kafkatest.ErrUnavailable) {
		return nil, err
	}
	logf("%v", err)
	fmt.Println("on the embedded broker: don't compare these figures with those on Kafka")
	cfg := embedded.Config{Dir: l.dir, Log: slog.New(slog.DiscardHandler), PartitionBytes: 4 << 30}
	b, err := embedded.NewBroker(cfg)
	if err != nil {
		return nil, err
	}
	l.addrs = []string{b.Addr()}
	return background(ctx, b.Run), nil
}

// measureWindowsLane measures a loop that only fetches, the lane from the log's start to its end, and a
// second start of the lane, which rebuilds the state of the first from the log.
func (l *longLog) measureWindowsLane(ctx context.Context) error {
	logf("fetching")
	var records, bytes atomic.Int64
	base, err := measure(func() error {
		return l.fetch(ctx, func(r broker.Record) error {
			records.Add(1)
			bytes.Add(int64(len(r.Value)))
			return nil
		})
	})
	if err != nil {
		return err
	}
	if n := int(records.Load()) * eventsPerEnvelope; n < logEvents {
		return fmt.Errorf("fetched %d of %d events", n, logEvents)
	}
	base.print("only fetching", logEvents, fmt.Sprintf(", %d bytes/event", bytes.Load()/int64(logEvents)))
	logf("windows lane")
	cfg := aggregator.Config{Windows: true}
	c, _, err := l.runAggregator(ctx, cfg, nil, func(m *prometheus.Registry) bool {
		n, _ := sumMetric(m, "nowcast_aggregator_events_total")
		return int(n) >= logEvents
	})
	if err != nil {
		return err
	}
	c.print("windows lane", logEvents, fmt.Sprintf(", %.1f times only fetching",
		float64(c.cpu)/float64(base.cpu)))
	logf("warm-up")
	c, m, err := l.runAggregator(ctx, cfg, nil, func(m *prometheus.Registry) bool {
		_, n := sumMetric(m, "nowcast_aggregator_warm_up_seconds")
		return n == partitions
	})
	if err != nil {
		return err
	}
	took := maxMetric(m, "nowcast_aggregator_warm_up_seconds")
	c.print("warm-up", logEvents, fmt.Sprintf(", all partitions after %.2f s: %.2f M events/s", took,
		float64(logEvents)/took/1e6))
	return nil
}

// fetch hands every record of the log to record.
func (l *longLog) fetch(ctx context.Context, record func(broker.Record) error) error {
	errEnd := errors.New("end of the log")
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			errs[p] = l.broker.Follow(ctx, broker.Follower{Topic: topic.Events, Partition: p, Record: record,
				Batch: func(next, end int64) error {
					if next >= end {
						return errEnd
					}
					return nil
				}})
			if errors.Is(errs[p], errEnd) {
				errs[p] = nil
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// runAggregator runs an aggregator until done holds, and stops it, which makes it commit. The cost is that
// of both.
func (l *longLog) runAggregator(ctx context.Context, cfg aggregator.Config, db *warehouse.DB,
	done func(*prometheus.Registry) bool) (cost, *prometheus.Registry, error) {
	m := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	erasures, stop, err := erasure.Follow(ctx, l.broker, log)
	if err != nil {
		return cost{}, nil, err
	}
	defer stop()
	a, err := aggregator.New(cfg, aggregator.Deps{Broker: l.broker, Erasures: erasures, Warehouse: db,
		Log:     log,
		Metrics: m})
	if err != nil {
		return cost{}, nil, err
	}
	c, err := measure(func() error {
		defer background(ctx, a.Run)()
		err := waitFor(ctx, 3*time.Minute, func() bool { return done(m) })
		if err != nil {
			n, _ := sumMetric(m, "nowcast_aggregator_events_total")
			_, reason := a.Ready()
			err = fmt.Errorf("run aggregator: %w: %.0f events read; %s", err, n, reason)
		}
		return err
	})
	return c, m, err
}

// measureStoreLane measures the store lane into an embedded ClickHouse until it has stored all events of
// the log, at most for storeLimit. Of the windows topic it stores what the windows lane before made final.
// The faster the lane, the more of the engine's merges come after it; they are printed apart.
func (l *longLog) measureStoreLane(ctx context.Context) error {
	logf("store lane")
	engine, stop, err := startClickHouse(ctx, l.dir)
	if err != nil {
		return err
	}
	defer stop()
	db, err := warehouse.Open(engine.DSN())
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is read from it afterwards
	if err := db.Wait(ctx, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	before, end := cpuOf(engine.PID()), time.Now().Add(storeLimit)
	stored := func(m *prometheus.Registry, table string) int {
		n, _ := sumMetric(m, "nowcast_aggregator_stored_rows_total", table)
		return int(n)
	}
	c, m, err := l.runAggregator(ctx, aggregator.Config{Store: true}, db, func(m *prometheus.Registry) bool {
		return stored(m, "events") >= logEvents || time.Now().After(end)
	})
	if err != nil {
		return err
	}
	own := c.cpu
	c.cpu += cpuOf(engine.PID()) - before
	merges := cpuUntilIdle(ctx, engine.PID())
	n, windows := stored(m, "events"), stored(m, "windows")
	rows := float64(n + windows)
	c.print("store lane, with its ClickHouse", n,
		fmt.Sprintf("; with %d rows of windows %.0f k rows/s, %.0f k rows/CPU-s, "+
			"%.0f %% of the CPU the engine's; %v more for merges later", windows, rows/c.wall.Seconds()/1e3,
			rows/c.cpu.Seconds()/1e3, 100*(1-own.Seconds()/c.cpu.Seconds()), merges))
	return nil
}

// startClickHouse starts an embedded ClickHouse.
func startClickHouse(ctx context.Context, dir string) (*embedded.ClickHouse, func(), error) {
	library, err := embedded.FindLibrary("bin/libchdb.so")
	if err != nil {
		return nil, nil, err
	}
	cfg := embedded.Config{Dir: dir, Library: library, Log: slog.New(slog.DiscardHandler)}
	engine, err := embedded.NewClickHouse(cfg)
	if err != nil {
		return nil, nil, err
	}
	return engine, background(ctx, engine.Run), nil
}

// cpuUntilIdle waits until a process uses less than 5 % of a core, and returns the CPU time that it used
// until then.
func cpuUntilIdle(ctx context.Context, pid int) time.Duration {
	begin := cpuOf(pid)
	for last := begin; retry.Sleep(ctx, time.Second) == nil; {
		now := cpuOf(pid)
		if now-last < 50*time.Millisecond {
			return now - begin
		}
		last = now
	}
	return 0
}

// sumMetric adds up the values of a metric that have all the label values, and counts them.
func sumMetric(r *prometheus.Registry, name string, labels ...string) (sum float64, n int) {
	eachMetric(r, name, labels, func(v float64) { sum += v; n++ })
	return sum, n
}

func maxMetric(r *prometheus.Registry, name string) (largest float64) {
	eachMetric(r, name, nil, func(v float64) { largest = max(largest, v) })
	return largest
}

func eachMetric(r *prometheus.Registry, name string, labels []string, f func(float64)) {
	families, _ := r.Gather()
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			has := 0
			for _, l := range m.GetLabel() {
				for _, want := range labels {
					if l.GetValue() == want {
						has++
					}
				}
			}
			if has == len(labels) {
				f(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
}
