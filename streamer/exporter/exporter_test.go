package exporter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	openapi "github.com/oapi-codegen/runtime/types"
	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer/api"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	streamertest.Main(m, func() error {
		http.DefaultClient.CloseIdleConnections()
		return goleak.Find()
	})
}

type open struct{}

func (open) RequireAdmin(*gin.Context, func(*gin.Context, error)) bool { return true }

type registry map[string]site.Site

func (r registry) Lookup(domain string) (site.Site, bool) {
	st, ok := r[domain]
	return st, ok
}

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// serve serves exports of a.example, and of b.example, which is a second site of its domain.
func serve(t *testing.T, cfg Config, db database) (*Handlers, string) {
	t.Helper()
	sites := registry{"a.example": {Domain: "a.example", Created: now.Add(-time.Hour)},
		"b.example": {Domain: "b.example", Created: now.Add(-time.Hour), Previous: now.Add(-2 * time.Hour)}}
	h := NewHandlers(cfg, db, sites, open{}, slog.New(slog.DiscardHandler), func(c *gin.Context, err error) {
		api.Refuse(c, http.StatusTeapot, "%v", err)
	})
	h.now = func() time.Time { return now }
	e := gin.New()
	e.GET("/:domain", func(c *gin.Context) {
		p := api.GetExportParams{}
		if f := api.GetExportParamsFormat(c.Query("format")); f != "" {
			p.Format = &f
		}
		for name, to := range map[string]**openapi.Date{"from": &p.From, "to": &p.To} {
			if v := c.Query(name); v != "" {
				d, _ := time.Parse(time.DateOnly, v)
				*to = &openapi.Date{Time: d}
			}
		}
		h.GetExport(c, c.Param("domain"), p)
	})
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return h, s.URL
}

