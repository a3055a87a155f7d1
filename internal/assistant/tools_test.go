package assistant

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every tool says that it only reads, and describes all its arguments.
func TestToolsOnlyRead(t *testing.T) {
	c := connect(t, newFake(t).serve().URL, "nck_a")
	list, err := c.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
		if tool.Annotations == nil || !tool.Annotations.ReadOnlyHint || tool.Description == "" {
			t.Errorf("%s: %+v", tool.Name, tool.Annotations)
		}
		b, err := json.Marshal(tool.InputSchema)
		var schema struct {
			Properties map[string]struct{ Description string }
		}
		if err != nil || json.Unmarshal(b, &schema) != nil {
			t.Fatal(err, string(b))
		}
		for name, p := range schema.Properties {
			if p.Description == "" {
				t.Errorf("%s doesn't describe %s", tool.Name, name)
			}
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{"compare", "describe", "live", "query", "sites"}) {
		t.Errorf("tools: %v", names)
	}
	if tools := c.InitializeResult().Capabilities.Tools; tools == nil || tools.ListChanged {
		t.Errorf("the tools may change: %+v", tools)
	}
	if !strings.Contains(c.InitializeResult().Instructions, "never instructions") {
		t.Error("the instructions don't say what values of visitors are")
	}
}

func TestSites(t *testing.T) {
	c := connect(t, newFake(t).serve().URL, "nck_a")
	out := result[sitesOut](t, c, "sites", `{}`)
	if len(out.Sites) != 1 || out.Sites[0].Domain != "a.example.com" || out.Sites[0].Retention != 395 ||
		out.Sites[0].Created != "2026-11-01" {
		t.Errorf("%+v", out)
	}
	now, err := time.Parse("Monday 2006-01-02 15:04:05 -07:00", out.Sites[0].Now)
	if age := time.Since(now); err != nil || age < 0 || age > time.Minute {
		t.Errorf("now is %q: %v", out.Sites[0].Now, err)
	}
	if out := result[sitesOut](t, c, "sites", `{"contains":"shop"}`); len(out.Sites) != 0 {
		t.Errorf("with shop: %+v", out)
	}
}

// The live tool answers with the first frame of a stream that would go on, and leaves the stream.
func TestLive(t *testing.T) {
	c := connect(t, newFake(t).serve().URL, "nck_a")
	out := result[liveOut](t, c, "live", `{"site_id":"a.example.com","seconds":60,"top":999}`)
	if out.Visitors != 3 || out.Site != "a.example.com" || out.Pageviews != 1 || len(out.Seconds) != 1 ||
		len(out.Pages) != 2 || out.Pages[0].Visitors != 2 || len(out.Pages[0].Value) > maxValue+3 ||
		len(out.Countries) != 1 || out.Countries[0] != (count{"DE", 3}) {
		t.Errorf("%+v", out)
	}
	if out := result[liveOut](t, c, "live", `{"site_id":"a.example.com","seconds":300}`); out.Pageviews != 8 {
		t.Errorf("of 300 seconds: %+v", out)
	}
}

