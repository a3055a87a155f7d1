package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
	"nowcast/streamer"
	"nowcast/streamer/access"
	"nowcast/streamer/api/apitest"
	"nowcast/streamer/history"
)

const adminSecret = "nck_5f0c1e9ab27d4863a1f4c2d97e80b63d1c5a9f24e7b80d36"

// server is a streamer over the tests' ClickHouse.
type server struct {
	t    *testing.T
	url  string
	db   *warehouse.DB
	site string // public, with page views of one day
	key  string // of a key that may read it
}

func newServer(t *testing.T, rows int, cfg history.Config) *server {
	t.Helper()
	d := &server{
		t: t, db: history.Database(t),
		site: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + ".example.com",
	}
	domain, count := clickhouse.Named("site", d.site), clickhouse.Named("rows", rows)
	if err := d.db.Exec(t.Context(), insertRows, domain, count); err != nil {
		t.Fatal(err)
	}
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	kafka := broker.New(broker.Config{Addrs: k.ListenAddrs()})
	t.Cleanup(kafka.Close)
	if err := kafka.Ensure(t.Context(), topic.Specs(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	sites := site.NewRegistry(kafka, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = sites.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := sites.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// its rows are of any time
	st := site.Site{Domain: d.site, Public: true, Created: time.Unix(1, 0),
		RetentionDays: site.MaxRetentionDays}
	if err := sites.Put(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	if _, d.key, err = sites.NewKey(t.Context(), "reader", false, []string{d.site}); err != nil {
		t.Fatal(err)
	}
	s, err := streamer.New(
		streamer.Config{Access: access.Config{AdminKey: adminSecret}, History: cfg},
		streamer.Deps{
			Broker: kafka, Warehouse: d.db, Sites: sites, Log: slog.New(slog.DiscardHandler),
			Metrics: prometheus.NewRegistry(),
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.TestMode)
	e := gin.New()
	s.Routes(e)
	srv := httptest.NewServer(e)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close(); http.DefaultClient.CloseIdleConnections() })
	d.url = srv.URL
	return d
}

// light is a query that takes no time. heavy is one that takes over a minute: its patterns match nothing and
// have no literal to search for, so that each row is matched against each of them.
func (d *server) light() string {
	return `{"site_id":"` + d.site + `","metrics":["events"],"date_range":["2026-03-03","2026-03-03"]}`
}

func (d *server) heavy() string {
	var patterns []string
	for i := range 200 {
		patterns = append(patterns, fmt.Sprintf("[a-z]{%d}[0-9-]{%d}[a-z]*[A-Z]", 1+i%10, 1+i/10))
	}
	b, err := json.Marshal(patterns)
	if err != nil {
		d.t.Fatal(err)
	}
	return `{"site_id":"` + d.site + `","metrics":["events"],"date_range":["2026-03-02","2026-03-02"],` +
		`"filters":[["matches","event:page",` + string(
		b,
	) + `]]}`
}

const insertRows = `INSERT INTO events
    (site, ts, visitor, id, kpart, koff, kind, name, hostname, path, interactive, fresh)
SELECT {site:String}, toDateTime64('2026-03-02 00:00:00', 3, 'UTC') + toIntervalMillisecond(number * 50),
    sipHash64(number % 50000), unhex(hex(sipHash128(number))), 0, number,
    'pageview', 'pageview', 'example.com',
    concat('/section-', toString(number % 37), '/article-', toString(number % 9973)), 1, 1
FROM numbers({rows:UInt64})`

type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a query and checks the answer against the contract.
func (d *server) post(ctx context.Context, key, body string) (answer, error) {
	return d.postTo(ctx, "/api/v2/query", key, body)
}

func (d *server) postTo(ctx context.Context, path, key, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	contract, err := apitest.New()
	if err != nil {
		return answer{}, err
	}
	req.Body = io.NopCloser(bytes.NewReader([]byte(body)))
	return answer{
			res.StatusCode,
			res.Header,
			string(b),
		}, contract.Response(
			req, res.StatusCode, res.Header, b,
		)
}

// running waits until ClickHouse runs a number of heavy statements.
func (d *server) running(want uint64) {
	d.t.Helper()
	n := uint64(0)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		rows, err := d.db.Query(
			d.t.Context(),
			"SELECT count() FROM system.processes WHERE query LIKE '%match(%' AND query NOT LIKE "+
				"'%system.processes%'",
		)
		if err != nil {
			d.t.Fatal(err)
		}
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				d.t.Fatal(err)
			}
		}
		if err := rows.Close(); err != nil {
			d.t.Fatal(err)
		}
		if n == want {
			return
		}
	}
	d.t.Fatalf("ClickHouse runs %d heavy statements, want %d", n, want)
}

