// Package aggregator is the role that turns the log into windows and history. It has three lanes, each a
// consumer group of its own:
//
//	windows: nowcast.events.v1 ─► fold ─► nowcast.windows.v1
//	store:   nowcast.events.v1  ─► ClickHouse `events`, `ledger` and `cuts`
//	         nowcast.windows.v1 ─► ClickHouse `windows`
//	seal:    ClickHouse `events` ─► ClickHouse `visits`, `hits`, `rollups`, see package sealer
//
// Each event of the log counts once in its second, or is late and marked so. A final row never changes. A
// query with FINAL sees each event in ClickHouse once.
//
// The only state is positions in the log. All output is a function of the log, see package fold, and is
// written as an upsert; a position is committed after the sinks have acknowledged everything before it. So a
// crash costs reading sixteen minutes of log again, and two instances that both believe to own a partition
// write the same rows.
//
// While Kafka is unavailable both lanes wait. While ClickHouse is unavailable the store lane waits and falls
// behind in the log; the windows lane doesn't depend on it. Losses are logged and counted: records that
// retention deleted unread, and records that can't be decoded, whose positions go to nowcast.dead-letter.v1.
// A partition whose rebuilt state isn't the committed one is halted, with the reason in Ready: no rows are
// better than wrong rows.
//
// An erased event (package erasure) is classified like others and is in no row that is made from then on.
//
// What is older than the log loses its position: events have it cleared, rows of the ledger are summed.
package aggregator

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/group"
	"nowcast/aggregator/sealer"
	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

// Config of a Service. Durations of 0 take the defaults in brackets.
type Config struct {
	Windows bool // run the windows lane, which writes nowcast.windows.v1
	Store   bool // run the store lane, which writes ClickHouse
	Seal    bool // run the seal lane, which builds sealed history in ClickHouse

	// Instance makes the consumers static members of their groups (group.instance.id): an instance that
	// restarts under the same name within Session keeps its partitions. Names must be unique.
	Instance string
	Session  time.Duration // a silent instance loses its partitions after this time [10 s]
	Drain    time.Duration // time to finish writes when Run's context ends [3 s]

	// Heartbeat is the time between two heartbeats to the groups' coordinator, by which an instance also
	// learns that the partitions are to be distributed again [500 ms].
	Heartbeat time.Duration
	// Repair writes rows again that ClickHouse has lost with a broken part. For a ClickHouse of this process.
	Repair bool

	sealer      sealer.Config
	firstRollup time.Duration // from the start to the first roll-up, at most twice that [10 min]
}

const (
	windowsLane = "windows"
	storeLane   = "store"
	sealLane    = "seal"
)

const (
	defaultSession = 10 * time.Second
	defaultDrain   = 3 * time.Second

	defaultFirstRollup = 10 * time.Minute
)

// Deps are a Service's dependencies.
type Deps struct {
	Broker    *broker.Client
	Erasures  *erasure.Log  // running; no partition is read before it is ready
	Warehouse *warehouse.DB // may be nil with the windows lane alone
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service runs the lanes of one instance.
type Service struct {
	lanes []*lane // that of the windows is the first
	db    *warehouse.DB
	deps  Deps
	cfg   Config
	log   *slog.Logger
}

// New validates the configuration and wires a Service. Run starts it.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg.Session = cmp.Or(cfg.Session, defaultSession)
	cfg.Drain = cmp.Or(cfg.Drain, defaultDrain)
	cfg.firstRollup = cmp.Or(cfg.firstRollup, defaultFirstRollup)
	switch {
	case !cfg.Windows && !cfg.Store && !cfg.Seal:
		return nil,
			errors.New("an aggregator without lanes has nothing to do: choose windows, store, seal " +
				"or several")
	case (cfg.Store || cfg.Seal) && deps.Warehouse == nil:
		return nil, errors.New("the store lane and the seal lane need a ClickHouse")
	case deps.Broker == nil || deps.Erasures == nil || deps.Log == nil || deps.Metrics == nil:
		return nil,
			errors.New("an aggregator needs a broker, the erasures, a logger and a registry of metrics")
	}
	s := &Service{log: deps.Log, deps: deps, cfg: cfg, db: deps.Warehouse}
	m := newMetrics(deps.Metrics)
	if cfg.Windows {
		s.lanes = append(s.lanes, newLane(windowsLane, cfg, deps, m, newWindowsWork, topic.Events))
	}
	if cfg.Store {
		start := func(d *laneDeps, committed []group.Position) work {
			return newStoreWork(d, deps.Warehouse, committed)
		}
		s.lanes = append(s.lanes, newLane(storeLane, cfg, deps, m, start, topic.Events, topic.Windows))
	}
	if cfg.Seal {
		x := sealer.New(cfg.sealer, deps.Warehouse, deps.Log.With("lane", sealLane), deps.Metrics)
		start := func(_ *laneDeps, committed []group.Position) work { return newSealWork(committed, x) }
		s.lanes = append(s.lanes, newLane(sealLane, cfg, deps, m, start, topic.Events))
	}
	return s, nil
}

// Run works until ctx ends. Then it drains, commits and, without Config.Instance, leaves the groups. It fails
// only if ClickHouse's tables can't be created.
func (s *Service) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(s.lanes))
	var wg sync.WaitGroup
	for i, l := range s.lanes {
		wg.Go(func() {
			if l.name != windowsLane {
				if errs[i] = s.migrate(ctx); errs[i] != nil {
					stop()
					return
				}
			}
			if l.name == storeLane {
				wg.Go(func() {
					if s.cfg.Repair && ctx.Err() == nil {
						s.repair(ctx) // before rows that it writes again are summed
					}
					s.newRollup().runUntil(ctx, s.cfg.firstRollup)
				})
				wg.Go(func() { s.clearPositionsUntil(ctx) })
			}
			l.member.Run(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// migrate waits for ClickHouse and creates missing tables. It returns nil when ctx ends.
func (s *Service) migrate(ctx context.Context) error {
	err := s.db.Wait(ctx, s.log)
	if err == nil {
		err = s.db.Migrate(ctx)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is no failure
	}
	return err
}

// Ready reports whether the lanes have their partitions and keep up with them, and if not, why. The store
// lane counts only where there is no windows lane, which does its work without ClickHouse, and the seal lane
// only alone.
func (s *Service) Ready() (bool, string) {
	var reasons []string
	for _, l := range s.lanes {
		if reason := l.unready(); reason != "" && !s.isLesser(l) {
			reasons = append(reasons, l.name+" lane: "+reason)
		}
	}
	return len(reasons) == 0, strings.Join(reasons, "; ")
}

// Degraded says under "store" why the store lane doesn't keep up, where there is a windows lane too.
func (s *Service) Degraded() map[string]string {
	var all map[string]string
	for _, l := range s.lanes {
		if l.name != storeLane || !s.isLesser(l) {
			continue
		}
		if reason := l.unready(); reason != "" {
			all = map[string]string{l.name: reason}
		}
	}
	return all
}

// isLesser reports whether the process does its main work without a lane. Without the seal lane history is
// slower, and as exact.
func (s *Service) isLesser(l *lane) bool {
	return l.name == storeLane && s.lanes[0].name == windowsLane || l.name == sealLane && len(s.lanes) > 1
}
