package eraser

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/internal/erasure"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) {
	streamertest.Main(m, func() error {
		return goleak.Find(goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
	})
}

// noSites is a registry without sites.
type noSites struct{}

func (noSites) Lookup(string) (site.Site, bool)      { return site.Site{}, false }
func (noSites) Delete(context.Context, string) error { return site.ErrNotFound }

func newWorker(t *testing.T, db *warehouse.DB) *Worker {
	t.Helper()
	log := streamertest.NewLog(t)
	erasures, stop, err := erasure.Follow(t.Context(), log.Kafka, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w, err := New(erasures, db, log.Kafka, noSites{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func fill(t *testing.T, db *warehouse.DB, site string, at time.Time) {
	t.Helper()
	for _, s := range []string{"INSERT INTO events (site, ts, visitor) VALUES " +
		"('%s', toDateTime64(%d, 3, 'UTC'), 1), " +
		"('%[1]s', toDateTime64(%[2]d, 3, 'UTC'), 2)",
		"INSERT INTO windows (site, second) VALUES ('%s', %d)",
		"INSERT INTO ledger (site, minute) VALUES ('%s', %d)",
		"INSERT INTO ledger_rollup (site, minute) VALUES ('%s', %d)",
		"INSERT INTO expired SELECT '%s', toDateTime64(%d, 3, 'UTC') " +
			"WHERE NOT (SELECT count() FROM expired " +
			"WHERE site = '%[1]s')"} {
		if err := db.Exec(t.Context(), fmt.Sprintf(s, site, at.Unix())); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *Worker) left(t *testing.T, r erasure.Request) (rows []uint64) {
	t.Helper()
	for _, x := range tables {
		n, err := x.count(t.Context(), w.db, &r)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, n)
	}
	return rows
}

// What comes back after an erasure has ended, from a dead process or a backup, is found and removed.
func TestSweep(t *testing.T) {
	db := streamertest.ClickHouse(t)
	w := newWorker(t, db)
	before := time.Now().Truncate(time.Second).Add(-time.Minute)
	all := erasure.Request{ID: "s", Kind: erasure.Site, Site: "gone.example", Before: before,
		Requested: before.Add(-erasure.Grace)}
	one := erasure.Request{ID: "v", Kind: erasure.Visitor, Site: "open.example", Visitor: 2, Before: before,
		Requested: before.Add(-erasure.Grace)}
	for _, r := range []erasure.Request{all, one} {
		e, err := w.erasures.Ask(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if age := w.oldest(before); age < erasure.Grace {
			t.Errorf("an erasure that waits is %v old", age)
		}
		if err := w.carryOut(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if age := w.oldest(time.Now()); age != 0 {
		t.Errorf("an erasure that has ended counts as %v old", age)
	}
	for _, s := range []string{"gone.example", "open.example", "other.example"} {
		fill(t, db, s, before.Add(-time.Second))
		fill(t, db, s, before) // of a site that was made again
	}
	if got := fmt.Sprint(w.left(t, all), w.left(t, one)); got != "[2 1 1 1 1 0 0 0 0 0 0] [1 0 0 0 "+
		"0 0 0 0 0 0 0]" {
		t.Fatal(got)
	}
	w.sweep(t.Context()) // not due yet
	if got := fmt.Sprint(w.left(t, all)); got != "[2 1 1 1 1 0 0 0 0 0 0]" {
		t.Fatal("swept at once", got)
	}
	clear(w.swept) // as a restart does
	w.sweep(t.Context())
	if got := fmt.Sprint(w.left(t, all), w.left(t, one)); got != "[0 0 0 0 0 0 0 0 0 0 0] [0 0 0 0 "+
		"0 0 0 0 0 0 0]" {
		t.Error(got)
	}
	var rows uint64
	if err := db.QueryRow(t.Context(), "SELECT count() FROM events").Scan(&rows); err != nil ||
		rows != 2+3+4 {
		t.Errorf("%d rows left of all sites, want 9: %v", rows, err)
	}
	if e, _ := w.erasures.Get("s"); e.State != erasure.Done || tableOf(&e.Progress, "events").Found != 2 {
		t.Errorf("the report says %+v", e.Progress)
	}
	if copies := w.copies(t.Context(), &erasure.Erasure{Request: all}); len(copies) != 4 ||
		copies[3].Expires.Sub(before) < 30*24*time.Hour {
		t.Errorf("%+v", copies)
	}
}

// No sealed copy of what is erased stays, and no sealed copy of others goes.
func TestSealedCopies(t *testing.T) {
	db := streamertest.ClickHouse(t)
	before := time.Now().Truncate(time.Second)
	for _, s := range []string{
		"INSERT INTO events (site, ts, visitor, path, day) VALUES ('gone', '2026-11-02 10:00:00', " +
			"1, '/a', '2026-11-02'), " +
			"('open', '2026-11-02 10:00:00', 1, '/a', '2026-11-02'), ('open', '2026-11-02 " +
			"11:00:00', 2, '/b', '2026-11-02'), " +
			"('open', '2026-11-03 10:00:00', 3, '/b', '2026-11-03')",
		"INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events",
		"INSERT INTO seals (site, day, seal, marks) SELECT DISTINCT site, day, 7, 1 FROM events",
		"INSERT INTO visits (seal, site, day) SELECT 7, site, day FROM events",
		"INSERT INTO hits (seal, site, day) SELECT 7, site, day FROM events",
		"INSERT INTO rollups (seal, site, day) SELECT 7, site, day FROM events",
		"INSERT INTO names SELECT DISTINCT site, 'page', cityHash64(path), path FROM events",
	} {
		if err := db.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	number := func(query string) (n uint64) {
		if err := db.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	erase := func(r erasure.Request) {
		for _, x := range tables {
			if where, _ := x.condition(&r); where == "" {
				continue
			}
			if err := x.erase(t.Context(), db, &r); err != nil {
				t.Fatal(err)
			}
		}
	}
	marks := number("SELECT sum(n) FROM marks WHERE site = 'open' AND day = '2026-11-02'")
	erase(erasure.Request{Kind: erasure.Visitor, Site: "open", Visitor: 1, Before: before})
	for _, table := range []string{"seals", "visits", "hits", "rollups"} {
		if n := number("SELECT count() FROM " + table + " WHERE site = 'open' AND day = " +
			"'2026-11-02'"); n != 0 {
			t.Errorf("%d rows of the visitor's day are in %s", n, table)
		}
		if n := number("SELECT count() FROM " + table); n != 2 {
			t.Errorf("%d rows of others are in %s, want 2", n, table)
		}
	}
	if n := number("SELECT sum(n) FROM marks WHERE site = 'open' AND day = '2026-11-02'"); n != marks+2 {
		t.Errorf("%d marks, want %d", n, marks+2)
	}
	if n := number("SELECT count() FROM names WHERE site = 'open' AND value = '/a'"); n != 0 {
		t.Error("a string that only the visitor had is in names")
	}
	erase(erasure.Request{Kind: erasure.Site, Site: "gone", Before: before})
	for _, table := range []string{"events", "marks", "seals", "visits", "hits", "rollups", "names"} {
		if n := number("SELECT count() FROM " + table + " WHERE site = 'gone'"); n != 0 {
			t.Errorf("%d rows of the site are in %s", n, table)
		}
	}
	if n := number("SELECT count() FROM names WHERE site = 'open' AND value = '/b'"); n != 1 {
		t.Error("a string of another site is gone")
	}
}

// Every table that has rows of sites is erased from, and expires.
func TestTables(t *testing.T) {
	db := streamertest.ClickHouse(t)
	rows, err := db.Query(t.Context(), "SELECT DISTINCT table FROM system.columns WHERE name = 'site' "+
		"AND database = currentDatabase() ORDER BY table")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var have, want []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		have = append(have, name)
	}
	for _, x := range tables {
		want = append(want, x.name)
	}
	slices.Sort(want)
	if strings.Join(have, " ") != strings.Join(want, " ") {
		t.Errorf("tables with sites: %v, erased from: %v", have, want)
	}
}

// An erasure that another process works on is left to it while it reports, and taken over when it is silent.
func TestLease(t *testing.T) {
	w := &Worker{id: "me", swept: map[string]time.Time{}}
	now := time.Now()
	for _, c := range []struct {
		state  erasure.State
		worker string
		age    time.Duration
		free   bool
	}{
		{erasure.Waiting, "", 0, true}, {erasure.Removing, "me", 0, true},
		{erasure.Removing, "other", lease - time.Second, false}, {erasure.Confirming, "other", lease, true},
		{erasure.Done, "other", time.Hour, false},
	} {
		e := &erasure.Erasure{Progress: erasure.Progress{State: c.state, Worker: c.worker,
			At: now.Add(-c.age)}}
		if free := w.free(e, now) <= 0; free != c.free {
			t.Errorf("%+v: %v", c, free)
		}
	}
}
