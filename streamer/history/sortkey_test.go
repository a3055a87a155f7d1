package history

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Three sites named a, b and c with 40,000 rows on each of the first days of May, and of June if there are
// rows left.
const insertDays = `INSERT INTO events
    (site, ts, visitor, id, kpart, koff, kind, name, path, interactive, fresh)
SELECT concat(['a', 'b', 'c'][site + 1], '.%s'),
    toDateTime64(['2026-05-01 00:00:00', '2026-06-01 00:00:00'][month + 1], 3, 'UTC') +
        toIntervalMillisecond(day * 86400000 + n * 2160),
    sipHash64(n %% 9000, day), unhex(hex(sipHash128(number))), 0, number, 'pageview', 'pageview', '/', 1, 1
FROM
(
    SELECT number, number %% 40000 AS n, intDiv(number, 40000) %% days AS day,
        intDiv(number, 40000 * days) %% 3 AS site, intDiv(number, 120000 * days) AS month
    FROM (SELECT number, %d AS days FROM numbers(%d))
)`

var granules = regexp.MustCompile(`Granules: (\d+)/(\d+)`)

// readGranules returns how many granules ClickHouse would read for a statement, and how many there are.
func readGranules(t *testing.T, e *Engine, s statement) (read, all int) {
	t.Helper()
	s.sql = "EXPLAIN indexes = 1 " + s.sql
	key := false // the line is of a primary key
	err := e.db.run(t.Context(), s, func(r driver.Rows) error {
		var line string
		if err := r.Scan(&line); err != nil {
			return err
		}
		if name := strings.TrimSpace(line); name == "PrimaryKey" {
			key = true
		} else if m := granules.FindStringSubmatch(line); m != nil && key {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return err
			}
			of, err := strconv.Atoi(m[2])
			if err != nil {
				return err
			}
			read, all, key = read+n, all+of, false
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return read, all
}

// ownGranules returns how many granules have a row of a plan's site and range.
func ownGranules(t *testing.T, e *Engine, p plan) (n int) {
	t.Helper()
	s := statement{sql: `SELECT uniqExact(_part, intDiv(_part_offset, 8192)) FROM events
		WHERE site = {site:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
			AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`}
	s.bind("site", p.site)
	s.bind("from", p.span.From.UnixMilli())
	s.bind("to", p.span.To.UnixMilli())
	err := e.db.run(t.Context(), s, func(r driver.Rows) error {
		var count uint64
		err := r.Scan(&count)
		n = int(count) //nolint:gosec // a few dozen
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A day of a site reads at most twice the granules that its rows fill, whatever else is in the month: the
// statements use the hours of the sorting key.
func TestSortKey(t *testing.T) {
	db := database(t)
	if err := db.Exec(t.Context(), fmt.Sprintf(insertDays, "sortkey.example", 8, 2*3*8*40_000)); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, db, Config{})
	for _, q := range []Query{
		{Metrics: []Metric{Visitors, Pageviews}},
		{Metrics: []Metric{Visitors, Visits, BounceRate}},
		{Metrics: []Metric{Visitors}, Dimensions: []string{"visit:source"}},
		{Metrics: []Metric{Visits, Events}, Dimensions: []string{"time:hour"}},
		{Metrics: []Metric{Pageviews}, Filters: []Filter{
			{Op: Is, Dimension: "event:page", Values: []string{"/"}}}},
	} {
		for _, zone := range []string{"", "Europe/Berlin", "Asia/Kathmandu"} {
			q.DateRange = DateRange{From: "2026-05-04", To: "2026-05-04"}
			p, err := e.plan(t.Context(), Site{Domain: "b.sortkey.example", Timezone: zone}, q)
			if err != nil {
				t.Fatal(err)
			}
			s, err := p.build()
			if err != nil {
				t.Fatal(err)
			}
			read, all := readGranules(t, e, s)
			own := ownGranules(t, e, p)
			if read < own || read > 2*own || all < 10*own {
				t.Errorf("%v in %q: %d of %d granules, want at most 2 × %d", q, zone, read, all, own)
			}
		}
	}
}

// BenchmarkDay asks about one day of a month in which a site has 1.2 million events.
func BenchmarkDay(b *testing.B) {
	db := database(b)
	if err := db.Exec(b.Context(), fmt.Sprintf(insertDays, "day.example", 30, 3*30*40_000)); err != nil {
		b.Fatal(err)
	}
	e := newEngine(b, db, Config{})
	for _, c := range []struct {
		name string
		q    Query
	}{
		{"totals", Query{Metrics: []Metric{Visitors, Visits, Pageviews, BounceRate, VisitDuration}}},
		{"hours", Query{Metrics: []Metric{Visitors}, Dimensions: []string{"time:hour"}}},
		{"sources", Query{Metrics: []Metric{Visitors}, Dimensions: []string{"visit:source"}, Limit: 10}},
		{"pages", Query{Metrics: []Metric{Visitors}, Dimensions: []string{"event:page"}, Limit: 10}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.q.DateRange = DateRange{From: "2026-05-20", To: "2026-05-20"}
			for b.Loop() {
				r, err := e.Run(b.Context(), public, Site{Domain: "b.day.example"}, c.q)
				if err != nil || len(r.Results) == 0 {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/query")
		})
	}
}
