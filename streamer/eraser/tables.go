package eraser

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/erasure"
)

// table is a table of ClickHouse that holds rows of sites.
type table struct {
	name, time string // time is the column that says when a row's first event was received
	visitors   bool   // it has the ids of visitors
}

// tables are all tables with a column `site`.
var tables = []table{{"events", "ts", true}, {"windows", "second", false}, {"ledger", "minute", false},
	{"ledger_rollup", "minute", false}, {"expired", "before", false},
	{"imported", "at", false}, {"imports", "at", false}}

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) driver.Row
}

// condition selects the rows of an erasure. It returns "" for a table that holds none.
func (t table) condition(r *erasure.Request) (where string, args []any) {
	where = "site = {site:String} AND " + t.time + " < fromUnixTimestamp64Milli({before:Int64}, 'UTC')"
	args = []any{clickhouse.Named("site", r.Site), clickhouse.Named("before", r.Before.UnixMilli())}
	switch {
	case r.Kind == erasure.Site:
		return where, args
	case !t.visitors:
		return "", nil
	}
	return where + " AND visitor = {visitor:UInt64}", append(args, clickhouse.Named("visitor",
		uint64(r.Visitor)))
}

const maxEvents = 10_000 // of one visitor, in an answer

const selectVisitor = `SELECT toJSONString(tuple(
    ts AS time, kind, name, hostname, path, referrer, source, channel,
    utm_source, utm_medium, utm_campaign, utm_content, utm_term, country, region, city, device, screen,
    browser, browser_version, os, os_version, language, props, revenue_micros, currency, scroll_depth,
	engaged_ms))
FROM events FINAL
WHERE site = {site:String} AND visitor = {visitor:UInt64} AND ts >= fromUnixTimestamp64Milli({since:Int64},
	'UTC')
ORDER BY ts, koff, kidx
LIMIT {limit:UInt32}
SETTINGS enable_named_columns_in_function_tuple = 1, output_format_json_escape_forward_slashes = 0,
    max_execution_time = 20`

// eventsOf returns what is stored of a visitor since a time, each event as a JSON object.
func eventsOf(ctx context.Context, db database, site string, id erasure.VisitorID, since time.Time) (
	events []json.RawMessage, err error) {
	rows, err := db.Query(ctx, selectVisitor, clickhouse.Named("site", site),
		clickhouse.Named("visitor", uint64(id)), clickhouse.Named("since", since.UnixMilli()),
		clickhouse.Named("limit", uint32(maxEvents)))
	if err != nil {
		return nil, fmt.Errorf("read the events of a visitor: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var event string
		if err := rows.Scan(&event); err != nil {
			return nil, fmt.Errorf("read the events of a visitor: %w", err)
		}
		events = append(events, json.RawMessage(event))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the events of a visitor: %w", err)
	}
	return events, nil
}

// count returns how many rows of an erasure a table has.
func (t table) count(ctx context.Context, db database, r *erasure.Request) (n uint64, err error) {
	where, args := t.condition(r)
	if where == "" {
		return 0, nil
	}
	if err := db.QueryRow(ctx, "SELECT count() FROM "+t.name+" WHERE "+where, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", t.name, err)
	}
	return n, nil
}

// remove removes the rows of an erasure from a table. It rewrites the parts that have one, so the rows leave
// the disk together with the parts that are replaced. Rows that are inserted meanwhile stay.
func (t table) remove(ctx context.Context, db database, r *erasure.Request) error {
	where, args := t.condition(r)
	if where == "" {
		return nil
	}
	query := "ALTER TABLE " + t.name + " DELETE WHERE " + where + " SETTINGS mutations_sync = 2"
	if err := db.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("remove rows of %s: %w", t.name, err)
	}
	return nil
}
