package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/erasure"
	"nowcast/internal/verify"
)

// rollupWorld has a ledger of 40 days, up to three days ago: two sites, three partitions, two segments a
// minute, of which one was written twice, and beacons that were dropped.
type rollupWorld struct {
	*world
	now      time.Time
	erasures []*erasure.Erasure
	behind   bool // the store lane is
}

func newRollupWorld(t *testing.T) *rollupWorld {
	w := &rollupWorld{world: newEngineWorld(t), now: time.Now().Add(-3 * day)}
	w.migrateNow()
	const rows = "INSERT INTO ledger " +
		"(site, minute, kpart, koff, received, counted, late, dropped, version) " +
		"SELECT ['a.example', 'b.example'][1 + number % 2], NOW - toIntervalHour(intDiv(number, 12)), " +
		"intDiv(number, 2) % 3, 100 * intDiv(number, 12) + intDiv(number, 6) % 2 AS koff, " +
		"10 + number % 7 + v, 10, v, map('bot', number % 5, ['spam', 'prefetch'][1 + number % 2], " +
		"number % 2), koff + v FROM numbers(11520) ARRAY JOIN range(1 + number % 2) AS v"
	w.exec(strings.ReplaceAll(rows, "NOW", fmt.Sprintf("toDateTime(%d, 'UTC')", w.now.Unix()/60*60)))
	return w
}

