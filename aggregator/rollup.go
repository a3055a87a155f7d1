package aggregator

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// The statements of a roll-up.
var (
	//go:embed sql/rolled_up.sql
	selectRolledUp string
	//go:embed sql/roll_up_days.sql
	selectRollUpDays string
	//go:embed sql/roll_up.sql
	insertRollup string
	//go:embed sql/roll_up_erased.sql
	deleteErasedRollup string
	//go:embed sql/insert_rolled_up.sql
	insertRolledUp string
	//go:embed sql/delete_rolled_up.sql
	deleteRolledUp string
)

const (
	rollupInterval = time.Hour // between two looks, of which about two a day find work
	day            = 24 * time.Hour
	// storedLag is how far the store lane may be behind in a roll-up. An event that it stores later is newer
	// than positionLife: it was received at most ingest's --spool-age before its record was written.
	storedLag = day
)

// rollup sums the old rows of the table `ledger` over partitions and segments. A partition is the same for a
// visitor on every day.
//
// Two steps do so for all minutes before a midnight. A reader sees the same counts between any two
// statements:
//
//  1. The sums are inserted into `ledger_rollup`, and then the midnight into `rolled_up`. Readers take
//     minutes before it from the sums, but only an hour later. A query therefore finds complete sums, also
//     if it has begun before they were inserted.
//  2. An hour after that the rows are deleted from `ledger`. A query that still reads them has ended.
//
// All rows that are found before a midnight are summed, and sums of more segments replace sums of fewer. A
// rewind writes old rows again: they are hidden behind the sums, are summed to the same or less, and are
// deleted. So each step may run at any time, repeatedly and in several instances at once.
type rollup struct {
	db       executor
	log      *slog.Logger
	erasures func() []*erasure.Erasure
	// stored reports whether the store lane has stored everything that was in the log at a time
	stored func(ctx context.Context, at time.Time) (bool, error)
}

func (s *Service) newRollup() *rollup {
	return &rollup{db: s.db, log: s.log, erasures: s.deps.Erasures.All,
		stored: func(ctx context.Context, at time.Time) (bool, error) {
			return hasStored(ctx, s.deps.Broker, at)
		}}
}

// runUntil rolls up what is old once an hour, until ctx ends.
func (r *rollup) runUntil(ctx context.Context, first time.Duration) {
	for wait := first; retry.Sleep(ctx, wait+rand.N(wait)) == nil; wait = rollupInterval {
		if err := r.run(ctx, time.Now()); err != nil && !errors.Is(err, ctx.Err()) {
			r.log.Warn("roll up old rows of the ledger; trying again in an hour", "error", err)
		}
	}
}

// run does both steps, as far as they are due.
func (r *rollup) run(ctx context.Context, now time.Time) error {
	var found []struct {
		Newest  int64 `ch:"newest"`
		Settled int64 `ch:"settled"` // readers take the sums before it since an hour
	}
	if err := r.db.Select(ctx, &found, selectRolledUp); err != nil {
		return fmt.Errorf("find what is rolled up: %w", err)
	}
	before := now.UTC().Add(-positionLife).Truncate(day).Unix()
	if found[0].Newest < before {
		if err := r.advance(ctx, before, now); err != nil {
			return err
		}
	}
	summed, err := r.sum(ctx, found[0].Settled)
	if err != nil || !summed {
		return err
	}
	err = r.db.Exec(ctx, deleteRolledUp, clickhouse.Named("before", found[0].Settled))
	if err != nil {
		return fmt.Errorf("delete old rows of the ledger: %w", err)
	}
	return nil
}

// advance does the first step for the minutes before a time.
func (r *rollup) advance(ctx context.Context, before int64, now time.Time) error {
	stored, err := r.stored(ctx, now.Add(-storedLag))
	if err != nil {
		return fmt.Errorf("read the store lane's positions: %w", err)
	}
	if !stored {
		r.log.Warn("old rows of the ledger keep their partition until the store lane has caught up")
		return nil
	}
	summed, err := r.sum(ctx, before)
	if err != nil || !summed {
		return err
	}
	err = r.db.Exec(ctx, insertRolledUp, clickhouse.Named("before", before),
		clickhouse.Named("life", int64(positionLife.Seconds())))
	if err != nil {
		return fmt.Errorf("record what is rolled up: %w", err)
	}
	return nil
}

// sum sums the rows of the minutes before a time. It reports whether there was one. A day at a time bounds
// the memory of ClickHouse.
func (r *rollup) sum(ctx context.Context, before int64) (found bool, err error) {
	var days []struct {
		Day int64 `ch:"day"`
	}
	if err := r.db.Select(ctx, &days, selectRollUpDays, clickhouse.Named("before", before)); err != nil {
		return false, fmt.Errorf("find old rows of the ledger: %w", err)
	}
	erased := r.erasedSites()
	for _, d := range days {
		to := min(d.Day+int64(day/time.Second), before)
		args := append(erased.args(), clickhouse.Named("from", d.Day), clickhouse.Named("to", to))
		if err := r.db.Exec(ctx, insertRollup, args...); err != nil {
			return true, fmt.Errorf("sum old rows of the ledger: %w", err)
		}
	}
	// A streamer that has removed the rows of an erasure meanwhile didn't see the sums.
	if newest := r.erasedSites(); len(days) > 0 && !newest.equal(erased) {
		if err := r.db.Exec(ctx, deleteErasedRollup, newest.args()...); err != nil {
			return true, fmt.Errorf("remove erased rows of the ledger: %w", err)
		}
	}
	return len(days) > 0, nil
}

// erasedSites are sites and until when they are erased, ms.
type erasedSites struct {
	sites   []string
	befores []int64
}

func (r *rollup) erasedSites() (x erasedSites) {
	for _, e := range r.erasures() {
		if e.Kind == erasure.Site {
			x.sites, x.befores = append(x.sites, e.Site), append(x.befores, e.Before.UnixMilli())
		}
	}
	return x
}

func (x erasedSites) equal(y erasedSites) bool {
	return slices.Equal(x.sites, y.sites) && slices.Equal(x.befores, y.befores)
}

func (x erasedSites) args() []any {
	return []any{clickhouse.Named("sites", append([]string{}, x.sites...)),
		clickhouse.Named("befores", append([]int64{}, x.befores...))}
}

// hasStored reports whether the store lane has stored all records that were written before a time.
func hasStored(ctx context.Context, b *broker.Client, at time.Time) (bool, error) {
	n, err := b.Partitions(ctx, topic.Events)
	if err != nil {
		return false, err
	}
	all := make([]int, n)
	for p := range all {
		all[p] = p
	}
	committed, err := b.Committed(ctx, topic.Group(storeLane), all, topic.Events)
	if err != nil {
		return false, err
	}
	for _, x := range committed {
		first, _, err := b.Bounds(ctx, topic.Events, x.Partition)
		if err != nil {
			return false, err
		}
		reached, err := b.OffsetAt(ctx, topic.Events, x.Partition, at)
		if err != nil {
			return false, err
		}
		if reached > max(first, x.Offset) {
			return false, nil
		}
	}
	return len(committed) == n, nil
}
