package past

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nowcast/internal/warehouse"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) { streamertest.Main(m, func() error { return goleak.Find() }) }

func scan(t *testing.T, db *warehouse.DB, query string) (s string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT toString(("+query+"))").Scan(&s); err != nil {
		t.Fatal(query, err)
	}
	return s
}

// The rows are as many as asked for, each of the day that the site's clocks show, each visitor of one day,
// the same in a second run, and their days are marked.
func TestRun(t *testing.T) {
	db := streamertest.ClickHouse(t)
	zone, err := time.LoadLocation("America/St_Johns") // half hours, and clocks change in March and November
	if err != nil {
		t.Fatal(err)
	}
	last := 0.0
	cfg := Config{Sites: []string{"big.example", "small.example"}, Zone: zone, Months: 12,
		Events: 300_000, Seed: 7, Until: time.Date(2026, 11, 15, 1, 0, 0, 0, time.UTC),
		Progress: func(done float64) { last = done }}
	for range 2 {
		if err := Run(t.Context(), db, cfg); err != nil {
			t.Fatal(err)
		}
	}
	var rows uint64
	if err := db.QueryRow(t.Context(), "SELECT count() FROM events FINAL").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if off := math.Abs(float64(rows)/300_000 - 1); off > 0.02 || last < 0.99 {
		t.Errorf("%d rows, %.0f %% off; the last progress is %g", rows, off*100, last)
	}
	for _, x := range []struct{ want, query string }{
		{"0", "SELECT countIf(day != toDate(ts + utc_offset)) FROM events"},
		{"0", "SELECT countIf(day != toDate(ts, 'America/St_Johns')) FROM events"},
		{"[-12600,-9000]", "SELECT arraySort(groupUniqArray(utc_offset)) FROM events"},
		{"1", "SELECT max(n) FROM (SELECT uniqExact(day) AS n FROM events GROUP BY site, visitor)"},
		{"2025-11-14 2026-11-13", "SELECT concat(toString(min(day)), ' ', toString(max(day))) FROM events"},
		{"365", "SELECT uniqExact(day) FROM events WHERE site = 'small.example'"},
		{"0", "SELECT countIf(kpart != 0 OR koff != 0) FROM events"},
		{"0", "SELECT count() - uniqExact(id) FROM events FINAL"},
		{"730", "SELECT uniqExact(site, day) FROM marks"},
		{"2", "SELECT min(n) FROM (SELECT sum(n) AS n FROM marks GROUP BY site, day)"},
		{"1", "SELECT countIf(kind = 'custom' AND revenue_micros > 0 AND props['plan'] != '') > 0 " +
			"FROM events"},
		{"2", "SELECT round(countIf(site = 'big.example') / countIf(site = 'small.example'), 1) " +
			"FROM events FINAL"},
	} {
		if got := scan(t, db, x.query); got != x.want {
			t.Errorf("%s: %s, want %s", x.query, got, x.want)
		}
	}
}

// The offsets begin at the first midnight and at each change of the clocks, to the millisecond.
func TestClocks(t *testing.T) {
	zone, err := time.LoadLocation("Australia/Lord_Howe") // clocks change by half an hour, at 2:00
	if err != nil {
		t.Fatal(err)
	}
	midnights, changes, offsets := clocks(time.Date(2026, 4, 4, 0, 0, 0, 0, zone), 2)
	got := fmt.Sprint(midnights, changes, offsets)
	want := fmt.Sprint([]int64{1775221200000, 1775307600000, 1775395800000},
		[]int64{1775221200000, 1775314800000}, []int32{39600, 37800})
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// refusing is a database that fails, or a context that ends, in the middle.
type refusing struct{ left int }

func (r *refusing) Exec(context.Context, string, ...any) error {
	if r.left--; r.left < 0 {
		return fmt.Errorf("refused")
	}
	return nil
}

func TestErrors(t *testing.T) {
	good := Config{Sites: []string{"a"}, Zone: time.UTC, Months: 12, Events: 1000, Until: time.Now()}
	for left, want := range map[int]string{0: "write the events of a from", 1: "mark the days of a from"} {
		err := Run(t.Context(), &refusing{left}, good)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, change := range []func(*Config){func(c *Config) { c.Sites = nil },
		func(c *Config) { c.Months = 133 }, func(c *Config) { c.Events = 0 }} {
		c := good
		change(&c)
		if err := Run(t.Context(), &refusing{}, c); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
