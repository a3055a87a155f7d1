package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"

	"nowcast/internal/warehouse"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) { streamertest.Main(m, func() error { return goleak.Find() }) }

// zones are of sites that are named after them.
var zones = map[string]string{"UTC": "UTC", "Niue": "Pacific/Niue", "St_Johns": "America/St_Johns",
	"Kathmandu": "Asia/Kathmandu", "Chatham": "Pacific/Chatham", "Berlin": "Europe/Berlin",
	"Beirut": "Asia/Beirut", "Casablanca": "Africa/Casablanca", "Cairo": "Africa/Cairo",
	"Lord_Howe": "Australia/Lord_Howe", "broken": "No/Such", "empty": ""}

// In the two months that the rows are of, most of the zones change their clocks.
var (
	first = time.Date(2014, 3, 1, 0, 0, 0, 0, time.UTC)
	days  = 61
)

const perDay = 30

// old makes `events` a table of before its rows had days, with perDay rows a day of each site, in parts
// on disk, and then adds the columns as the migration does.
func old(t *testing.T, db *warehouse.DB) (rows int) {
	t.Helper()
	exec := func(statement string) {
		t.Helper()
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("ALTER TABLE events DROP COLUMN local, DROP COLUMN slice, DROP COLUMN user, " +
		"DROP COLUMN utc_offset, DROP COLUMN day")
	exec("ALTER TABLE events REMOVE TTL")
	insert(t, db, append(slices.Sorted(maps.Keys(zones)), "unknown"))
	migration, err := os.ReadFile("../../internal/warehouse/sql/0014_events_day.sql")
	if err != nil {
		t.Fatal(err)
	}
	exec(string(migration))
	return (len(zones) + 1) * days * perDay
}

func insert(t *testing.T, db *warehouse.DB, sites []string) {
	t.Helper()
	query := fmt.Sprintf("INSERT INTO events (site, ts, visitor, koff, fresh) SELECT arrayJoin(%s), "+
		"toDateTime64(%d + number * 2880 + number %% 7, 3, 'UTC'), number, number, true FROM numbers(%d)",
		"['"+strings.Join(sites, "','")+"']", first.Unix(), days*perDay)
	if err := db.Exec(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// check compares all rows with Go's zones, and returns how many rows have no day of their own.
func check(t *testing.T, db *warehouse.DB) (undated, all int) {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT site, toInt64(toUnixTimestamp(ts)), toInt64(toUInt16(day)), "+
		"utc_offset FROM events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for ; rows.Next(); all++ {
		var site string
		var at, day int64
		var offset int32
		if err := rows.Scan(&site, &at, &day, &offset); err != nil {
			t.Fatal(err)
		}
		want := 0
		if offset == -1 {
			undated++
		} else {
			zone, err := time.LoadLocation(zones[site])
			if err != nil {
				zone = time.UTC
			}
			_, want = time.Unix(at, 0).In(zone).Zone()
			if int(offset) != want || site == "unknown" {
				t.Fatalf("%s at %d has the offset %d, want %d", site, at, offset, want)
			}
		}
		if day != (at+int64(want))/86_400 {
			t.Fatalf("%s at %d, offset %d, is of the day %d", site, at, offset, day)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return undated, all
}

// number returns the one number that a query asks for.
func number(t *testing.T, db *warehouse.DB, query string) (n uint64) {
	t.Helper()
	if err := db.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// breaking is a ClickHouse that fails after a number of statements.
type breaking struct {
	*warehouse.DB
	left int
}

var errBroken = errors.New("it is gone")

func (b *breaking) Exec(ctx context.Context, query string, args ...any) error {
	if b.left == 0 {
		return errBroken
	}
	b.left--
	return b.DB.Exec(ctx, query, args...)
}

// Rows of before get the date and the offset of their site's clocks, whatever was interrupted. What is filled
// in is left alone, and what is written later in the old form is found.
func TestFill(t *testing.T) {
	db := streamertest.ClickHouse(t)
	total := old(t, db)
	if undated, all := check(t, db); undated != total || all != total {
		t.Fatalf("%d of %d rows have no day, want %d", undated, all, total)
	}
	var logged bytes.Buffer
	w := New(db, func() map[string]string { return zones }, slog.New(slog.NewTextHandler(&logged, nil)))
	for i := range 3 { // interrupted before each statement of a month
		w.db = &breaking{db, i}
		if err := w.Fill(t.Context()); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if _, all := check(t, db); all != total {
			t.Fatalf("%d rows, want %d", all, total)
		}
	}
	if undated, _ := check(t, db); undated == total {
		t.Error("nothing is filled in after the interruptions")
	}
	w.db = db
	const mutations = "SELECT count() FROM system.mutations WHERE table = 'events' AND is_done"
	for range 2 {
		if err := w.Fill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if undated, all := check(t, db); undated != days*perDay || all != total {
			t.Errorf("%d of %d rows have no day, want those of the unknown site", undated, all)
		}
	}
	before := number(t, db, mutations)
	if err := w.Fill(t.Context()); err != nil || number(t, db, mutations) != before {
		t.Errorf("what is filled in is written again: %v", err)
	}
	if s := logged.String(); !strings.Contains(s, "months_left=0 rows_left=0") ||
		!strings.Contains(s, "partition=201403") {
		t.Errorf("the log says\n%s", s)
	}
	// Every day that rows have left or come to is marked as changed.
	const unmarked = "SELECT count() FROM (SELECT DISTINCT site, %s AS d FROM events " +
		"WHERE site != 'unknown') WHERE (site, d) NOT IN (SELECT site, day FROM marks)"
	for _, d := range []string{"day", "toDate(ts)"} {
		if n := number(t, db, fmt.Sprintf(unmarked, d)); n > 0 {
			t.Errorf("%d changed days aren't marked (%s)", n, d)
		}
	}
	// Events of before come from the log again, as identical rows but for the day.
	insert(t, db, []string{"Chatham"})
	if err := w.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if undated, _ := check(t, db); undated != days*perDay {
		t.Errorf("%d rows have no day, want %d", undated, days*perDay)
	}
	const doubled = "SELECT count() FROM (SELECT count() AS n FROM events FINAL GROUP BY site, ts, " +
		"visitor, day, utc_offset HAVING n > 1)"
	if n := number(t, db, doubled); n > 0 {
		t.Errorf("%d rows are doubled", n)
	}
}

// The offsets of a span are those of Go, with all changes of the clocks in it.
func TestOffsets(t *testing.T) {
	from, to := time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	sites := slices.Sorted(maps.Keys(zones))
	o := offsetsOf(append(sites, sites...), zones, from, to)
	most := 0
	for i, site := range sites {
		zone, err := time.LoadLocation(zones[site])
		if err != nil {
			zone = time.UTC
		}
		changes, offsets := o.changes[o.zones[i]-1], o.offsets[o.zones[i]-1]
		for at := from; at.Before(to); at = at.Add(10 * time.Minute) {
			n, _ := slices.BinarySearch(changes, at.Unix()+1)
			if _, want := at.In(zone).Zone(); int(offsets[n-1]) != want {
				t.Fatalf("%s at %s has the offset %d, want %d", site, at, offsets[n-1], want)
			}
		}
		most = max(most, len(changes))
	}
	if n := len(sites); most != 5 || len(o.changes) != n || !slices.Equal(o.zones[:n], o.zones[n:]) {
		t.Errorf("at most %d changes, %d zones: %v", most, len(o.changes), o.zones)
	}
}

// failing answers each query with an error of ClickHouse.
type failing struct {
	code int32
	n    int
}

func (*failing) Exec(context.Context, string, ...any) error { return errors.New("nothing is due") }

func (f *failing) Query(context.Context, string, ...any) (driver.Rows, error) {
	f.n++
	return nil, &clickhouse.Exception{Code: f.code, Message: "it fails"}
}

// Until an aggregator has made the tables and columns, the worker looks for them once a minute and says
// nothing. Other errors are said.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		code         int32
		looks, lines int
	}{{60, 59, 0}, {47, 59, 0}, {241, 6, 6}} {
		synctest.Test(t, func(t *testing.T) {
			var logged bytes.Buffer
			db := &failing{code: c.code}
			log := slog.New(slog.NewTextHandler(&logged, nil))
			w := New(db, func() map[string]string { return zones }, log)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
			defer cancel()
			w.Run(ctx)
			if db.n != c.looks || strings.Count(logged.String(), "level=WARN") != c.lines {
				t.Errorf("code %d: %d looks in an hour\n%s", c.code, db.n, &logged)
			}
		})
	}
}
