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
	where      string // condition on a site's rows instead of one on time
}

// ofDays selects the rows of sealed days that an erased site has no events of. A day of a site that was made
// again is marked instead, see unseal.
const ofDays = "day <= toDate(fromUnixTimestamp64Milli({before:Int64}, 'UTC')) + 1 AND day NOT IN " +
	"(SELECT DISTINCT day FROM events WHERE site = {site:String} " +
	"AND ts >= fromUnixTimestamp64Milli({before:Int64}, 'UTC'))"

// tables are all tables with a column `site`. The marks come after what they are about.
var tables = []table{{name: "events", time: "ts", visitors: true}, {name: "windows", time: "second"},
	{name: "ledger", time: "minute"}, {name: "ledger_rollup", time: "minute"}, {name: "expired",
		time: "before"},
	{name: "seals", where: ofDays}, {name: "visits", where: ofDays}, {name: "hits", where: ofDays},
	{name: "rollups", where: ofDays}, {name: "marks", where: ofDays}, {name: "names", where: unused}}

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) driver.Row
}

// condition selects the rows of an erasure. It returns "" for a table that holds none.
func (t table) condition(r *erasure.Request) (where string, args []any) {
	where = "site = {site:String} AND " + t.where
	if t.where == "" {
		where += t.time + " < fromUnixTimestamp64Milli({before:Int64}, 'UTC')"
	}
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

// erase removes the rows of an erasure from a table, and what was made of them.
func (t table) erase(ctx context.Context, db database, r *erasure.Request) error {
	if t.name != "events" {
		return t.remove(ctx, db, r)
	}
	x, err := touches(ctx, db, r)
	steps := []func(context.Context, database, *erasure.Request) error{x.mark, x.unseal, t.remove, x.mark,
		x.forgetNames}
	for i := 0; err == nil && i < len(steps); i++ {
		err = steps[i](ctx, db, r)
	}
	return err
}
