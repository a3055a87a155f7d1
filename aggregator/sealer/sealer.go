// Package sealer builds sealed history: the visits, hits and rollups of the days of sites, from the rows of
// `events`.
//
// The unit is a site's day. A build of any number of them has a random number, the seal, which is a partition
// of each table. Nothing reads a partition before the table `seals` names it, and one insert there makes the
// seal that of its days. So a build may fail between any two statements, and several sealers may build the
// same days at once: what no row of `seals` names is dropped later.
//
// A seal is current while the sum of its day's marks (table `marks`) is what the build saw, since whatever
// changes the rows of a day adds a mark afterwards. A day without a current seal is read from `events`.
package sealer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/retry"
)

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Select(ctx context.Context, dest any, query string, args ...any) error
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// Config of a Sealer. Values of 0 take the defaults in brackets.
type Config struct {
	Memory   uint64        // of a statement, bytes [1 GiB]
	Slice    uint64        // events that one statement folds, about [300,000]
	Large    uint64        // a day with as many events is sealed while it is open [100,000]
	Rolled   uint64        // a day with as many visits has rollups [300]
	Interval time.Duration // between two looks for days that have changed [15 s]; while none has, a minute
	Quiet    time.Duration // a day that is over is built after so long without a change [30 s]
}

const (
	defaultMemory   = 1 << 30
	defaultSlice    = 300_000
	defaultLarge    = 100_000
	defaultRolled   = 300
	defaultInterval = 15 * time.Second
	defaultQuiet    = 30 * time.Second

	share      = 20              // a day that goes on changing is built for a twentieth of the time
	leastSlice = 20_000          // events
	leastGap   = time.Minute     // between two builds of such a day
	maxUnits   = 2000            // days of one build
	failures   = 3               // counts of a day that differ in a row are an error
	pause      = 5 * time.Second // after a failure

	idleAfter    = 5 * time.Minute // without a change there is a look each idleInterval
	idleInterval = time.Minute
)

// Sealer seals days.
type Sealer struct {
	cfg       Config
	db        *client
	log       *slog.Logger
	metrics   *metrics
	days      map[unit]*state      // that wait, or were built by this sealer and may be open
	garbage   map[string]time.Time // partitions that no seal names, since when
	started   bool                 // what has no mark has been marked
	looked    time.Time            // for months to compact
	compacted map[uint16]time.Time // by the first days of months
	ended     map[string]bool      // seals whose builds have ended here
	changed   time.Time            // marks were last seen to change
	now       func() time.Time
	orphanAge time.Duration // see clean.go
}

// unit is the day of a site, since 1970.
type unit struct {
	site string
	day  uint16
}

// state is what a sealer remembers of a day that isn't current.
type state struct {
	marks     uint64
	changed   time.Time // the marks were first seen
	since     time.Time // it waits
	built     time.Time // it was last built by this sealer
	took      time.Duration
	differing int       // counts in a row that differed
	sized     time.Time // its rows were last counted
	offset    int32     // of its newest row, s
}

// New makes a sealer. Run starts it.
func New(cfg Config, db database, log *slog.Logger, reg prometheus.Registerer) *Sealer {
	set := func(p *uint64, value uint64) {
		if *p == 0 {
			*p = value
		}
	}
	set(&cfg.Memory, defaultMemory)
	set(&cfg.Slice, defaultSlice)
	set(&cfg.Large, defaultLarge)
	set(&cfg.Rolled, defaultRolled)
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = defaultQuiet
	}
	return &Sealer{cfg: cfg, db: newClient(db, cfg.Memory), log: log, metrics: newMetrics(reg),
		days: map[unit]*state{}, garbage: map[string]time.Time{}, ended: map[string]bool{},
		compacted: map[uint16]time.Time{}, now: time.Now, orphanAge: orphanAge}
}

// Run seals what is due until ctx ends.
func (s *Sealer) Run(ctx context.Context) {
	s.changed = s.now() // a new owner looks often at first
	defer func() {      // another instance goes on
		s.metrics.waiting.Set(0)
		s.metrics.oldest.Set(0)
	}()
	for {
		wait := s.cfg.Interval
		more, err := s.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.metrics.failures.Inc()
			s.log.Warn("can't seal days, trying again", "error", err)
			wait = max(wait, pause)
		case more:
			wait = 0
		case s.now().Sub(s.changed) > idleAfter:
			wait = retry.UntilNext(idleInterval)
		default:
			wait += rand.N(wait/8 + 1)
		}
		if retry.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// turn seals what is due now, and cleans up. more says that a next turn has work at once.
func (s *Sealer) turn(ctx context.Context) (more bool, err error) {
	if !s.started {
		if err := s.mend(ctx); err != nil {
			return false, err
		}
		if err := s.markUnmarked(ctx); err != nil {
			return false, err
		}
		s.started = true
	}
	due, more, err := s.due(ctx)
	if err != nil {
		return false, err
	}
	batches, err := s.plan(ctx, due)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, b := range batches {
		if err := s.build(ctx, b); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
		}
	}
	if !more && errors.Join(errs...) == nil {
		errs = append(errs, s.compact(ctx))
	}
	errs = append(errs, s.clean(ctx))
	return more && errors.Join(errs...) == nil, errors.Join(errs...)
}
