package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/warehouse"
)

// One engine serves all of the facade's tests. Each creates tables of its own.
func TestFacade(t *testing.T) {
	t.Parallel()
	h := newClickHouse(t, t.TempDir())
	run(t, h)
	db := open(t, h.DSN())
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, string, *warehouse.DB){
		"types": testTypes, "parameters": testParameters, "errors": testErrors, "midstream": testMidstream,
		"concurrency": testConcurrency, "deduplication": testDeduplication, "cancel": testCancel,
		"settings": testSettings, "empty insert": testEmptyInsert, "incomplete insert": testIncompleteInsert,
		"big insert": testBigInsert, "inline insert": testInlineInsert, "plain HTTP": testPlainHTTP,
	} {
		t.Run(name, func(t *testing.T) { test(t, h.DSN(), db) })
	}
}

func do(t *testing.T, db *warehouse.DB, query string, args ...any) {
	t.Helper()
	if err := db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func one[T any](t *testing.T, db *warehouse.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// code returns ClickHouse's code of err, or 0 if err isn't an exception of ClickHouse.
func code(err error) int32 {
	var e *clickhouse.Exception
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// event is a row of the table events.
type event struct {
	Site           string            `ch:"site"`
	TS             time.Time         `ch:"ts"`
	Visitor        uint64            `ch:"visitor"`
	ID             string            `ch:"id"`
	KPart          uint16            `ch:"kpart"`
	KOff           uint64            `ch:"koff"`
	KIdx           uint16            `ch:"kidx"`
	Kind           string            `ch:"kind"`
	Name           string            `ch:"name"`
	Hostname       string            `ch:"hostname"`
	Path           string            `ch:"path"`
	Referrer       string            `ch:"referrer"`
	Source         string            `ch:"source"`
	UTMSource      string            `ch:"utm_source"`
	UTMMedium      string            `ch:"utm_medium"`
	UTMCampaign    string            `ch:"utm_campaign"`
	UTMContent     string            `ch:"utm_content"`
	UTMTerm        string            `ch:"utm_term"`
	Country        string            `ch:"country"`
	Region         string            `ch:"region"`
	Device         string            `ch:"device"`
	Browser        string            `ch:"browser"`
	BrowserVersion string            `ch:"browser_version"`
	OS             string            `ch:"os"`
	OSVersion      string            `ch:"os_version"`
	Language       string            `ch:"language"`
	Props          map[string]string `ch:"props"`
	RevenueMicros  int64             `ch:"revenue_micros"`
	Currency       string            `ch:"currency"`
	ScrollDepth    uint8             `ch:"scroll_depth"`
	EngagedMS      uint32            `ch:"engaged_ms"`
	Interactive    bool              `ch:"interactive"`
	Late           bool              `ch:"late"`
	Fresh          bool              `ch:"fresh"`
	Channel        string            `ch:"channel"`
	City           string            `ch:"city"`
	Screen         string            `ch:"screen"`
	Day            time.Time         `ch:"day"`
	UTCOffset      int32             `ch:"utc_offset"`
	User           uint64            `ch:"user"`
}

// someEvent returns an event with a distinct value in every column, with characters that text formats
// escape.
func someEvent(site string, n int) event {
	ts := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).Add(time.Duration(n) * time.Millisecond)
	e := event{Site: site, TS: ts, Visitor: math.MaxUint64 - uint64(n), ID: "0123456789abcde\xff",
		KPart: 7, KOff: math.MaxUint64, KIdx: 65535, Kind: "custom",
		Props:         map[string]string{"plan": "pro\n\nplus", "naïve 'key'": "\t\\N\x00"},
		RevenueMicros: math.MinInt64, Currency: "EUR", ScrollDepth: 255, EngagedMS: math.MaxUint32,
		Interactive: true, Late: n%2 == 0, Fresh: true, Day: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC),
		UTCOffset: math.MinInt32, User: math.MaxUint64}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.String() == "" {
			f.SetString(fmt.Sprintf("%s %d: ünï'c\"ode\n\n\\ ✓", v.Type().Field(i).Name, n))
		}
	}
	return e
}

