// Package retention deletes rows of ClickHouse that are older than their site keeps them.
//
// A row expires when it is as old as the retention of its site, to the second. History answers nothing that
// has expired; this package deletes it within a day. Deleting rewrites the monthly partition that the rows
// are in, so a partition is rewritten about once a day, and only if a row in it has expired. Any number of
// streamers may do so at once: the second one finds nothing.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/retry"
)

const (
	lookEvery  = time.Hour
	firstLook  = 10 * time.Minute // after the start, which has other things to do
	tablesWait = time.Minute      // between looks for the tables
	deleteFrom = 20 * time.Hour   // what has been expired for so long makes a partition due
	maxSites   = 500              // named in one statement
)

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
}

// table is a table whose rows expire. All have a column `site`.
type table struct {
	name, time string
	days       int // after which ClickHouse itself has deleted every row; 0: never
}

// ended is the time at which all events of a sealed day or month are past, on any clocks.
const ended = "toDateTime(day, 'UTC') + INTERVAL 36 HOUR"

// ClickHouse keeps windows for seven days, and deletes whole days.
var tables = []table{{"events", "ts", 0}, {"windows", "second", 9}, {"ledger", "minute", 0},
	{"ledger_rollup", "minute", 0}, {"seals", ended, 0}, {"visits", ended, 0}, {"hits", ended, 0},
	{"rollups", "toDateTime(if(span = 'month', addMonths(day, 1), day), 'UTC') + INTERVAL 36 HOUR", 0},
	{"marks", ended, 0}}

// Policy says how many days sites keep their rows.
type Policy struct {
	Default int            // also of sites that were removed without their data
	Sites   map[string]int // of those that differ
}

// Worker deletes what has expired.
type Worker struct {
	db     database
	policy func() Policy
	log    *slog.Logger

	rewritten, failures prometheus.Counter
}

// New makes a worker; policy returns the present policy. Run starts it.
func New(db database, policy func() Policy, log *slog.Logger, reg prometheus.Registerer) (*Worker, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_streamer_retention_" + name,
			Help: help})
	}
	w := &Worker{db: db, policy: policy, log: log,
		rewritten: counter("partitions_total", "Partitions of ClickHouse rewritten to delete expired rows."),
		failures:  counter("failures_total", "Hourly looks for expired rows that failed."),
	}
	for _, c := range []prometheus.Collector{w.rewritten, w.failures} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of retention: %w", err)
		}
	}
	return w, nil
}

// Run deletes once an hour what is due, until ctx ends. While the tables don't exist, which an aggregator
// creates, it looks for them once a minute.
func (w *Worker) Run(ctx context.Context) {
	waiting := false
	for wait := firstLook; retry.Sleep(ctx, wait) == nil; {
		rewritten, err := w.Delete(ctx, time.Now())
		w.rewritten.Add(float64(rewritten))
		switch {
		case ctx.Err() != nil:
			return
		case isUnknownTable(err):
			if !waiting {
				w.log.Info("ClickHouse has no tables yet; expired rows are deleted once an aggregator has " +
					"created them")
			}
			waiting, wait = true, tablesWait
			continue
		case err != nil:
			w.failures.Inc()
			w.log.Warn("can't delete expired rows, trying again in an hour", "error", err)
		}
		waiting, wait = false, lookEvery
	}
}

// codeUnknownTable is ClickHouse's error code for a table that doesn't exist (src/Common/ErrorCodes.cpp).
const codeUnknownTable = 60

func isUnknownTable(err error) bool {
	var e *clickhouse.Exception
	return errors.As(err, &e) && e.Code == codeUnknownTable
}

// group is sites with the same retention: those named, or all but those named.
type group struct {
	days   int
	sites  []string
	others bool
}

// groups splits a policy into groups of at most maxSites named sites.
func (p Policy) groups() []group {
	named := slices.Sorted(maps.Keys(p.Sites))
	byDays := map[int][]string{}
	for _, s := range named {
		byDays[p.Sites[s]] = append(byDays[p.Sites[s]], s)
	}
	out := []group{{days: p.Default, sites: named, others: true}}
	for _, days := range slices.Sorted(maps.Keys(byDays)) {
		for part := range slices.Chunk(byDays[days], maxSites) {
			out = append(out, group{days: days, sites: part})
		}
	}
	return out
}

// cutoff returns the time before which rows of the group have expired.
func (g group) cutoff(now time.Time) time.Time { return now.UTC().AddDate(0, 0, -g.days) }

// condition selects the group's expired rows. It binds its parameters under names that end with n.
func (g group) condition(t table, now time.Time, n int) (where string, args []any) {
	time, list := fmt.Sprintf("time%d", n), fmt.Sprintf("sites%d", n)
	where = t.time + " < fromUnixTimestamp64Milli({" + time + ":Int64}, 'UTC')"
	args = []any{clickhouse.Named(time, g.cutoff(now).UnixMilli())}
	switch {
	case g.others && len(g.sites) == 0:
		return where, args
	case g.others:
		where += " AND site NOT IN {" + list + ":Array(String)}"
	default:
		where += " AND site IN {" + list + ":Array(String)}"
	}
	return where, append(args, clickhouse.Named(list, g.sites))
}

