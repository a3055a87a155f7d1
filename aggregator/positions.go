package aggregator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"nowcast/internal/retry"
)

const (
	// positionLife is how long a row of events keeps its position in the log: a day longer than the log. The
	// partition is the same for a visitor on every day, and the offset tells the partition.
	positionLife     = 31 * 24 * time.Hour
	positionInterval = 24 * time.Hour   // between two clearings
	firstClearing    = 10 * time.Minute // at most twice that after a start
)

// executor is the part of ClickHouse's client that this needs.
type executor interface {
	Exec(ctx context.Context, query string, args ...any) error
	Select(ctx context.Context, dest any, query string, args ...any) error
}

// clearPositionsUntil removes old positions once a day, until ctx ends. Several instances may do so: what is
// cleared stays so.
func (s *Service) clearPositionsUntil(ctx context.Context) {
	for wait := firstClearing; retry.Sleep(ctx, wait+rand.N(wait)) == nil; wait = positionInterval {
		if err := clearPositions(ctx, s.db, time.Now()); err != nil && !errors.Is(err, ctx.Err()) {
			s.log.Warn("clear positions of old events; trying again tomorrow", "error", err)
		}
	}
}

// clearPositions removes the positions of events that are older than positionLife. The mutation rewrites two
// columns of the parts that have such rows.
func clearPositions(ctx context.Context, db executor, now time.Time) error {
	old := fmt.Sprintf("ts < fromUnixTimestamp64Milli(%d, 'UTC') AND (kpart != 0 OR koff != 0)",
		now.Add(-positionLife).UnixMilli())
	var found []struct {
		One uint8 `ch:"one"`
	}
	if err := db.Select(ctx, &found, "SELECT 1 AS one FROM events WHERE "+old+" LIMIT 1"); err != nil {
		return fmt.Errorf("find old positions: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	if err := db.Exec(ctx, "ALTER TABLE events UPDATE kpart = 0, koff = 0 WHERE "+old); err != nil {
		return fmt.Errorf("clear old positions: %w", err)
	}
	return nil
}