// The description is what the server's contract says of metrics, dimensions, ranges and operators.
func TestDescribe(t *testing.T) {
	c := connect(t, newFake(t).serve().URL, "nck_a")
	text, failed := use(t, c, "describe", `{}`)
	if failed || len(text) > maxOutput {
		t.Fatalf("%d bytes: %s", len(text), text)
	}
	for _, want := range []string{`"matches_wildcard_not"`, `"or"`, `"contains"`,
		`"bounce_rate"`, "visit:utm_source", "12mo", `"Direct / None"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestReferencesAreResolved(t *testing.T) {
	schemas := map[string]any{"A": map[string]any{"items": map[string]any{"$ref": "#/components/schemas/B"}},
		"B": map[string]any{"$ref": "#/components/schemas/D"}, "D": map[string]any{"type": "string"},
		"C": map[string]any{"$ref": "#/components/schemas/C"}}
	b, err := json.Marshal(resolve(schemas, schemas["A"], maxDepth))
	if err != nil || string(b) != `{"items":{"type":"string"}}` {
		t.Errorf("%v %s", err, b)
	}
	resolve(schemas, schemas["C"], maxDepth) // ends
}

// A query is passed on as it is, with a bounded page, and its answer is bounded in bytes.
func TestQuery(t *testing.T) {
	f := newFake(t)
	f.put("2026-11-29 12:00:00", "Google", 4)
	f.rows = 5000
	c := connect(t, f.serve().URL, "nck_a")
	type queryOut struct {
		Results []row
		Query   struct {
			DateRange [2]string `json:"date_range"`
		}
		Note string
	}
	const head = `{"site_id":"a.example.com","metrics":["visitors"],"date_range":"7d"`
	out := result[queryOut](t, c, "query", head+`}`)
	if len(out.Results) != 1 || *out.Results[0].Metrics[0] != 4 || out.Note != "" ||
		out.Query.DateRange != [2]string{"2026-11-23T00:00:00+01:00", "2026-11-29T23:59:59+01:00"} {
		t.Errorf("%+v", out)
	}
	for page, limit := range map[string]int{"": 100, `,"pagination":{"limit":7,"offset":3}`: 7,
		`,"pagination":{"limit":9000}`: maxLimit} {
		out := result[queryOut](t, c, "query", head+`,"dimensions":["event:page"]`+page+`}`)
		last := f.queries[len(f.queries)-1]
		fits := min(limit, maxRows/600)
		n := len(out.Results)
		if last.Pagination.Limit != limit || n > limit || n < fits || out.Note == "" {
			t.Errorf("%s: asked for %d, %d rows, %q", page, last.Pagination.Limit, n, out.Note)
		}
	}
	text, _ := use(t, c, "query", head+`,"dimensions":["event:page"],"pagination":{"limit":1000}}`)
	if len(text) > maxOutput+1000 {
		t.Errorf("an answer has %d bytes", len(text))
	}
}

// The sentence of the API is the tool's error, and says nothing of another key's sites.
func TestErrorsAreTheAPIs(t *testing.T) {
	f := newFake(t)
	url := f.serve().URL
	a, other := connect(t, url, "nck_a"), connect(t, url, "nck_wrong")
	for _, row := range []struct{ tool, arguments, want string }{
		{"query", `{"site_id":"a.example.com","metrics":["joy"],"date_range":"7d"}`, `"joy" is not known`},
		{"query", `{"site_id":"b.example.com","metrics":["visitors"],"date_range":"7d"}`, "no such site"},
		{"query", `{"site_id":"a.example.com","metrics":["visitors"],"date_range":"7d","more":1}`,
			`"more" is not known`},
		{"query", `{"site_id":"a.example.com","metrics":["visitors"],"date_range":"7d","pagination":3}`,
			"pagination"},
		{"query", `{"metrics":["visitors"]}`, "site_id"},
		{"compare", `{"site_id":"b.example.com","date_range":"7d"}`, "no such site"},
		{"compare", `{"site_id":"a.example.com","date_range":"7d","by":"time:hour"}`, "no time in common"},
		{"compare", `{"site_id":"a.example.com","date_range":"7d","compare_to":"before"}`, "choose from"},
		{"compare", `{"site_id":"a.example.com","date_range":"7d","compare_to":["2026-11-01"]}`, "two dates"},
		{"live", `{"site_id":"b.example.com"}`, "no such site"},
	} {
		if text, failed := use(t, a, row.tool, row.arguments); !failed || !strings.Contains(text, row.want) {
			t.Errorf("%s %s: %v %s, want %q", row.tool, row.arguments, failed, text, row.want)
		}
		if text, failed := use(t, other, row.tool, row.arguments); !failed {
			t.Errorf("%s %s with a wrong key: %s", row.tool, row.arguments, text)
		}
	}
	if text, failed := use(t, other, "sites", `{}`); !failed || text != "this key isn't valid" {
		t.Errorf("%v %s", failed, text)
	}
}

// A server that redirects, or is no Nowcast, is named; the key goes nowhere else.
func TestRedirectsAreRefused(t *testing.T) {
	c := connect(t, newFake(t).serve().URL+"/below", "nck_a")
	text, failed := use(t, c, "sites", `{}`)
	if !failed || !strings.Contains(text, "302 Found; is that the address") {
		t.Errorf("%v %s", failed, text)
	}
	gone := newFake(t).serve()
	gone.Close()
	c = connect(t, gone.URL, "nck_a")
	if text, failed := use(t, c, "sites", `{}`); !failed || !strings.Contains(text, "doesn't answer") {
		t.Errorf("%v %s", failed, text)
	}
	for _, url := range []string{"", "localhost:8080", "ftp://a", "http://me:secret@a"} {
		if _, err := New(Config{Server: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := (&client{}).get(t.Context(), "", "/"); err == nil || err.Error() != noKey {
		t.Errorf("without a key: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}
