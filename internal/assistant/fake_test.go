package assistant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"nowcast/streamer/history"
)

// fake answers as the streamer does, for one site an hour ahead of UTC. It refuses the queries that the
// streamer's own decoder refuses.
type fake struct {
	t     *testing.T
	now   time.Time         // by the site's clocks
	views []view            // what is counted
	sites map[string]string // the site that each key may read
	rows  int               // of a query by event:page; 0: those of views

	mu      sync.Mutex
	queries []asked
}

// asked is what the fake reads of a query.
type asked struct {
	Site       string `json:"site_id"`
	Metrics    []string
	Dates      any `json:"date_range"`
	Dimensions []string
	Include    struct {
		TotalRows bool `json:"total_rows"`
	}
	Pagination struct{ Limit int }
}

type row struct {
	Metrics    []*float64 `json:"metrics"`
	Dimensions []string   `json:"dimensions"`
}

// view is one visitor at a time of the site's clocks.
type view struct {
	at     time.Time
	source string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	return &fake{t: t, now: clock("2026-11-30 10:00:00"),
		sites: map[string]string{"nck_a": "a.example.com", "nck_b": "b.example.com"}}
}

// clock reads a time of the site's clocks.
func clock(s string) time.Time {
	t, err := time.Parse(time.DateTime, s)
	if err != nil {
		panic(err)
	}
	return t
}

func (f *fake) serve() *httptest.Server {
	s := httptest.NewServer(f)
	f.t.Cleanup(func() { s.CloseClientConnections(); s.Close(); http.DefaultClient.CloseIdleConnections() })
	return s
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", f.now.Add(-time.Hour).Format(http.TimeFormat))
	site, ok := f.sites[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !ok {
		f.refuse(w, http.StatusUnauthorized, "this key isn't valid")
		return
	}
	switch r.URL.Path {
	case "/api/v1/sites":
		fmt.Fprintf(w, `{"sites":[{"domain":%q,"public":false,"timezone":"Europe/Berlin",`+
			`"created":"2026-11-01T12:00:00Z","retention_days":395}]}`, site)
	case "/api/openapi.yaml":
		http.ServeFile(w, r, "../../streamer/openapi.yaml")
	case "/api/events":
		f.stream(w, r, site)
	case "/api/v2/query":
		f.query(w, r, site)
	case "/elsewhere":
		f.t.Error("a redirect was followed")
	default:
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}
}

func (f *fake) refuse(w http.ResponseWriter, status int, sentence string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": sentence})
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request, site string) {
	q := r.URL.Query()
	if q.Get("site") != site {
		f.refuse(w, http.StatusNotFound, "there is no such site, or this key may not read it")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "retry: 1000\n\nevent: snapshot\nid: 1-1-0\ndata: "+`{"visitors":3,`+
		`"timestamp":"2026-11-30T09:00:00.250Z","site":%q,"skipped":0,"now":{"pages":[["/%s",2],["/",1]],`+
		`"sources":[],"countries":[["DE",3]],"devices":[],"rest":{}},"seconds":[`+
		`{"at":"2026-11-30T08:58:00Z","pageviews":7,"visitors":2,"events":9,"final":true},`+
		`{"at":"2026-11-30T08:59:59Z","pageviews":1,"visitors":1,"events":1,"final":false}]}`+"\n\n",
		site, strings.Repeat("long", 200)+"-top-"+q.Get("top"))
	w.(http.Flusher).Flush()
	<-r.Context().Done() // a stream doesn't end by itself
}

func (f *fake) query(w http.ResponseWriter, r *http.Request, site string) {
	var q asked
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = errors.Join(json.Unmarshal(b, new(history.Query)), json.Unmarshal(b, &q))
	}
	switch {
	case err != nil:
		f.refuse(w, http.StatusBadRequest, err.Error())
		return
	case q.Site != site:
		f.refuse(w, http.StatusNotFound, "there is no such site, or this key may not read it")
		return
	}
	f.mu.Lock()
	f.queries = append(f.queries, q)
	f.mu.Unlock()
	from, to := f.span(q.Dates)
	counts, total := map[string]float64{}, 0.0
	for _, v := range f.views {
		if !v.at.Before(from) && !v.at.After(to) {
			counts[v.source]++
			total++
		}
	}
	rows, meta := []row{}, map[string]any{}
	switch {
	case len(q.Dimensions) == 0:
		rows = append(rows, row{q.values(total), []string{}})
	case q.Dimensions[0] == "event:page":
		for i := range min(f.rows, q.Pagination.Limit) {
			page := fmt.Sprint("/", strings.Repeat("x", 500), i)
			rows = append(rows, row{q.values(float64(i)), []string{page}})
		}
	default:
		for source, n := range counts {
			rows = append(rows, row{q.values(n), []string{source}})
		}
	}
	if q.Include.TotalRows {
		meta["total_rows"] = max(len(counts), f.rows)
	}
	if from.Equal(clock("2026-11-28 00:00:00")) {
		meta["warnings"] = []map[string]string{{"code": "log_cut", "warning": "The server lost its power."}}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"results": rows, "meta": meta, "query": map[string]any{
		"site_id": site, "metrics": q.Metrics, "dimensions": q.Dimensions,
		"date_range": []string{stamp(from), stamp(to)}}})
}

