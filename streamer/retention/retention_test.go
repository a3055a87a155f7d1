package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"nowcast/internal/warehouse"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) { streamertest.Main(m, func() error { return goleak.Find() }) }

func newWorker(db *warehouse.DB, p Policy) *Worker {
	w, err := New(db, func() Policy { return p }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	return w
}

const day = 24 * time.Hour

// columns are the columns of time, by table.
var columns = map[string]string{"events": "ts", "windows": "second", "ledger": "minute",
	"ledger_rollup": "minute"}

// fill stores a row a site and hour from the age of first to that of last before now, in all tables.
func fill(t testing.TB, db *warehouse.DB, now time.Time, sites string, first, last time.Duration) {
	t.Helper()
	for table, column := range columns {
		first := first
		if table == "windows" {
			first = min(first, 3*day) // ClickHouse itself keeps a week
		}
		query := fmt.Sprintf("INSERT INTO %s (site, %s) SELECT arrayJoin(%s), "+
			"toDateTime(%d + number * 3600, 'UTC') FROM numbers(%d)",
			table, column, sites, now.Add(-first).Unix(), int(first.Hours()-last.Hours()))
		if err := db.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
}

// ages returns the greatest age of a row, by site.
func ages(t testing.TB, db *warehouse.DB, table, column string, now time.Time) map[string]time.Duration {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT site, toInt64(toUnixTimestamp(min("+column+"))) FROM "+table+
		" GROUP BY site")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]time.Duration{}
	for rows.Next() {
		var site string
		var at int64
		if err := rows.Scan(&site, &at); err != nil {
			t.Fatal(err)
		}
		out[site] = now.Sub(time.Unix(at, 0))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever the hours at which a streamer looks, no row is older than its site's retention and a day, none
// that is younger is deleted, and a partition is rewritten about once a day.
func TestDelete(t *testing.T) {
	db := streamertest.ClickHouse(t)
	now := time.Now().UTC().Truncate(time.Hour)
	fill(t, db, now, "['default', 'short', 'long', 'removed']", 60*day, -5*day)
	w := newWorker(db, Policy{Default: 30, Sites: map[string]int{"short": 2, "long": 50, "gone": 7}})
	keep := map[string]int{"default": 30, "removed": 30, "short": 2, "long": 50}
	rewritten := 0
	for hour := 0; hour < 60; hour += 10 {
		at := now.Add(time.Duration(hour) * time.Hour)
		n, err := w.Delete(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if hour > 0 {
			rewritten += n
		}
		for table, column := range columns {
			got := ages(t, db, table, column, at)
			for site, days := range keep {
				if table == "windows" && days > 2 {
					continue // ClickHouse itself keeps windows for seven days
				}
				// a row an hour, a look every ten hours
				low, high := time.Duration(days)*day-time.Hour, time.Duration(days+1)*day+6*time.Hour
				if got[site] < low || got[site] > high {
					t.Errorf("%d h on: the oldest row of %s in %s is %v old, want %v to %v", hour, site,
						table,
						got[site], low, high)
				}
			}
		}
	}
	if rewritten < 6 || rewritten > 3*(3*3*2+1) { // days, (tables, groups of sites, partitions)
		t.Errorf("%d partitions rewritten in three days", rewritten)
	}
}

// failing is a ClickHouse that answers each query with an error. It counts the queries.
type failing struct {
	code  int32
	asked atomic.Int64
}

func (*failing) Exec(context.Context, string, ...any) error { return errors.New("nothing is due") }

func (f *failing) Query(context.Context, string, ...any) (driver.Rows, error) {
	f.asked.Add(1)
	return nil, &clickhouse.Exception{Code: f.code, Message: "it fails"}
}

// Until an aggregator has created the tables, the worker looks for them and says so once, as no warning.
// Other errors are failures, and said each time.
func TestFailures(t *testing.T) {
	const codeMemory = 241
	for _, c := range []struct {
		code                   int32
		level                  string
		looks, lines, failures int
	}{
		{codeUnknownTable, "level=INFO", 171, 1, 0},
		{codeMemory, "level=WARN", 3, 3, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			var logged bytes.Buffer
			db := &failing{code: c.code}
			w, err := New(db, func() Policy { return Policy{Default: 30} },
				slog.New(slog.NewTextHandler(&logged, nil)), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour+time.Second)
			defer cancel()
			w.Run(ctx)
			if strings.Count(logged.String(), "level=") != c.lines ||
				strings.Count(logged.String(), c.level) != c.lines {
				t.Errorf("three hours of code %d are logged as\n%s", c.code, &logged)
			}
			if n := db.asked.Load(); n != int64(c.looks) {
				t.Errorf("code %d: %d looks in three hours, want %d", c.code, n, c.looks)
			}
			if n := testutil.ToFloat64(w.failures); n != float64(c.failures) {
				t.Errorf("code %d: %v failures, want %d", c.code, n, c.failures)
			}
		})
	}
}

// The engine's own error for a missing table is recognised.
func TestUnknownTable(t *testing.T) {
	db := streamertest.ClickHouse(t)
	if err := db.Exec(t.Context(), "DROP TABLE events SYNC"); err != nil {
		t.Fatal(err)
	}
	if _, err := newWorker(db, Policy{Default: 30}).Delete(t.Context(), time.Now()); !isUnknownTable(err) {
		t.Errorf("without the table: %v", err)
	}
	if err := db.Exec(t.Context(), "SELECT nonsense"); err == nil || isUnknownTable(err) {
		t.Errorf("another error: %v", err)
	}
}

// BenchmarkLook measures what an hourly look costs when nothing is due: 10,000 sites, of which 1,000 have a
// retention of their own, with 2 M rows of the last 90 days. It logs what deleting the rows of 30 groups
// costs a month later.
func BenchmarkLook(b *testing.B) {
	db := streamertest.ClickHouse(b)
	now := time.Now().UTC().Truncate(time.Hour)
	if err := db.Exec(b.Context(),
		"INSERT INTO events (site, ts) SELECT concat('s', toString(number % 10000)), "+
			"now64(3) - toIntervalSecond(intDiv(number * 486, 125)) FROM numbers(2000000)"); err != nil {
		b.Fatal(err)
	}
	p := Policy{Default: 395, Sites: map[string]int{}}
	for i := range 1000 {
		p.Sites[fmt.Sprintf("s%d", i)] = 91 + i%30
	}
	w := newWorker(db, p)
	for b.Loop() {
		if n, err := w.Delete(b.Context(), now); err != nil || n != 0 {
			b.Fatal(n, err)
		}
	}
	b.StopTimer()
	start := time.Now()
	n, err := w.Delete(b.Context(), now.AddDate(0, 0, 32))
	if err != nil || n == 0 {
		b.Fatal(n, err)
	}
	b.Logf("30 groups due: %d partitions rewritten in %v", n, time.Since(start))
}
