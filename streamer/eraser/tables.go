package eraser

import (
	"context"
	"fmt"

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
	{"expired", "before", false}}

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
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
	return where + " AND visitor = {visitor:UInt64}", append(args, clickhouse.Named("visitor", uint64(r.Visitor)))
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
