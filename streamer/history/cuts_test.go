package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Cuts are of the whole log, so those of the tests are of a year that no other test asks for.
const insertTestCuts = `INSERT INTO cuts (kpart, koff, after, at) VALUES
(0, 10, '2071-03-04 13:03:10.700', '2071-03-04 13:05:12.300'),
(0, 10, '2071-03-04 13:03:10.700', '2071-03-04 13:05:12.300'),
(1, 11, '2071-03-04 09:00:00.000', '2071-03-04 13:05:12.300'),
(2, 12, '1970-01-01 00:00:00.000', '2071-03-04 13:05:12.300'),
(0, 20, '2071-03-05 22:59:59.000', '2071-03-05 23:00:01.000'),
(0, 30, '1970-01-01 00:00:00.000', '2071-04-01 12:00:00.000')`

// insertCuts stores the cuts of the tests of 2071.
func insertCuts(t testing.TB) {
	t.Helper()
	if err := database(t).Exec(t.Context(), insertTestCuts); err != nil {
		t.Fatal(err)
	}
}

// An answer names the cuts of its date range, by the site's clock and since the site's first moment. Of the
// partitions of a cut the newest record that is left counts: what is lost came later, or shortly before it.
func TestCuts(t *testing.T) {
	insertCuts(t)
	e := newEngine(t, database(t), Config{})
	const berlin, one = "Europe/Berlin", "The server lost its power: some views between "
	const first = one + "2071-03-04 14:03:08 and 14:05:12 may be missing."
	for _, c := range []struct{ from, to, zone, since, want string }{
		{"2071-03-04", "2071-03-04", berlin, "", first},
		{"2071-03-04", "2071-03-04", "", "", one + "2071-03-04 13:03:08 and 13:05:12 may be missing."},
		{"2071-03-05", "2071-03-05", berlin, "",
			one + "2071-03-05 23:59:57 and 2071-03-06 00:00:01 may be missing."},
		{"2071-03-01", "2071-03-31", "", "", "The server lost its power 2 times: some views may be " +
			"missing, the last ones between 2071-03-05 22:59:57 and 23:00:01."},
		{"2071-04-01", "2071-04-30", "", "", one + "2071-04-01 11:59:58 and 12:00:00 may be missing."},
		{"2071-03-03", "2071-03-03", berlin, "", ""},
		{"2071-05-01", "2071-05-31", berlin, "", ""},
		{"2071-03-04T13:05:12Z", "2071-03-04T13:06:00Z", berlin, "", first},
		{"2071-03-04T13:05:13Z", "2071-03-04T13:06:00Z", berlin, "", ""},
		{"2071-03-04T13:00:00Z", "2071-03-04T13:03:08Z", berlin, "", first},
		{"2071-03-04T13:00:00Z", "2071-03-04T13:03:07Z", berlin, "", ""},
		{"2071-03-04", "2071-03-04", berlin, "2071-03-04T13:05:12Z", first},
		{"2071-03-04", "2071-03-04", berlin, "2071-03-04T13:05:13Z", ""},
	} {
		s := Site{Domain: t.Name(), Timezone: c.zone}
		if c.since != "" {
			var err error
			if s.Since, err = time.Parse(time.RFC3339, c.since); err != nil {
				t.Fatal(err)
			}
		}
		q := Query{Metrics: []Metric{Visitors}, DateRange: DateRange{From: c.from, To: c.to}}
		got, err := e.Run(t.Context(), public, s, q)
		said := ""
		for _, w := range got.Meta.Warnings {
			said += w.Warning
			if w.Code != "log_cut" {
				t.Errorf("%+v: code %q", c, w.Code)
			}
		}
		if err != nil || said != c.want {
			t.Errorf("%+v: %q %v", c, said, err)
		}
	}
}

// cutsQuerier fails statements about cuts and counts them.
type cutsQuerier struct {
	querier
	code  int32 // of the exception; 0: none
	asked int
}

func (q *cutsQuerier) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	if strings.Contains(query, "FROM cuts") {
		if q.asked++; q.code != 0 {
			return nil, &clickhouse.Exception{Code: q.code}
		}
	}
	return q.querier.Query(ctx, query, args...)
}

// The list of cuts is read once in a while. Without its table there are no cuts; any other failure is one of
// the query, since its answer can't say what it has to.
func TestCutsRead(t *testing.T) {
	for _, c := range []struct {
		code, asked int
		fails       bool
	}{{0, 1, false}, {codeUnknownTable, 1, false}, {codeMemory, 3, true}} {
		db := &cutsQuerier{querier: database(t), code: int32(c.code)}
		e := newEngine(t, db, Config{})
		q := Query{Metrics: []Metric{Visitors}, DateRange: DateRange{From: "2072-01-01", To: "2072-01-01"}}
		for range 3 {
			got, err := e.Run(t.Context(), public, Site{Domain: t.Name()}, q)
			var big *TooBig
			if errors.As(err, &big) != c.fails || (err != nil) != c.fails || got.Meta.Warnings != nil {
				t.Errorf("code %d: %+v %v", c.code, got.Meta, err)
			}
		}
		if db.asked != c.asked {
			t.Errorf("code %d: asked %d times, want %d", c.code, db.asked, c.asked)
		}
	}
}

func TestCutsStatement(t *testing.T) {
	r := &recorder{fail: errors.New("no more")}
	if _, err := newEngine(t, r, Config{Threads: 1}).knownCuts(t.Context()); !errors.Is(err, r.fail) {
		t.Error(err)
	}
	file := filepath.Join("testdata", "cuts.golden.sql")
	if *update {
		if err := os.WriteFile(file, []byte(r.sent.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || r.sent.String() != string(want) {
		t.Errorf("%s differs (go test -update writes it): %v; sent:\n%s", file, err, r.sent.String())
	}
}
