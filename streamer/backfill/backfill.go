// Package backfill fills in the days of rows of `events` that were written before events had one.
//
// Such a row has the UTC offset -1 and UTC's day. Filled in it has the date and offset that its site's clocks
// showed, by the zone that the site has now. A month is filled in by one statement for up to maxSites sites,
// which changes only rows with the offset -1: a statement that is repeated, or run by two streamers at once,
// changes nothing more, and what a crash leaves is found at the next look. Rows of sites that the registry
// doesn't know stay as they are.
package backfill

import (
	"context"
	_ "embed" // statements
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/retry"
)

const (
	firstLook  = 2 * time.Minute // after the start, which has other things to do
	lookEvery  = time.Hour       // old events may come from the log as long as that has them
	tablesWait = time.Minute     // between looks for the tables
	failedWait = 10 * time.Minute
	maxSites   = 2000 // named in one statement
)

var (
	//go:embed sql/undated.sql
	selectUndated string
	//go:embed sql/fill.sql
	fillDays string
	//go:embed sql/mark.sql
	markDays string
)

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// Zones returns the IANA name of the time zone of each site.
type Zones func() map[string]string

// Worker fills in days.
type Worker struct {
	db    database
	zones Zones
	log   *slog.Logger
}

// New makes a worker. Run starts it.
func New(db database, zones Zones, log *slog.Logger) *Worker {
	return &Worker{db: db, zones: zones, log: log}
}

// Run fills in what there is, once an hour, until ctx ends. While the tables don't exist, which an aggregator
// creates, it looks for them once a minute.
func (w *Worker) Run(ctx context.Context) {
	for wait := firstLook; retry.Sleep(ctx, wait) == nil; {
		switch err := w.Fill(ctx); {
		case ctx.Err() != nil:
			return
		case isMissing(err):
			wait = tablesWait
		case err != nil:
			w.log.Warn("can't fill in the days of events of before, trying again in ten minutes",
				"error", err)
			wait = failedWait
		default:
			wait = lookEvery
		}
	}
}

// isMissing reports whether a table or column doesn't exist yet: ClickHouse's error codes UNKNOWN_TABLE and
// UNKNOWN_IDENTIFIER (src/Common/ErrorCodes.cpp).
func isMissing(err error) bool {
	var e *clickhouse.Exception
	return errors.As(err, &e) && (e.Code == 60 || e.Code == 47)
}

// month is a partition of `events` with the sites whose rows have no day of their own.
type month struct {
	partition string
	sites     []string
	rows      uint64
}

// Fill fills in the days of all rows of known sites that have none.
func (w *Worker) Fill(ctx context.Context) error {
	zones := w.zones()
	months, err := w.undated(ctx, zones)
	if err != nil || len(months) == 0 {
		return err
	}
	var done, rows uint64
	for _, m := range months {
		rows += m.rows
	}
	w.log.Info("filling in the days of events of before", "months", len(months), "rows", rows)
	for i, m := range months {
		start := time.Now()
		for sites := range slices.Chunk(m.sites, maxSites) {
			if err := w.fill(ctx, m.partition, sites, zones); err != nil {
				return err
			}
		}
		done += m.rows
		w.log.Info("filled in the days of a month", "partition", m.partition, "rows", m.rows,
			"took", time.Since(start).Round(time.Millisecond), "months_left", len(months)-i-1,
			"rows_left", rows-done)
	}
	return nil
}

// undated returns the months that have rows without a day, of known sites, the newest first.
func (w *Worker) undated(ctx context.Context, zones map[string]string) (all []month, err error) {
	rows, err := w.db.Query(ctx, selectUndated)
	if err != nil {
		return nil, fmt.Errorf("look for events without a day: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var partition, site string
		var n uint64
		if err := rows.Scan(&partition, &site, &n); err != nil {
			return nil, fmt.Errorf("look for events without a day: %w", err)
		}
		if _, known := zones[site]; !known {
			continue
		}
		if len(all) == 0 || all[len(all)-1].partition != partition {
			all = append(all, month{partition: partition})
		}
		m := &all[len(all)-1]
		m.sites, m.rows = append(m.sites, site), m.rows+n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for events without a day: %w", err)
	}
	return all, nil
}

// fill fills in the rows of sites in a partition. The days that rows may leave or come to are marked as
// changed before it and after it: before it, since no crash may leave a seal of the former rows current.
func (w *Worker) fill(ctx context.Context, partition string, sites []string, zones map[string]string) error {
	first, err := time.Parse("200601", partition)
	if err != nil {
		return fmt.Errorf("read partition %q of events: %w", partition, err)
	}
	named := []any{clickhouse.Named("partition", partition), clickhouse.Named("sites", sites)}
	if err := w.db.Exec(ctx, markDays, named...); err != nil {
		return fmt.Errorf("mark the days of %s: %w", partition, err)
	}
	o := offsetsOf(sites, zones, first, first.AddDate(0, 1, 0))
	err = w.db.Exec(ctx, fillDays, append(slices.Clone(named), clickhouse.Named("zones", o.zones),
		clickhouse.Named("changes", o.changes), clickhouse.Named("offsets", o.offsets))...)
	if err != nil {
		return fmt.Errorf("fill in the days of %s: %w", partition, err)
	}
	if err := w.db.Exec(ctx, markDays, named...); err != nil {
		return fmt.Errorf("mark the days of %s: %w", partition, err)
	}
	return nil
}

// offsets are the UTC offsets of sites' clocks in a span of time.
type offsets struct {
	zones   []uint32  // of each site: an index, from 1, of the others
	changes [][]int64 // unix s from which an offset applies, by zone; the first is before the span
	offsets [][]int32 // s, by zone
}

// offsetsOf returns the offsets of the sites in [from, to). An unknown zone is UTC, as in ingest.
func offsetsOf(sites []string, zones map[string]string, from, to time.Time) (o offsets) {
	index := map[string]uint32{}
	for _, site := range sites {
		name := zones[site]
		if index[name] == 0 {
			zone, err := time.LoadLocation(name)
			if err != nil || name == "Local" {
				zone = time.UTC
			}
			o.addZone(zone, from, to)
			index[name] = uint32(len(o.offsets))
		}
		o.zones = append(o.zones, index[name])
	}
	return o
}

func (o *offsets) addZone(zone *time.Location, from, to time.Time) {
	var changes []int64
	var values []int32
	for t := from; ; {
		_, offset := t.In(zone).Zone()
		changes, values = append(changes, t.Unix()), append(values, int32(offset))
		_, end := t.In(zone).ZoneBounds()
		if end.IsZero() || !end.Before(to) {
			break
		}
		t = end
	}
	o.changes, o.offsets = append(o.changes, changes), append(o.offsets, values)
}