func (w *world) migrateNow() {
	w.t.Helper()
	if err := w.db.Wait(w.t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Migrate(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(query string) {
	w.t.Helper()
	if err := w.db.Exec(w.t.Context(), query); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) number(query string) (n uint64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), query).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// rollup makes a rollup of an instance.
func (w *rollupWorld) rollup(db executor) *rollup {
	return &rollup{db: db, log: slog.New(testHandler(w.t)),
		erasures: func() []*erasure.Erasure { return w.erasures },
		stored:   func(context.Context, time.Time) (bool, error) { return !w.behind, nil }}
}

func testHandler(t *testing.T) slog.Handler { return slog.NewTextHandler(testLog{t}, nil) }

func (w *rollupWorld) run() {
	w.t.Helper()
	if err := w.rollup(w.db).run(w.t.Context(), w.now); err != nil {
		w.t.Fatal(err)
	}
}

// passes moves what was recorded into the past.
func (w *world) passes(d time.Duration) {
	w.t.Helper()
	w.exec(fmt.Sprintf("ALTER TABLE rolled_up UPDATE since = since - toIntervalSecond(%d) WHERE 1 "+
		"SETTINGS mutations_sync = 2", int(d.Seconds())))
}

// ledgerOf answers as history does, by its own statement.
func (w *world) ledgerOf(site string, now time.Time) string {
	w.t.Helper()
	statement, err := template.ParseFiles("../streamer/history/sql/ledger.sql")
	if err != nil {
		w.t.Fatal(err)
	}
	var sql, out strings.Builder
	if err := statement.Execute(&sql, true); err != nil {
		w.t.Fatal(err)
	}
	rows, err := w.db.Query(w.t.Context(), sql.String(), clickhouse.Named("site", site),
		clickhouse.Named("from", now.AddDate(0, 0, -50).Unix()), clickhouse.Named("to", now.Unix()+60))
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var at uint32
		var n [5]uint64
		var dropped map[string]uint64
		if err := rows.Scan(&at, &n[0], &n[1], &n[2], &n[3], &n[4], &dropped); err != nil {
			w.t.Fatal(err)
		}
		for reason, n := range dropped {
			if n == 0 { // history leaves them out
				delete(dropped, reason)
			}
		}
		fmt.Fprintln(&out, at, n, dropped)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out.String()
}

func (w *rollupWorld) answers() string {
	w.t.Helper()
	return w.ledgerOf("a.example", w.now) + w.ledgerOf("b.example", w.now)
}

func (w *rollupWorld) check(when, want string) {
	w.t.Helper()
	if got := w.answers(); got != want {
		w.t.Fatalf("%s: the answers differ: %s", when, firstDifference(got, want))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%q, want %q", a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

// old counts the rows of the ledger that are older than positionLife and a day.
func (w *rollupWorld) old() uint64 {
	w.t.Helper()
	return w.number(fmt.Sprintf("SELECT count() FROM ledger WHERE minute < toDateTime(%d, 'UTC')",
		w.now.Add(-positionLife-day).Unix()))
}

// TestRollup rolls up, and does all again: no answer changes at any moment, and old rows lose the partition.
func TestRollup(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	want := w.answers()
	if n := w.old(); n < 1000 || strings.Count(want, "\n") != 1920 {
		t.Fatalf("%d old rows, %d minutes", n, strings.Count(want, "\n"))
	}
	w.behind = true
	w.run()
	if n := w.number("SELECT count() FROM rolled_up"); n != 0 {
		t.Fatal("rolled up what the store lane may not have stored")
	}
	w.behind = false
	for i, d := range []time.Duration{0, 30 * time.Minute, 31 * time.Minute, 29 * time.Minute} {
		w.passes(d)
		w.run()
		w.check(fmt.Sprint("step ", i), want)
		if w.old() == 0 {
			t.Fatal("rows are deleted that a query may still read")
		}
	}
	w.passes(32 * time.Minute)
	for range 2 {
		w.run()
		w.check("in the end", want)
		if n := w.old(); n != 0 {
			t.Errorf("%d old rows keep the partition", n)
		}
		if n := w.number("SELECT count() FROM rolled_up"); n != 1 {
			t.Errorf("%d records of a roll-up, want 1", n)
		}
	}
	sums := w.number("SELECT count() FROM ledger_rollup FINAL")
	if all := w.number("SELECT count() FROM ledger_rollup"); sums < 300 || all > 3*sums {
		t.Errorf("%d rows of %d sums", all, sums)
	}
	w.now = w.now.Add(2 * day) // the next roll-up continues it
	want = w.answers()
	w.run()
	w.check("two days later", want)
	w.passes(3 * time.Hour)
	w.run()
	w.check("two days and three hours later", want)
	if w.old() != 0 || w.number("SELECT count() FROM ledger_rollup FINAL") != sums+2*2*24 {
		t.Error("the second roll-up didn't continue the first one")
	}
	w.now = w.now.Add(20 * day) // a clock that is wrong
	want = w.answers()
	w.run()
	w.passes(3 * time.Hour)
	w.check("with a clock that is wrong", want)
	if n := w.number("SELECT count() FROM rolled_up"); n != 2 {
		t.Errorf("%d records of a roll-up, want 2", n)
	}
}

// faulty is a ClickHouse whose client is killed after some statements. A statement that fails may be done.
type faulty struct {
	executor
	left   int
	before func(query string) // may be nil
}

var errKilled = errors.New("killed")

func (f *faulty) Exec(ctx context.Context, query string, args ...any) error {
	if f.before != nil {
		f.before(query)
	}
	if f.left--; f.left < 0 {
		return errKilled
	}
	return f.executor.Exec(ctx, query, args...)
}

// TestRollupIsKilled kills a roll-up after each of its statements. The answers are the same then and in the
// end, also where it goes on with a part of the rows because ClickHouse was killed while it deleted them.
func TestRollupIsKilled(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	want := w.answers()
	killed := func(step string, finished func() bool) {
		t.Helper()
		for n := 0; !finished(); n++ {
			err := w.rollup(&faulty{executor: w.db, left: n}).run(t.Context(), w.now)
			if n > 40 || err == nil != finished() || err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("%s: after statement %d: %v", step, n, err)
			}
			w.check(fmt.Sprintf("%s: killed after statement %d", step, n), want)
		}
	}
	killed("sums", func() bool { return w.number("SELECT count() FROM rolled_up") > 0 })
	w.passes(2*time.Hour + time.Minute)
	w.check("two hours later", want)
	w.exec("ALTER TABLE ledger DELETE WHERE kpart = 1 AND minute < (SELECT max(before) FROM rolled_up) " +
		"SETTINGS mutations_sync = 2")
	w.check("killed while it deletes", want)
	killed("deletion", func() bool { return w.old() == 0 })
}

// TestRollupsAtOnce runs several instances at once, one of which saw the records of long ago.
func TestRollupsAtOnce(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	want := w.answers()
	for range 3 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := w.rollup(w.db).run(t.Context(), w.now); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.check("four at once", want)
		w.passes(2*time.Hour + time.Minute)
	}
	if n := w.old(); n != 0 {
		t.Errorf("%d old rows keep the partition", n)
	}
	w.check("in the end", want)
	late := w.rollup(w.db)
	if err := late.advance(t.Context(), w.now.Add(-positionLife).Truncate(day).Unix(), w.now); err != nil {
		t.Fatal(err)
	}
	w.check("after an instance that was late", want)
}

// TestRollupOfErased erases a site between the read and the end of a statement that sums its rows.
func TestRollupOfErased(t *testing.T) {
	t.Parallel()
	w := newRollupWorld(t)
	kept := w.ledgerOf("b.example", w.now)
	const left = "SELECT count() FROM ledger_rollup WHERE site = 'a.example'"
	inserts := 0
	db := &faulty{executor: w.db, left: 100, before: func(query string) {
		if query != insertRollup && query != insertRolledUp {
			return
		}
		if inserts++; inserts != 3 {
			return
		}
		// The statement that sums has read the rows before the eraser removes them.
		w.exec("INSERT INTO ledger_rollup (site, minute, segments) SELECT site, minute, 9 FROM ledger " +
			"WHERE site = 'a.example' AND minute < now() - INTERVAL 37 DAY")
		w.erasures = append(w.erasures, &erasure.Erasure{Request: erasure.Request{Kind: erasure.Site,
			Site: "a.example", Before: w.now.Add(time.Hour)}})
		w.exec("ALTER TABLE ledger DELETE WHERE site = 'a.example' SETTINGS mutations_sync = 2")
	}}
	if err := w.rollup(db).run(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	if n := w.number(left); n != 0 || inserts < 3 {
		t.Errorf("%d rows of an erased site have come back, after %d inserts", n, inserts)
	}
	// What a dead aggregator has inserted since isn't summed.
	w.exec("INSERT INTO ledger (site, minute) VALUES ('a.example', now() - INTERVAL 39 DAY)")
	for range 2 {
		w.passes(3 * time.Hour)
		w.run()
	}
	if n := w.number(left); n != 0 || w.ledgerOf("a.example", w.now) != "" {
		t.Errorf("%d rows of an erased site have come back", n)
	}
	if got := w.ledgerOf("b.example", w.now); got != kept {
		t.Errorf("another site changed: %s", firstDifference(got, kept))
	}
}

// TestRewindOverARollup writes the log again that reaches behind a roll-up. Nothing counts twice, and
// `nowcast verify` agrees at every step and sees a sum that is wrong.
func TestRewindOverARollup(t *testing.T) {
	t.Parallel()
	w := &rollupWorld{world: newEngineWorld(t), now: time.Now()}
	w.migrateNow()
	w.clock = w.now.Add(-36 * day).UnixMilli()
	for range 3 {
		for range 4 {
			w.clock += 30_000
			w.send(0, w.view(1, "/"), w.view(2, "/"))
			w.send(1, w.view(3, "/"))
		}
		w.clock += 2 * day.Milliseconds() // three days: 36, 34 and 32 days old
	}
	w.send(0, w.view(1, "/"))
	w.clock = w.now.Add(-2 * time.Minute).UnixMilli()
	w.send(1, w.view(1, "/"))
	for at, want := range map[time.Time]bool{w.now: false, w.now.Add(-37 * day): true} {
		if ok, err := hasStored(t.Context(), w.kafka, at); ok != want || err != nil {
			t.Errorf("stored what was in the log at %v: %v %v", at, ok, err)
		}
	}
	service, stop := w.start(Config{Windows: true, Store: true})
	defer stop()
	r := service.newRollup()
	w.until(30*time.Second, "stored", func() string {
		if n := w.number("SELECT sum(counted + late + stale) FROM ledger FINAL"); n != 12*3+2 {
			return fmt.Sprint(n)
		}
		if ok, err := r.stored(t.Context(), w.now); !ok || err != nil {
			return fmt.Sprint(ok, err)
		}
		return ""
	})
	want := w.ledgerOf("example.com", w.now)
	green := func(when string) {
		t.Helper()
		if got := w.ledgerOf("example.com", w.now); got != want {
			t.Fatalf("%s: the answers differ: %s", when, firstDifference(got, want))
		}
		if report := w.verified(); report.Err() != nil || report.Ledger.Received != 12*3+2 {
			t.Fatalf("%s: %v, %d received: %+v", when, report.Err(), report.Ledger.Received,
				report.Differences)
		}
	}
	green("before")
	for i := range 3 { // of the second one on after an hour, and after the rows are deleted
		if err := r.run(t.Context(), w.now); err != nil {
			t.Fatal(err)
		}
		green(fmt.Sprint("roll-up ", i))
		if _, err := (Rewind{From: time.UnixMilli(0)}).Run(t.Context(), service.deps); err != nil {
			t.Fatal(err)
		}
		green(fmt.Sprint("rewind ", i))
		w.passes(90 * time.Minute)
	}
	if err := r.run(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	green("in the end")
	if n := w.old(); n != 0 {
		t.Errorf("%d old rows keep the partition", n)
	}
	w.exec("INSERT INTO ledger_rollup SELECT * REPLACE (counted + 1 AS counted, segments + 1 AS segments) " +
		"FROM ledger_rollup FINAL ORDER BY minute LIMIT 1")
	if report := w.verified(); report.Different != 1 {
		t.Errorf("verify doesn't see a wrong sum: %+v", report)
	}
}

func (w *rollupWorld) verified() *verify.Report {
	w.t.Helper()
	report, err := verify.Run(w.t.Context(), verify.Config{From: w.now.AddDate(0, 0, -40), To: w.now,
		Wait: 10 * time.Second}, verify.Deps{Broker: w.kafka, Warehouse: w.db})
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}
