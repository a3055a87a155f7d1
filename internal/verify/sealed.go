package verify

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/retry"
)

const inSealedTables = "ClickHouse seals"

//go:embed sql/sealed.sql
var selectSealed string

// settle is the time between two looks at sealed days: a day that changes during the first isn't current in
// the second.
const settle = 2 * time.Second

// sealedDay is a sealed day beside its events.
type sealedDay struct {
	site                                          string
	second                                        int64
	sealed, stored, counted, hits, eventsOfVisits uint64
	digest                                        uint8 // 1: the ids are the same
}

func (d sealedDay) difference() string {
	switch {
	case d.sealed != d.stored:
		return fmt.Sprintf("the day was sealed with %d events, and has %d", d.sealed, d.stored)
	case d.digest == 0:
		return "the day was sealed with other events than it has"
	case d.hits != d.counted:
		return fmt.Sprintf("%d hits are sealed of %d page views and custom events", d.hits, d.counted)
	case d.eventsOfVisits != d.counted:
		return fmt.Sprintf("the sealed visits have %d of %d page views and custom events", d.eventsOfVisits,
			d.counted)
	}
	return ""
}

// compareSealed compares the sealed days that the span touches with the table `events`.
func (r *run) compareSealed(ctx context.Context) error {
	exists, err := hasTable(ctx, r.tables, "seals")
	if err != nil || !exists {
		return err
	}
	for try := 0; ; try++ {
		var days int
		var found []Difference
		err := scan(ctx, r.tables, "sealed days", selectSealed, func(rows driver.Rows) error {
			var d sealedDay
			if err := rows.Scan(&d.site, &d.second, &d.sealed, &d.stored, &d.digest, &d.counted, &d.hits,
				&d.eventsOfVisits); err != nil {
				return err
			}
			days++
			if what := d.difference(); what != "" {
				found = append(found, Difference{In: inSealedTables, Site: d.site, Second: d.second,
					Partition: allPartitions, What: what})
			}
			return nil
		}, r.parameters(r.From.UnixMilli(), r.To.UnixMilli())...)
		if err != nil {
			return err
		}
		if len(found) > 0 && try == 0 {
			if err := retry.Sleep(ctx, settle); err != nil {
				return err
			}
			continue
		}
		r.report.SealedDays = days
		for _, d := range found {
			r.report.differ(d)
		}
		return nil
	}
}