// values are the metrics of a row: n for each but a mean, which there isn't.
func (q asked) values(n float64) (out []*float64) {
	for _, m := range q.Metrics {
		if m == "bounce_rate" {
			out = append(out, nil)
		} else {
			out = append(out, &n)
		}
	}
	return out
}

// span resolves a date range by the site's clocks.
func (f *fake) span(dates any) (from, to time.Time) {
	today := f.now.Truncate(24 * time.Hour)
	switch dates {
	case "day":
		return today, today.Add(24*time.Hour - time.Second)
	case "7d":
		return today.AddDate(0, 0, -7), today.Add(-time.Second)
	case "24h":
		return f.now.Add(time.Second - 24*time.Hour), f.now
	}
	ends, ok := dates.([]any)
	if !ok {
		f.t.Errorf("the fake has no range %v", dates)
		return f.now, f.now
	}
	first, last := ends[0].(string), ends[1].(string)
	if len(first) == len(time.DateOnly) {
		return clock(first + " 00:00:00"), clock(last + " 23:59:59")
	}
	return clock(strings.Replace(first, "T", " ", 1)), clock(strings.Replace(last, "T", " ", 1))
}

func stamp(t time.Time) string { return t.Format(localLayout) + "+01:00" }

// put counts n visitors of a source.
func (f *fake) put(at, source string, n int) {
	f.views = append(f.views, slices.Repeat([]view{{clock(at), source}}, n)...)
}

// connect returns an assistant's session with a server that reads url with a key.
func connect(t *testing.T, url, key string) *mcp.ClientSession {
	t.Helper()
	s, err := New(Config{Server: url, Key: key, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := mcp.NewInMemoryTransports()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.mcp.Run(ctx, ours) }()
	c := session(t, theirs)
	t.Cleanup(func() { c.Close(); cancel(); <-done; s.api.http.CloseIdleConnections() })
	return c
}

func session(t *testing.T, transport mcp.Transport) *mcp.ClientSession {
	t.Helper()
	c, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(),
		transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// use calls a tool. It returns the text of the result, and whether it is an error of the tool.
func use(t *testing.T, c *mcp.ClientSession, tool, arguments string) (text string, failed bool) {
	t.Helper()
	r, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: tool,
		Arguments: json.RawMessage(arguments)})
	if err != nil {
		t.Fatalf("%s %s: %v", tool, arguments, err)
	}
	for _, part := range r.Content {
		if p, ok := part.(*mcp.TextContent); ok {
			text += p.Text
		}
	}
	return text, r.IsError
}

// result calls a tool that has to succeed, and decodes its result.
func result[T any](t *testing.T, c *mcp.ClientSession, tool, arguments string) (out T) {
	t.Helper()
	text, failed := use(t, c, tool, arguments)
	if failed {
		t.Fatalf("%s %s: %s", tool, arguments, text)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s %s: %v in %s", tool, arguments, err, text)
	}
	return out
}
