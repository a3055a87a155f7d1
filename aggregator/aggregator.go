// Package aggregator is the role that turns the log into windows and history. It has two lanes, each a consumer group of its own:
//
//	windows: nowcast.events.v1 ─► fold ─► nowcast.windows.v1
//	store:   nowcast.events.v1 ─► ClickHouse `events` and `ledger`,  nowcast.windows.v1 ─► ClickHouse `windows`
//
// It promises that each event of the log counts once in its second, or is late and marked so; that a row which was said to be final never
// changes; and that each event is in ClickHouse once, for whoever reads with FINAL. It keeps nothing for that but positions in the log:
// whatever it writes is a function of the log (see package fold), written as an upsert, and a position is committed only after what
// came before it was acknowledged. So a crash costs reading sixteen minutes again, and two instances that both believe to own a partition
// write the same rows.
//
// While Kafka is away it waits; while ClickHouse is, the store lane waits and falls behind in the log, and the windows lane doesn't notice. What
// can't be kept is said and counted: records that retention took unread, records that can't be decoded (their positions go to
// nowcast.dead-letter.v1). A partition whose rebuilt state isn't the one that was committed is left alone, loudly: better no numbers than
// wrong ones.
package aggregator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

// Config says what to do. Durations of 0 take the defaults in brackets.
type Config struct {
	Windows bool // the lane that writes nowcast.windows.v1
	Store   bool // the lane that writes ClickHouse

	Instance string        // a name that this instance has again after a restart and no other has: it keeps its partitions then
	Session  time.Duration // until a silent instance loses its partitions [10 s]
	Drain    time.Duration // for what is under way when it has to stop [3 s]
}

// Deps are what a Service works with.
type Deps struct {
	Broker    *broker.Client
	Warehouse *warehouse.DB // nil without the store lane
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service is the role.
type Service struct {
	lanes []*lane
	db    *warehouse.DB
	log   *slog.Logger
}

// New makes a Service; Run starts it.
func New(cfg Config, deps Deps) (*Service, error) {
	if cfg.Session == 0 {
		cfg.Session = 10 * time.Second
	}
	if cfg.Drain == 0 {
		cfg.Drain = 3 * time.Second
	}
	switch {
	case !cfg.Windows && !cfg.Store:
		return nil, errors.New("an aggregator without lanes has nothing to do: choose windows, store or both")
	case cfg.Store && deps.Warehouse == nil:
		return nil, errors.New("the store lane needs a ClickHouse")
	case deps.Broker == nil || deps.Log == nil || deps.Metrics == nil:
		return nil, errors.New("an aggregator needs a broker, a logger and a registry of metrics")
	}
	s := &Service{log: deps.Log}
	m := newMetrics(deps.Metrics)
	if cfg.Windows {
		s.lanes = append(s.lanes, newLane("windows", cfg, deps, m, newWindowsWork, topic.Events))
	}
	if cfg.Store {
		s.db = deps.Warehouse
		start := func(l *lane, partitions []int, committed []group.Position) work {
			return newStoreWork(l, deps.Warehouse, committed)
		}
		s.lanes = append(s.lanes, newLane("store", cfg, deps, m, start, topic.Events, topic.Windows))
	}
	return s, nil
}

// Run works until ctx ends, then drains, commits and, without the name of an instance, leaves the groups. It fails only when ClickHouse's tables can't be made.
func (s *Service) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(s.lanes))
	var wg sync.WaitGroup
	for i, l := range s.lanes {
		wg.Go(func() {
			if l.name == "store" {
				if errs[i] = s.tables(ctx); errs[i] != nil {
					stop()
					return
				}
			}
			l.member.Run(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// tables waits for ClickHouse and makes what is missing there.
func (s *Service) tables(ctx context.Context) error {
	err := s.db.Wait(ctx, s.log)
	if err == nil {
		err = s.db.Migrate(ctx)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of the work is no failure of it
	}
	return err
}

// Ready says whether every lane knows its partitions and keeps up with them, and if not, why.
func (s *Service) Ready() (bool, string) {
	var reasons []string
	for _, l := range s.lanes {
		if reason := l.unready(); reason != "" {
			reasons = append(reasons, l.name+" lane: "+reason)
		}
	}
	return len(reasons) == 0, strings.Join(reasons, "; ")
}

// work is what a lane does with its partitions.
type work interface {
	group.Work
	unready() string // why it isn't ready, "" if it is
}

// lane is a consumer group and what its work shares.
type lane struct {
	name            string
	cfg             Config
	broker          *broker.Client
	log             *slog.Logger
	metrics         *metrics
	member          *group.Member
	run             string        // of a rewind: part of its tokens
	recreationGrace time.Duration // of a log that seems too short

	mu   sync.Mutex
	work work
}

func newLane(name string, cfg Config, deps Deps, m *metrics, start func(*lane, []int, []group.Position) work, topics ...string) *lane {
	l := &lane{name: name, cfg: cfg, broker: deps.Broker, log: deps.Log.With("lane", name), metrics: m, recreationGrace: broker.RecreationGrace}
	l.member = group.New(group.Config{Group: topic.Group(name), Instance: cfg.Instance, Topics: topics, Session: cfg.Session,
		Rebalanced: func(partitions []int) { m.assigned(name, partitions) },
		Start: func(partitions []int, committed []group.Position) group.Work {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.work = start(l, partitions, committed)
			return l.work
		}}, deps.Broker, l.log)
	return l
}

func (l *lane) unready() string {
	if ok, reason := l.member.Ready(); !ok {
		return reason
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.work.unready()
}

// drain gives a context for what is under way when ctx ends: it outlives ctx by cfg.Drain.
func (l *lane) drain(ctx context.Context) (context.Context, context.CancelFunc) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(l.cfg.Drain, cancel)
	})
	return hard, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel()
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// seldom is true at most every five seconds.
type seldom struct{ last time.Time }

func (s *seldom) now() bool {
	now := time.Now()
	if now.Sub(s.last) < 5*time.Second {
		return false
	}
	s.last = now
	return true
}