// Delete deletes what is due at a time. It returns how many partitions it has rewritten.
func (w *Worker) Delete(ctx context.Context, now time.Time) (rewritten int, err error) {
	groups := w.policy().groups()
	recorded := map[int]bool{} // groups
	for _, t := range tables {
		due := map[string][]group{}
		for i, g := range groups {
			if t.days > 0 && g.days >= t.days {
				continue
			}
			partitions, err := w.due(ctx, t, g, now)
			if err != nil {
				return rewritten, err
			}
			if len(partitions) > 0 && !recorded[i] {
				recorded[i] = true
				if err := w.record(ctx, g, now); err != nil {
					return rewritten, err
				}
			}
			for _, p := range partitions {
				due[p] = append(due[p], g)
			}
		}
		for _, p := range slices.Sorted(maps.Keys(due)) {
			for part := range slices.Chunk(due[p], 10) {
				if err := w.deleteFrom(ctx, t, p, part, now); err != nil {
					return rewritten, err
				}
				rewritten++
			}
			w.log.Info("deleted expired rows", "table", t.name, "partition", p)
		}
	}
	return rewritten, nil
}

// record notes what is deleted of a group, before it is: nowcast verify then knows why it is missing. The
// rows of other groups are older than the log, which verify reads.
func (w *Worker) record(ctx context.Context, g group, now time.Time) error {
	if g.others {
		return nil
	}
	err := w.db.Exec(ctx, "INSERT INTO expired SELECT arrayJoin({sites:Array(String)}), "+
		"fromUnixTimestamp64Milli({before:Int64}, 'UTC')",
		clickhouse.Named("sites", g.sites), clickhouse.Named("before", g.cutoff(now).UnixMilli()))
	if err != nil {
		return fmt.Errorf("record the deletion of expired rows: %w", err)
	}
	return nil
}

// due returns the partitions that have rows of a group which have been expired for deleteFrom.
func (w *Worker) due(ctx context.Context, t table, g group, now time.Time) (partitions []string, err error) {
	where, args := g.condition(t, now.Add(-deleteFrom), 0)
	rows, err := w.db.Query(ctx, "SELECT DISTINCT _partition_id FROM "+t.name+" WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("look for expired rows of %s: %w", t.name, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var p string
		if err := rows.Scan(&p); err != nil {
			return nil, fmt.Errorf("look for expired rows of %s: %w", t.name, err)
		}
		partitions = append(partitions, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for expired rows of %s: %w", t.name, err)
	}
	return partitions, nil
}

// deleteFrom deletes the expired rows of groups from a partition.
func (w *Worker) deleteFrom(ctx context.Context, t table, partition string, groups []group,
	now time.Time) error {
	var conditions []string
	args := []any{clickhouse.Named("partition", partition)}
	for i, g := range groups {
		where, more := g.condition(t, now, i)
		conditions, args = append(conditions, "("+where+")"), append(args, more...)
	}
	days, err := w.markable(ctx, t, strings.Join(conditions, " OR "), args)
	if err != nil {
		return err
	}
	if err := w.mark(ctx, days); err != nil {
		return err
	}
	query := "ALTER TABLE " + t.name + " DELETE IN PARTITION ID {partition:String} WHERE " +
		strings.Join(conditions, " OR ") + " SETTINGS mutations_sync = 2"
	if err := w.db.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("delete expired rows of %s: %w", t.name, err)
	}
	return w.mark(ctx, days)
}

// siteDay is a day of a site.
type siteDay struct {
	site string
	day  time.Time
}

// markable returns the days of which a deletion takes events. They are marked before it and after, so that a
// seal built in between isn't current.
func (w *Worker) markable(ctx context.Context, t table, where string, args []any) (days []siteDay,
	err error) {
	if t.name != "events" {
		return nil, nil
	}
	rows, err := w.db.Query(ctx, "SELECT DISTINCT site, day FROM events WHERE _partition_id = "+
		"{partition:String} "+
		"AND ("+where+")", args...)
	if err != nil {
		return nil, fmt.Errorf("find days with expired rows: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var d siteDay
		if err := rows.Scan(&d.site, &d.day); err != nil {
			return nil, fmt.Errorf("find days with expired rows: %w", err)
		}
		days = append(days, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("find days with expired rows: %w", err)
	}
	return days, nil
}

// mark makes the seals of days out of date.
func (w *Worker) mark(ctx context.Context, days []siteDay) error {
	for part := range slices.Chunk(days, 4*maxSites) {
		sites, dates := make([]string, len(part)), make([]string, len(part))
		for i, d := range part {
			sites[i], dates[i] = d.site, d.day.Format(time.DateOnly)
		}
		err := w.db.Exec(ctx, "INSERT INTO marks (site, day, n) SELECT d.1, toDate(d.2), 1 FROM "+
			"(SELECT arrayJoin(arrayZip({sites:Array(String)}, {days:Array(String)})) AS d)",
			clickhouse.Named("sites", sites), clickhouse.Named("days", dates))
		if err != nil {
			return fmt.Errorf("mark days with expired rows: %w", err)
		}
	}
	return nil
}