func insertEvents(ctx context.Context, db *warehouse.DB, events ...event) error {
	b, err := db.PrepareBatch(ctx, "INSERT INTO events")
	if err != nil {
		return err
	}
	for i := range events {
		if err := b.AppendStruct(&events[i]); err != nil {
			return err
		}
	}
	return b.Send()
}

func testTypes(t *testing.T, dsn string, db *warehouse.DB) {
	for _, compress := range []string{"none", "lz4", "zstd", "gzip"} {
		t.Run(compress, func(t *testing.T) {
			db := open(t, dsn+"?compress="+compress)
			want := []event{someEvent(compress, 0), someEvent(compress, 1)}
			if err := insertEvents(t.Context(), db, want...); err != nil {
				t.Fatal(err)
			}
			var got []event
			err := db.Select(t.Context(), &got,
				"SELECT * FROM events FINAL WHERE site = {site:String} ORDER BY ts",
				clickhouse.Named("site", compress))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("got %d rows, want %d", len(got), len(want))
			}
			for i := range got {
				if !got[i].TS.Equal(want[i].TS) || !maps.Equal(got[i].Props, want[i].Props) {
					t.Errorf("got %v %q, want %v %q", got[i].TS, got[i].Props, want[i].TS, want[i].Props)
				}
				if !got[i].Day.Equal(want[i].Day) {
					t.Errorf("got the day %v, want %v", got[i].Day, want[i].Day)
				}
				got[i].TS, got[i].Props, got[i].Day = want[i].TS, want[i].Props, want[i].Day
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("got %+v, want %+v", got[i], want[i])
				}
			}
		})
	}
}

func testParameters(t *testing.T, _ string, db *warehouse.DB) {
	at := time.Date(2026, 7, 8, 9, 10, 11, 12e6, time.UTC)
	const special = "O'Neil \\ \"q\" \n\n\t ü \x01 {x:String} ;--"
	for _, c := range []struct {
		typ   string
		value any
		want  string
	}{
		{"String", "", ""},
		{"String", special, special},
		{"UInt64", uint64(math.MaxUint64), "18446744073709551615"},
		{"Int64", int64(math.MinInt64), "-9223372036854775808"},
		{"Float64", 0.5, "0.5"},
		{"Bool", true, "true"},
		{"DateTime64(3, 'UTC')", at.Format("2006-01-02 15:04:05.000"), "2026-07-08 09:10:11.012"},
		{"Array(String)", []string{"a'b", "c\\d", ""}, `['a\'b','c\\d','']`},
		{"Array(UInt64)", []uint64{1, math.MaxUint64}, "[1,18446744073709551615]"},
	} {
		got := one[string](t, db, "SELECT toString({x:"+c.typ+"})", clickhouse.Named("x", c.value))
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.typ, got, c.want)
		}
	}
	ctx := clickhouse.Context(t.Context(),
		clickhouse.WithParameters(clickhouse.Parameters{"n": "18446744073709551615", "s": "it's"}))
	var n uint64
	var s string
	err := db.QueryRow(ctx, "SELECT {n:UInt64}, {s:String}").Scan(&n, &s)
	if err != nil || n != math.MaxUint64 || s != "it's" {
		t.Errorf("got %d %q %v", n, s, err)
	}
}

func testErrors(t *testing.T, dsn string, db *warehouse.DB) {
	for _, c := range []struct {
		query string
		code  int32
	}{
		{"SELECT * FROM nowhere", 60},
		{"SELEC 1", 62},
		{"1", 62}, // as on a server, an expression is no statement
		{"DROP TABLE nowhere", 60},
		{"SELECT toUInt8('x')", 6},
		{"INSERT INTO nowhere VALUES (1)", 60},
	} {
		if err := db.Exec(t.Context(), c.query); code(err) != c.code {
			t.Errorf("%s: got %v, want code %d", c.query, err, c.code)
		}
	}
	if err := open(t, dsn+"?database=nowhere").Ping(t.Context()); code(err) != 81 {
		t.Errorf("unknown database: got %v", err)
	}
	if got := one[uint8](t, db, "SELECT 1"); got != 1 { // the sessions still work
		t.Errorf("got %d", got)
	}
}

