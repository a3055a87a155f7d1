package eraser

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/erasure"
)

// named are the columns of events whose strings `names` may have, by its dim.
var named = []struct{ dim, column string }{{"page", "path"}, {"referrer", "referrer"}, {"name", "name"},
	{"hostname", "hostname"}, {"source", "source"}, {"channel", "channel"}, {"utm_source", "utm_source"},
	{"utm_medium", "utm_medium"}, {"utm_campaign", "utm_campaign"}, {"utm_content", "utm_content"},
	{"utm_term", "utm_term"}, {"country", "country"}, {"region", "region"}, {"city", "city"},
	{"device", "device"}, {"screen", "screen"}, {"browser", "browser"}, {"browser_version",
		"browser_version"},
	{"os", "os"}, {"os_version", "os_version"}, {"language", "language"}}

// keysOf returns a query for the keys of the strings that events have.
func keysOf(where string) string {
	var all []string
	for _, n := range named {
		all = append(all, fmt.Sprintf("('%s', cityHash64(%s))", n.dim, n.column))
	}
	return "SELECT k.1, k.2 FROM (SELECT DISTINCT arrayJoin([" + strings.Join(all, ", ") + "]) AS k " +
		"FROM events " +
		"WHERE " + where + ")"
}

// unused selects the strings that no event of a site has.
var unused = "(dim, key) NOT IN (" + keysOf("site = {site:String}") + ")"

// touched is what an erasure changes: the days whose events it removes, and their strings.
type touched struct {
	days, keys []string
}

// touches finds what an erasure changes, before it does.
func touches(ctx context.Context, db database, r *erasure.Request) (x touched, err error) {
	where, args := tables[0].condition(r)
	if x.days, err = texts(ctx, db, "SELECT DISTINCT toString(day) FROM events WHERE "+
		""+where, args); err != nil {
		return x, fmt.Errorf("find the days of an erasure: %w", err)
	}
	if r.Kind == erasure.Visitor {
		x.keys, err = texts(ctx, db, "SELECT DISTINCT toString(k.2) FROM (SELECT k FROM (SELECT arrayJoin(["+
			"('', cityHash64(path)), ('', cityHash64(referrer))]) AS k FROM events WHERE "+where+"))", args)
		if err != nil {
			return x, fmt.Errorf("find the strings of an erasure: %w", err)
		}
	}
	return x, nil
}

func texts(ctx context.Context, db database, query string, args []any) (all []string, err error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// mark makes the seals of days out of date. It is done before the events of the days are removed and after:
// a build that saw some of them is never current.
func (x touched) mark(ctx context.Context, db database, r *erasure.Request) error {
	err := db.Exec(ctx, "INSERT INTO marks (site, day, n) SELECT {site:String}, "+
		"toDate(arrayJoin({days:Array(String)})), 1",
		clickhouse.Named("site", r.Site), clickhouse.Named("days", x.days))
	if err != nil {
		return fmt.Errorf("mark the days of an erasure: %w", err)
	}
	return nil
}

// unseal removes the sealed copies of days, which are then read from their events until they are
// sealed again. A build that is under way finds the mark at its end, and its copy is dropped.
func (x touched) unseal(ctx context.Context, db database, r *erasure.Request) error {
	args := []any{clickhouse.Named("site", r.Site), clickhouse.Named("days", x.days)}
	for _, t := range []string{"seals", "visits", "hits", "rollups"} {
		err := db.Exec(ctx, "ALTER TABLE "+t+" DELETE WHERE site = {site:String} "+
			"AND has({days:Array(String)}, toString(day)) SETTINGS mutations_sync = 2", args...)
		if err != nil {
			return fmt.Errorf("remove the sealed rows of an erasure from %s: %w", t, err)
		}
	}
	return nil
}

// forgetNames removes the strings that only an erased visitor had. Those of a site are rows of a table.
func (x touched) forgetNames(ctx context.Context, db database, r *erasure.Request) error {
	if len(x.keys) == 0 {
		return nil
	}
	err := db.Exec(ctx, "ALTER TABLE names DELETE WHERE site = {site:String} "+
		"AND has({keys:Array(String)}, toString(key)) AND "+unused+" SETTINGS mutations_sync = 2",
		clickhouse.Named("site", r.Site), clickhouse.Named("keys", x.keys))
	if err != nil {
		return fmt.Errorf("remove the strings of an erasure: %w", err)
	}
	return nil
}
