package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator"
	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/embedded"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

const (
	partitions = 4
	lasting    = 100 * time.Second // of the log's own time that lanes are measured on
	rate       = 10_000            // events/s of each partition in it
	storing    = 40 * time.Second  // at most, of the store lane
	events     = int(lasting/time.Second) * rate * partitions
)

// rig is a Kafka with a long log.
type rig struct {
	dir    string
	addrs  []string
	broker *broker.Client
	logs   []*traffic // by partition
	end    time.Time  // of what was written
}

// spent is what a measurement took.
type spent struct{ wall, cpu time.Duration }

func (s spent) print(name string, events int, more string) {
	fmt.Printf("%-36s %8d events in %7v, CPU %7v: %5.0f ns/event, %5.2f M events/CPU-s%s\n", name, events, s.wall.Round(time.Millisecond), s.cpu.Round(time.Millisecond),
		float64(s.cpu.Nanoseconds())/float64(events), float64(events)/s.cpu.Seconds()/1e6, more)
}

// aggregate measures the lanes of an aggregator one after the other on the same log, in this process.
func aggregate(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &rig{dir: dir}
	stop, err := r.kafka(ctx)
	if err != nil {
		return err
	}
	defer stop()
	r.broker = broker.New(broker.Config{Addrs: r.addrs})
	defer r.broker.Close()
	if err := r.broker.Ensure(ctx, topic.Specs(partitions, 1), nil); err != nil {
		return err
	}
	for p := range partitions {
		r.logs = append(r.logs, newTraffic(p))
	}
	say("writing %d events", events)
	// Nothing may lie ahead, and all of it within the warm-up's 16 minutes when the last measurement begins.
	if err := r.write(ctx, time.Now().Add(-11*time.Minute), lasting, rate); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{r.lane, r.store, r.killed} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// say tells whoever waits what is being done.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// kafka starts a real one, or where there is none, the embedded broker.
func (r *rig) kafka(ctx context.Context) (stop func(), err error) {
	k, err := kafkatest.Start(kafkatest.Config{Dir: filepath.Join(r.dir, "kafka"), HeapMB: 512})
	if err == nil {
		r.addrs = k.Addrs()
		return k.Stop, nil
	}
	if !errors.Is(err, kafkatest.ErrUnavailable) {
		return nil, err
	}
	say("%v", err)
	fmt.Println("on the embedded broker, which is not what these figures are about")
	b, err := embedded.NewBroker(embedded.Config{Dir: r.dir, Log: slog.New(slog.DiscardHandler), PartitionBytes: 4 << 30})
	if err != nil {
		return nil, err
	}
	r.addrs = []string{b.Addr()}
	return run1(ctx, b.Run), nil
}

// run1 runs f until stop is called.
func run1(ctx context.Context, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			say("%v", err)
		}
	}()
	return func() { cancel(); <-done }
}

// measure says what f takes, of this process.
func measure(f func() error) (s spent, err error) {
	at, before := time.Now(), ownCPU()
	err = f()
	return spent{time.Since(at), ownCPU() - before}, err
}

// lane measures the windows lane: a loop that only fetches, the lane from the log's start to its end, and a second start, which has to
// rebuild what the first one knew.
func (r *rig) lane(ctx context.Context) error {
	say("fetching")
	var records, bytes atomic.Int64
	base, err := measure(func() error {
		return r.fetch(ctx, func(rec broker.Record) error { records.Add(1); bytes.Add(int64(len(rec.Value))); return nil })
	})
	if err != nil {
		return err
	}
	if got := int(records.Load()) * perEnvelope; got < events {
		return fmt.Errorf("fetched %d of %d events", got, events)
	}
	base.print("only fetching", events, fmt.Sprintf(", %d bytes/event", bytes.Load()/int64(events)))
	say("windows lane")
	cfg := aggregator.Config{Windows: true}
	s, _, err := r.service(ctx, cfg, nil, func(m *prometheus.Registry) bool {
		n, _ := series(m, "nowcast_aggregator_events_total")
		return int(n) >= events
	})
	if err != nil {
		return err
	}
	s.print("windows lane", events, fmt.Sprintf(", %.1f times only fetching", float64(s.cpu)/float64(base.cpu)))
	say("warm-up")
	s, m, err := r.service(ctx, cfg, nil, func(m *prometheus.Registry) bool {
		_, n := series(m, "nowcast_aggregator_warm_up_seconds")
		return n == partitions
	})
	if err != nil {
		return err
	}
	took := largest(m, "nowcast_aggregator_warm_up_seconds")
	s.print("warm-up", events, fmt.Sprintf(", all partitions after %.2f s: %.2f M events/s", took, float64(events)/took/1e6))
	return nil
}