func get(t *testing.T, url string) (status int, body string, err error) {
	t.Helper()
	res, err := http.Get(url) //nolint:gosec // the test's server
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func fill(t *testing.T, db *warehouse.DB, site string, events, perHour int, last time.Time) {
	t.Helper()
	err := db.Exec(t.Context(), fmt.Sprintf("INSERT INTO events (site, ts, day, utc_offset, visitor, id, "+
		"kind, name, path, props, revenue_micros, currency) "+
		"SELECT '%s', toDateTime64(%d - intDiv(number, %d) * 3600, 3, 'UTC') "+
		"+ toIntervalMillisecond(number %% 1000) AS at, toDate(at), 0, 1 + number %% 7, "+
		"reinterpretAsFixedString(toUInt128(number)), 'pageview', 'pageview', "+
		"concat('/\"p,', toString(number)), "+
		"map('plan', 'a\"b'), 12300000, 'EUR' FROM numbers(%d)", site, last.Unix(), perHour, events))
	if err != nil {
		t.Fatal(err)
	}
}

// Every event is exported once, in both formats, over the borders of statements.
func TestWhole(t *testing.T) {
	db := streamertest.ClickHouse(t)
	h, url := serve(t, Config{Rows: 700}, db)
	fill(t, db, "a.example", 5000, 300, now)
	fill(t, db, "a.example", 5000, 300, now) // again, as a replay
	fill(t, db, "b.example", 1200, 300, now) // 3 of the 4 hours are of the former site
	status, body, err := get(t, url+"/a.example?format=csv")
	records, wrong := csv.NewReader(strings.NewReader(body)).ReadAll()
	if status != 200 || err != nil || wrong != nil || len(records) != 5001 {
		t.Fatalf("%d, %d records: %v %v", status, len(records), err, wrong)
	}
	paths, visitors := map[string]bool{}, map[string]bool{}
	for _, r := range records[1:] {
		paths[r[8]], visitors[r[3]] = true, true
		if len(r) != len(records[0]) || r[27] != `{"plan":"a\"b"}` || r[28] != "12300000" || r[4] != "" {
			t.Fatalf("%q", r)
		}
	}
	if len(paths) != 5000 || len(visitors) != 7 || visitors["0000000000000001"] {
		t.Errorf("%d paths, visitors %v", len(paths), visitors)
	}
	status, body, err = get(t, url+"/a.example")
	lines := 0
	for line := range strings.Lines(body) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(line, err)
		}
		if visitors[e["visitor"].(string)] || !paths[e["path"].(string)] || e["currency"] != "EUR" {
			t.Fatalf("a number of the other export, or no path of it: %v", e)
		}
		lines++
	}
	if status != 200 || err != nil || lines != 5000 {
		t.Errorf("%d, %d lines: %v", status, lines, err)
	}
	status, body, err = get(t, url+"/a.example?format=parquet")
	file := strings.NewReader(body)
	read, wrong := parquet.Read[parquetRow](file, file.Size())
	if status != 200 || err != nil || wrong != nil || len(read) != 5000 {
		t.Fatalf("%d, %d rows of Parquet: %v %v", status, len(read), err, wrong)
	}
	times := map[string]int64{}
	for _, r := range records[1:] {
		at, _ := time.Parse(timeFormat, r[0])
		times[r[8]] = at.UnixMilli()
	}
	for _, r := range read {
		if times[r.Path] != r.Time || r.Props["plan"] != `a"b` || r.Currency != "EUR" ||
			r.Name != "pageview" || int64(r.Day) != r.Time/86_400_000 || r.RevenueMicros != 12_300_000 {
			t.Fatalf("%+v", r)
		}
	}
	if _, body, _ := get(t, url+"/b.example"); strings.Count(body, "\n") != 600 {
		t.Errorf("%d events of a site that was made again", strings.Count(body, "\n"))
	}
	_, body, _ = get(t, url+"/a.example?from=2026-11-30&to=2026-11-30")
	if strings.Count(body, "\n") != 3900 {
		t.Errorf("%d events of one day", strings.Count(body, "\n"))
	}
	h.now = func() time.Time { return now.AddDate(0, 0, 395) }
	if _, body, _ = get(t, url+"/a.example?format=csv"); strings.Count(body, "\n") != 301 {
		t.Errorf("%d lines when only an hour is within the retention", strings.Count(body, "\n"))
	}
	for query, want := range map[string]int{"/nobody.example": 418, "/a.example?format=xml": 400,
		"/a.example?from=2026-11-30&to=2026-11-29": 400} {
		if status, body, _ := get(t, url+query); status != want {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// failing is a database with endless rows, or with an error.
type failing struct {
	driver.Rows
	after, calls int
	err          error
	ctx          context.Context //nolint:containedctx // of the statement, which the test looks at
	ended        atomic.Bool
	read         int
}

func (f *failing) Query(ctx context.Context, sql string, _ ...any) (driver.Rows, error) {
	f.calls++
	f.read = 0
	if strings.Contains(sql, "count()") {
		return &hours{n: 3}, nil
	}
	if f.after == 0 {
		return nil, f.err
	}
	f.ctx = ctx
	return f, nil
}

func (f *failing) Next() bool {
	f.read++
	return f.read <= f.after && f.ctx.Err() == nil
}

func (f *failing) Scan(to ...any) error {
	*(to[8].(*string)) = strings.Repeat("x", 1000)
	return nil
}

func (f *failing) Err() error { return errors.Join(f.err, f.ctx.Err()) }

func (f *failing) Close() error {
	f.ended.Store(true)
	return nil
}

// hours are rows of the first statement.
type hours struct {
	driver.Rows
	n uint32
}

func (h *hours) Next() bool { h.n--; return h.n < 1<<31 }

func (h *hours) Scan(to ...any) error {
	*(to[0].(*uint32)), *(to[1].(*uint64)) = h.n*3600, 1_000_000
	return nil
}

func (h *hours) Err() error   { return nil }
func (h *hours) Close() error { return nil }

// A part is never taken for the whole: an error before the first byte is an answer, a later one breaks the
// connection.
func TestBrokenOff(t *testing.T) {
	_, url := serve(t, Config{}, &failing{err: errors.New("down")})
	status, body, err := get(t, url+"/a.example")
	if status != 418 || err != nil || !strings.Contains(body, "down") {
		t.Errorf("%d %s %v", status, body, err)
	}
	for _, format := range []string{"csv", "ndjson"} {
		_, url = serve(t, Config{}, &failing{after: 200, err: errors.New("down")})
		status, body, err := get(t, url+"/a.example?format="+format)
		if status != 200 || len(body) < 60_000 || err == nil {
			t.Errorf("%s: %d, %d bytes, %v", format, status, len(body), err)
		}
	}
}

// A client that reads too slowly, or that leaves, ends the statement and gives its place back.
func TestSlowReader(t *testing.T) {
	for name, leave := range map[string]bool{"slow": false, "gone": true} {
		db := &failing{after: 1 << 40}
		patience := 100 * time.Millisecond
		if leave {
			patience = time.Hour
		}
		h, url := serve(t, Config{Concurrent: 1, Patience: patience}, db)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/a.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		first, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil || !strings.Contains(first, "xxx") {
			t.Fatal(first, err)
		}
		if status, _, _ := get(t, url+"/a.example"); status != 429 && leave {
			t.Errorf("a second export: %d", status)
		}
		if leave {
			cancel()
		}
		var rest bytes.Buffer
		if _, err := io.Copy(&rest, res.Body); err == nil {
			t.Errorf("%s: the response ended as if it was whole", name)
		}
		res.Body.Close()
		for until := time.Now().Add(10 * time.Second); len(h.slots) > 0 || !db.ended.Load(); {
			if time.Now().After(until) {
				t.Fatalf("%s: the export goes on", name)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