// begin sends a heavy query, which stop cancels.
func (d *server) begin(key string) (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if a, err := d.post(ctx, key, d.heavy()); err == nil {
			d.t.Errorf("a heavy query was answered: %d %.200s", a.status, a.body)
		}
	}()
	return func() { cancel(); <-ended }
}

// A query that exceeds a limit is refused with advice, whichever limit it is.
func TestHeavyQueries(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  history.Config
	}{
		{"rows", history.Config{Rows: 1000}},
		{"memory", history.Config{Memory: 1 << 20}},
		{"time", history.Config{Timeout: time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newServer(t, 200_000, c.cfg)
			a, err := d.post(t.Context(), "", d.heavy())
			if err != nil || a.status != http.StatusUnprocessableEntity ||
				!strings.Contains(a.body, "ask for a shorter date_range, fewer dimensions") {
				t.Errorf("%v, %d %.200s", err, a.status, a.body)
			}
			d.running(0)
			if a, err := d.post(t.Context(), "", d.light()); c.name == "time" &&
				(err != nil || a.status != http.StatusOK) {
				t.Errorf("the next one: %v, %d %.200s", err, a.status, a.body)
			}
		})
	}
}

// A principal whose slots are taken is told to wait, others have theirs until all are taken, and a client
// that disconnects ends its statement in ClickHouse.
func TestBusy(t *testing.T) {
	d := newServer(
		t,
		1_500_000,
		history.Config{
			Concurrent: 2, PerPrincipal: 1, QueueTimeout: 100 * time.Millisecond,
			Timeout: 10 * time.Minute, Threads: 1,
		},
	)
	is := func(key string, status int, says string) {
		t.Helper()
		a, err := d.post(t.Context(), key, d.light())
		if err != nil || a.status != status || !strings.Contains(a.body, says) ||
			status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "2" {
			t.Errorf("%v, %d %v %.200s, want %d with %q", err, a.status, a.header, a.body, status, says)
		}
	}
	is("", http.StatusOK, `"results"`)
	public := d.begin("")
	d.running(1)
	is(
		"", http.StatusTooManyRequests,
		"1 queries without a key are running already, which is the most; try again",
	)
	is(d.key, http.StatusOK, `"results"`)
	own := d.begin(d.key)
	d.running(2)
	is(d.key, http.StatusTooManyRequests, "1 queries of this key are running already")
	is(adminSecret, http.StatusTooManyRequests, "too many queries are running; try again")
	public()
	d.running(1)
	is(adminSecret, http.StatusOK, `"results"`)
	own()
	d.running(0)
	is(d.key, http.StatusOK, `"results"`)
}

// A site far from Greenwich has its events on its own days, in rows and labels.
func TestFarZones(t *testing.T) {
	d := newServer(t, 1, history.Config{}) // at 2026-03-02T00:00:00Z
	for zone, want := range map[string]string{
		"Pacific/Apia": "2026-03-02 13:00:00", "Pacific/Kwajalein": "2026-03-02 12:00:00",
		"America/St_Johns": "2026-03-01 20:00:00",
	} {
		d.setZone(zone)
		date := want[:len("2026-03-02")]
		for dimension, label := range map[string]string{"time:day": date, "time:hour": want} {
			a, err := d.post(t.Context(), "", `{"site_id":"`+d.site+`","metrics":["visitors"],`+
				`"date_range":["`+date+`","`+date+`"],"dimensions":["`+dimension+`"],`+
				`"include":{"time_labels":true}}`)
			var r struct {
				Results []history.Row
				Meta    struct {
					TimeLabels []string `json:"time_labels"`
				}
			}
			if err != nil || json.Unmarshal([]byte(a.body), &r) != nil || len(r.Results) != 1 ||
				r.Results[0].Dimensions[0] != label || !slices.Contains(r.Meta.TimeLabels, label) {
				t.Errorf("%s by %s: %v %d %s, want %s", zone, dimension, err, a.status, a.body, label)
			}
		}
	}
}

func (d *server) setZone(zone string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPatch, d.url+"/api/v1/sites/"+d.site,
		strings.NewReader(`{"timezone":"`+zone+`"}`))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+adminSecret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusOK {
		d.t.Fatalf("set the zone %s: %s", zone, res.Status)
	}
}

// An answer whose date range has a cut of the log says so, in the form of the contract; others don't.
func TestCutsOverHTTP(t *testing.T) {
	d := newServer(t, 10, history.Config{})
	history.InsertCuts(t)
	for day, want := range map[string]string{
		"2071-03-04": `"meta":{"warnings":[{"code":"log_cut","warning":"The server lost its power: ` +
			`some views between 2071-03-04 13:03:08 and 13:05:12 may be missing."}]}`,
		"2071-03-03": `"meta":{}`,
	} {
		a, err := d.post(t.Context(), d.key, strings.ReplaceAll(d.light(), "2026-03-03", day))
		if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%s: %v, %d %s, want %s", day, err, a.status, a.body, want)
		}
	}
}