// fetch reads the whole log and does nothing with it but what record does.
func (r *rig) fetch(ctx context.Context, record func(broker.Record) error) error {
	errEnd := errors.New("end of the log")
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			errs[p] = r.broker.Follow(ctx, broker.Follower{Topic: topic.Events, Partition: p, Record: record,
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

// service runs an aggregator until it has done what is asked of it, and stops it, which has it commit. All of that is measured.
func (r *rig) service(ctx context.Context, cfg aggregator.Config, db *warehouse.DB, done func(*prometheus.Registry) bool) (spent, *prometheus.Registry, error) {
	m := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := aggregator.New(cfg, aggregator.Deps{Broker: r.broker, Warehouse: db, Log: log, Metrics: m})
	if err != nil {
		return spent{}, nil, err
	}
	s, err := measure(func() error {
		stop := run1(ctx, a.Run)
		err := until(ctx, 3*time.Minute, func() bool { return done(m) })
		if err != nil { // where it stands says the most
			n, _ := series(m, "nowcast_aggregator_events_total")
			_, reason := a.Ready()
			err = fmt.Errorf("%w: %.0f events read; %s", err, n, reason)
		}
		stop()
		return err
	})
	return s, m, err
}

// store measures the store lane into an embedded ClickHouse, until all events of the log are in it or it has had its time. Of the windows
// topic it stores what the lane before made final. The faster the lane, the more of the engine's merges come after it: they are told apart.
func (r *rig) store(ctx context.Context) error {
	say("store lane")
	library, err := embedded.FindLibrary("bin/libchdb.so")
	if err != nil {
		return err
	}
	engine, err := embedded.NewClickHouse(embedded.Config{Dir: r.dir, Library: library, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer run1(ctx, engine.Run)()
	db, err := warehouse.Open(engine.DSN())
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	if err := db.Wait(ctx, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	before, end := cpuOf(engine.PID()), time.Now().Add(storing)
	stored := func(m *prometheus.Registry, table string) int {
		n, _ := series(m, "nowcast_aggregator_stored_rows_total", table)
		return int(n)
	}
	s, m, err := r.service(ctx, aggregator.Config{Store: true}, db, func(m *prometheus.Registry) bool {
		return stored(m, "events") >= events || time.Now().After(end)
	})
	if err != nil {
		return err
	}
	own := s.cpu
	s.cpu += cpuOf(engine.PID()) - before
	merged := settled(ctx, engine.PID())
	n, windows := stored(m, "events"), stored(m, "windows")
	rows := float64(n + windows)
	s.print("store lane, with its ClickHouse", n, fmt.Sprintf("; with %d rows of windows %.0f k rows/s, %.0f k rows/CPU-s, %.0f %% of the CPU the engine's; %v more for merges later", windows,
		rows/s.wall.Seconds()/1e3, rows/s.cpu.Seconds()/1e3, 100*(1-own.Seconds()/s.cpu.Seconds()), merged))
	return nil
}

// settled waits until a process has next to nothing to do, and says what CPU time that took.
func settled(ctx context.Context, pid int) time.Duration {
	begin := cpuOf(pid)
	for last := begin; ctx.Err() == nil; {
		pause(ctx, time.Second)
		now := cpuOf(pid)
		if now-last < 50*time.Millisecond {
			return now - begin
		}
		last = now
	}
	return 0
}

// until looks for what every 20 ms.
func until(ctx context.Context, limit time.Duration, what func() bool) error {
	for end := time.Now().Add(limit); !what(); {
		if time.Now().After(end) {
			return fmt.Errorf("not done after %v", limit)
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// series adds up the values of a metric that have the labels, and counts them.
func series(r *prometheus.Registry, name string, labels ...string) (sum float64, n int) {
	each(r, name, labels, func(v float64) { sum += v; n++ })
	return sum, n
}

func largest(r *prometheus.Registry, name string) (v float64) {
	each(r, name, nil, func(x float64) { v = max(v, x) })
	return v
}

func each(r *prometheus.Registry, name string, labels []string, f func(float64)) {
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

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf is the CPU time of another process, in hundredths of a second.
func cpuOf(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
