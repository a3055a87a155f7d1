package sealer

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

const (
	orphanAge = 10 * time.Minute // since the last write of another sealer's build that no seal names
	supersede = 90 * time.Second // a query that reads a former seal ends before
	maxDrops  = 200              // in one turn
)

// partition is one of a table that no seal names.
type partition struct {
	Table string `ch:"table"`
	Seal  string `ch:"partition_id"`
	Age   uint64 `ch:"age"` // since the last write, s
}

// clean drops the partitions that no row of `seals` has named for a while.
func (s *Sealer) clean(ctx context.Context) error {
	var found []partition
	if err := s.db.read(ctx, &found, "garbage", clickhouse.Named("limit", uint32(maxWaiting)),
		clickhouse.Named("claim", uint64(claimAge.Microseconds()))); err != nil {
		return err
	}
	now := s.now()
	seen := map[string]time.Time{}
	drops := 0
	for _, x := range found {
		since, has := s.garbage[x.Seal]
		if !has {
			since = now
		}
		seen[x.Seal] = since
		old := s.ended[x.Seal] || time.Duration(x.Age)*time.Second >= s.orphanAge
		if !old || now.Sub(since) < supersede || drops == maxDrops {
			continue
		}
		// The table is one of ours, and ids of partitions by a number are digits.
		err := s.db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP PARTITION ID '%s'", x.Table, x.Seal))
		if err != nil {
			return fmt.Errorf("drop partition %s of %s: %w", x.Seal, x.Table, err)
		}
		drops++
		s.metrics.dropped.Inc()
	}
	s.garbage = seen
	maps.DeleteFunc(s.ended, func(seal string, _ bool) bool {
		_, is := seen[seal]
		return !is && len(s.ended) > maxWaiting
	})
	return nil
}

// markUnmarked marks days that have events and no mark: those from before there were marks.
func (s *Sealer) markUnmarked(ctx context.Context) error {
	return s.db.exec(ctx, "mark_unmarked", nil)
}
