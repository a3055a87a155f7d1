package history_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"nowcast/internal/assistant"
	"nowcast/streamer/history"
)

const insertSources = `INSERT INTO events
    (site, ts, visitor, id, kpart, koff, kind, name, hostname, path, source, interactive, fresh)
SELECT {site:String}, toDateTime64({day:String}, 3, 'UTC') + toIntervalMinute(number),
    sipHash64(number, {day:String}, {source:String}),
    unhex(hex(sipHash128(number, {day:String}, {source:String}))), 0, number,
    'pageview', 'pageview', 'example.com', '/', {source:String}, 1, 1
FROM numbers({rows:UInt64})`

// putSource stores page views of as many visitors from a source on a day.
func (d *server) putSource(day, source string, rows int) {
	d.t.Helper()
	if err := d.db.Exec(d.t.Context(), insertSources, clickhouse.Named("site", d.site),
		clickhouse.Named("day", day+" 00:00:00"), clickhouse.Named("source", source),
		clickhouse.Named("rows", rows)); err != nil {
		d.t.Fatal(err)
	}
}

// withKey sends a key with each request.
type withKey string

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// assist connects an assistant over HTTP to the tools, which read this streamer.
func (d *server) assist(key string) *mcp.ClientSession {
	d.t.Helper()
	s, err := assistant.New(assistant.Config{Server: d.url})
	if err != nil {
		d.t.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		d.t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	d.t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(d.t.Context(),
		&mcp.StreamableClientTransport{Endpoint: srv.URL + assistant.Path, DisableStandaloneSSE: true,
			HTTPClient: &http.Client{Transport: withKey(key)}}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

func (d *server) use(c *mcp.ClientSession, tool string, arguments map[string]any) (text string, failed bool) {
	d.t.Helper()
	r, err := c.CallTool(d.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil || len(r.Content) != 1 {
		d.t.Fatalf("%s: %v %+v", tool, err, r)
	}
	return r.Content[0].(*mcp.TextContent).Text, r.IsError
}

// An assistant with a site's key is told by this streamer why visitors dropped, and nothing of other sites.
func TestAssistantReadsTheStreamer(t *testing.T) {
	d := newServer(t, 0, history.Config{})
	for _, row := range []struct {
		day, source string
		rows        int
	}{
		{"2026-03-02", "Google", 120}, {"2026-03-02", "", 30}, {"2026-03-02", "Newsletter", 50},
		{"2026-03-03", "Google", 110}, {"2026-03-03", "", 45},
	} {
		d.putSource(row.day, row.source, row.rows)
	}
	c := d.assist(d.key)
	text, failed := d.use(c, "compare", map[string]any{"site_id": d.site, "by": "visit:source",
		"date_range": []string{"2026-03-03", "2026-03-03"}})
	var out struct {
		CompareTo     [2]string `json:"compare_to"`
		Totals        []struct{ Before, Now, Change float64 }
		Contributions []struct {
			Value               string
			Before, Now, Change float64
		}
		Notes []string
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil || failed || len(out.Totals) != 1 {
		t.Fatalf("%v %s", err, text)
	}
	if out.CompareTo[0] != "2026-03-02" || out.Totals[0].Before != 200 || out.Totals[0].Now != 155 ||
		out.Totals[0].Change != -45 || len(out.Contributions) != 3 || len(out.Notes) > 0 {
		t.Fatal(text)
	}
	for i, want := range []struct {
		value  string
		change float64
	}{{"Newsletter", -50}, {"Direct / None", 15}, {"Google", -10}} {
		if x := out.Contributions[i]; x.Value != want.value || x.Change != want.change {
			t.Errorf("%d: %+v, want %+v", i, x, want)
		}
	}
	for _, dateRange := range []any{"yesterday", "day", "24h", "7d", "month"} {
		for _, to := range []string{"previous_period", "previous_week", "year_over_year"} {
			if text, failed := d.use(c, "compare", map[string]any{"site_id": d.site, "date_range": dateRange,
				"compare_to": to, "metrics": []string{"visitors", "bounce_rate"}}); failed {
				t.Errorf("%s, %s: %s", dateRange, to, text)
			}
		}
	}
	for tool, arguments := range map[string]map[string]any{
		"sites": {}, "describe": {},
		"query": {"site_id": d.site, "metrics": []string{"visitors", "bounce_rate"}, "date_range": "all",
			"dimensions": []string{"visit:source"}, "order_by": [][]string{{"visitors", "desc"}}},
	} {
		if text, failed := d.use(c, tool, arguments); failed || len(text) < 100 {
			t.Errorf("%s: %s", tool, text)
		}
	}
	if text, _ := d.use(c, "sites", nil); !strings.Contains(text, d.site) {
		t.Error(text)
	}
	other := map[string]any{"site_id": "other.example.com", "metrics": []string{"visitors"},
		"date_range": "7d"}
	for _, key := range []string{d.key, "nck_wrong"} {
		text, failed := d.use(d.assist(key), "query", other)
		if !failed || strings.Contains(text, "results") {
			t.Errorf("of another site: %s", text)
		}
	}
}