// An exception after the first blocks of a response reaches the client as an error, after the rows
// before it.
func testMidstream(t *testing.T, dsn string, _ *warehouse.DB) {
	for _, compress := range []string{"none", "lz4", "gzip"} {
		db := open(t, dsn+"?compress="+compress)
		rows, err := db.Query(t.Context(), "SELECT number, throwIf(number = 300000, 'so far') "+
			"FROM numbers(1000000) SETTINGS max_threads = 1")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if err := rows.Err(); n < 1000 || err == nil || !strings.Contains(err.Error(), "so far") {
			t.Errorf("%s: %d rows, then %v", compress, n, err)
		}
		rows.Close()
	}
}

func testConcurrency(t *testing.T, _ string, db *warehouse.DB) {
	var g sync.WaitGroup
	for i := range 32 {
		g.Go(func() {
			var got uint64
			const query = "SELECT sum(number) + {i:UInt64} FROM numbers(1000000)"
			if err := db.QueryRow(t.Context(), query, clickhouse.Named("i", i)).Scan(&got); err != nil {
				t.Error(err)
			} else if want := uint64(499999500000 + i); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
	g.Wait()
}

// The statement of a client that disconnects stops in the engine, and its session serves the next
// request.
func testCancel(t *testing.T, _ string, db *warehouse.DB) {
	const running = "SELECT count() FROM system.processes " +
		"WHERE query LIKE '%endless%' AND query NOT LIKE '%system.processes%'"
	for range 6 { // more than there are sessions
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		start := time.Now()
		err := db.Exec(ctx, "SELECT count() FROM numbers_mt(1e13) "+
			"WHERE sipHash64(number) = 1 AND 'endless' = 'endless'")
		cancel()
		if err == nil || time.Since(start) > 2*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	}
	eventually(t, 5*time.Second, func() (bool, string) {
		n := one[uint64](t, db, running)
		return n == 0, fmt.Sprintf("%d statements still run", n)
	})
	start := time.Now()
	testConcurrency(t, "", db)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("afterwards queries took %v", took)
	}
}

// The settings of a request don't affect other requests, on any session.
func testSettings(t *testing.T, dsn string, db *warehouse.DB) {
	limited := open(t, dsn+"?max_result_rows=1&max_block_size=1")
	for range 8 {
		var rows []struct {
			Number uint64 `ch:"number"`
		}
		if err := limited.Select(t.Context(), &rows, "SELECT number FROM numbers(10)"); code(err) != 396 {
			t.Errorf("limited: got %v", err)
		}
		if got := one[string](t, db, "SELECT toString(getSetting('max_result_rows'))"); got != "0" {
			t.Errorf("max_result_rows = %s without it being set", got)
		}
		err := open(t, dsn+"?max_block_size=77&no_such_setting=1").Exec(t.Context(), "SELECT 1")
		if code(err) != 115 {
			t.Errorf("unknown setting: got %v", err)
		}
		if got := one[string](t, db, "SELECT toString(getSetting('max_block_size'))"); got == "77" {
			t.Error("a refused request left its settings")
		}
	}
}

// A plain HTTP client, as curl is, can query the engine too.
func testPlainHTTP(t *testing.T, dsn string, _ *warehouse.DB) {
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", u.Path) }
	tr := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	for _, c := range []struct{ query, body, want string }{
		{"SELECT 1 + 1", "", "2\n"},
		{"", "SELECT 'body'", "body\n"},
		{"SELECT ", "3 FORMAT CSV", "3\n"},
		{"-- note\nWITH 1 AS x SELECT x", "", "1\n"},
		{"SELECT {a:UInt8}&param_a=7", "", "7\n"},
		{"SELECT 1 WHERE 0", "", ""},
	} {
		query, rest, _ := strings.Cut(c.query, "&")
		target := "http://x/?query=" + url.QueryEscape(query) + "&" + rest
		req, err := http.NewRequest(http.MethodPost, target, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || string(b) != c.want {
			t.Errorf("%q %q: got %d %q", c.query, c.body, res.StatusCode, b)
		}
	}
}
