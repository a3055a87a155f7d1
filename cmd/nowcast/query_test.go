package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"nowcast/streamer/history"
)

// queryStub answers queries as the streamer does, which refuses those that aren't valid.
type queryStub struct {
	mu     sync.Mutex
	body   string // of the last query
	answer string
}

func (q *queryStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	if r.Header.Get("Authorization") != "Bearer nck_secret" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"this needs a key"}`)
		return
	}
	if r.URL.Path == "/api/v1/sites/example.com" {
		fmt.Fprint(w, `{"domain":"example.com","public":false,"timezone":"Europe/Berlin",`+
			`"created":"2026-11-23T12:00:00Z"}`)
		return
	}
	var query history.Query
	if err := json.Unmarshal(b, &query); err != nil || r.URL.Path != "/api/v2/query" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprint(err)})
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.body = string(b)
	fmt.Fprint(w, q.answer)
}

const bySource = `{"results":[{"metrics":[1204,41],"dimensions":["Google"]},` +
	`{"metrics":[7,null],"dimensions":["\u001b[31mred\u202e"]},` +
	`{"metrics":[3,0],"dimensions":["日本, \"x\""]}],` +
	`"meta":{"total_rows":9,"warnings":[{"code":"log_cut","warning":"The server lost its power."}]},` +
	`"query":{"site_id":"example.com","metrics":["visitors","bounce_rate"],"dimensions":["visit:source"],` +
	`"date_range":["2026-11-23T00:00:00+01:00","2026-11-29T23:59:59+01:00"]}}`

// ask runs `nowcast query` against a stub.
func ask(t *testing.T, answer, stdin string, args ...string) (code int, out, errs, asked string) {
	t.Helper()
	stub := &queryStub{answer: answer}
	s := httptest.NewServer(stub)
	defer s.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var o bytes.Buffer
	args = append([]string{"query", "--server", s.URL, "--key", "nck_secret"}, args...)
	code = report(f, run(t.Context(), args, &stdio{strings.NewReader(stdin), &o, f}))
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, o.String(), string(b), stub.body
}

// Flags and JSON from anywhere make the queries that the API takes.
func TestQueryRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "query.json")
	const written = `{"site_id":"example.com","metrics":["visits"],"date_range":"day"}`
	if err := os.WriteFile(file, []byte(written+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--site", "example.com"},
			`{"site_id":"example.com","metrics":["visitors"],"date_range":"7d"}`},
		{[]string{"--site", "example.com", "--metrics", "visitors,bounce_rate", "--by", "source", "--limit",
			"10", "--order", "bounce_rate asc,source", "--range", "30d"},
			`{"site_id":"example.com","metrics":["visitors","bounce_rate"],"date_range":"30d",` +
				`"dimensions":["visit:source"],"include":{"total_rows":true},"pagination":{"limit":10},` +
				`"order_by":[["bounce_rate","asc"],["visit:source","desc"]]}`},
		{[]string{"--site", "example.com", "--range", "2026-11-01, 2026-11-30", "--by", "day,page"},
			`{"site_id":"example.com","metrics":["visitors"],"date_range":["2026-11-01","2026-11-30"],` +
				`"dimensions":["time:day","event:page"],"include":{"total_rows":true}}`},
		{[]string{"--site", "example.com", "--range", "2026-11-01"},
			`{"site_id":"example.com","metrics":["visitors"],"date_range":["2026-11-01","2026-11-01"]}`},
		{[]string{"--site", "example.com", "--filter", "country is DE, AT", "--filter",
			`page contains not /docs/`, "--filter", `event:props:plan is_not "a, \"b\"", not set , ""`},
			`{"site_id":"example.com","metrics":["visitors"],"date_range":"7d","filters":[` +
				`["is","visit:country",["DE","AT"]],["contains_not","event:page",["/docs/"]],` +
				`["is_not","event:props:plan",["a, \"b\"","not set",""]]]}`},
		{[]string{written}, written},
		{[]string{file}, written},
	} {
		code, out, errs, asked := ask(t, bySource, "", row.args...)
		var got, want any
		if err := json.Unmarshal([]byte(asked), &got); code != 0 || err != nil {
			t.Errorf("%q: %d %v\n%s%s", row.args, code, err, out, errs)
			continue
		}
		if json.Unmarshal([]byte(row.want), &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q asked %s\nwant %s", row.args, asked, row.want)
		}
	}
	if code, _, errs, asked := ask(t, bySource, written, "-"); code != 0 || asked != written {
		t.Errorf("from stdin: %d %s%s", code, asked, errs)
	}
}

// What is printed names range and zone, aligns numbers to the right, and shows no control character.
func TestQueryPrints(t *testing.T) {
	const table = `example.com, 2026-11-23 to 2026-11-29, Europe/Berlin

visit:source       visitors  bounce_rate
Google                 1204           41
\x1b[31mred\u202e         7
日本, "x"                 3            0

3 of 9 rows

Warning: The server lost its power.
`
	code, out, errs, _ := ask(t, bySource, "", "--site", "example.com", "--by", "source")
	if code != 0 || out != table || errs != "" {
		t.Errorf("%d\n%s%s\nwant\n%s", code, out, errs, table)
	}
	const rows = "visit:source,visitors,bounce_rate\nGoogle,1204,41\n" +
		"\x1b[31mred\u202e,7,\n\"日本, \"\"x\"\"\",3,0\n"
	code, out, errs, _ = ask(t, bySource, "", "--site", "example.com", "--csv")
	if code != 0 || out != rows || errs != "Warning: The server lost its power.\n" {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, errs, _ = ask(t, bySource, "", "--site", "example.com", "--json")
	var got, want any
	if code != 0 || errs != "" || json.Unmarshal([]byte(out), &got) != nil ||
		json.Unmarshal([]byte(bySource), &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	empty := strings.NewReplacer("00:00:00", "08:00:00", "2026-11-29", "2026-11-23").Replace(
		`{"results":[],"meta":{},` + bySource[strings.Index(bySource, `"query"`):])
	if _, out, _, _ = ask(t, empty, "", "--site", "example.com"); !strings.HasPrefix(out,
		"example.com, 2026-11-23 08:00:00 to 2026-11-23 23:59:59, Europe/Berlin\n") ||
		!strings.HasSuffix(out, "visitors  bounce_rate\n\nNo rows: nothing was counted.\n") {
		t.Error(out)
	}
}

// A query that can't be asked ends with 2 where the command line says so, and with 1 where it is found later.
func TestQueryRefusals(t *testing.T) {
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "give a query as JSON, or --site"},
		{`{} --site a.com`, 2, "the query is in the JSON already"},
		{"--site a.com --limit=-1", 2, "--limit is -1"},
		{"--site a.com --csv --json", 2, "can't be used together"},
		{"--site a.com --filter page", 2, "give a dimension, an operator and values"},
		{"--site a.com --filter 'page is'", 2, "give a dimension, an operator and values"},
		{"--site a.com --filter 'page is a,,b'", 2, "there is an empty value"},
		{`--site a.com --filter 'page is "a'`, 2, "has no closing quote"},
		{`--site a.com --filter 'page is "a" b'`, 2, "separate values by commas"},
		{"--site a.com --order 'visitors up'", 2, "give a column and asc or desc"},
		{"--site a.com --filter 'page near /'", 1, `filters[0][0]: "near" is not known; choose from`},
		{"--site a.com --metrics joy", 1, `metrics[0]: "joy" is not known`},
		{"{", 1, "the query is not JSON: unexpected end"},
		{"nowhere.json", 1, "a query is JSON that begins with {, a file, or - for stdin"},
		{"-", 1, "the query in stdin is not JSON"},
	} {
		code, out, errs, _ := ask(t, bySource, "", words(row.args)...)
		if code != row.code || out != "" || !strings.Contains(errs, row.want) {
			t.Errorf("%s: %d %s%s, want %d with %q", row.args, code, out, errs, row.code, row.want)
		}
	}
	if code, _, errs, _ := ask(t, bySource, "", "--site", "example.com", "--key", "nck_other"); code != 1 ||
		errs != "nowcast: this needs a key\n" {
		t.Errorf("another key: %d %s", code, errs)
	}
}

// words splits a command line at spaces outside of single quotes.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

// A table is cut to a narrow terminal at its dimensions, never at its numbers.
func TestQueryTableFitsTerminal(t *testing.T) {
	var a queryAnswer
	if err := json.Unmarshal([]byte(strings.Replace(bySource, "Google",
		"a-very-long-source.example.com/日本語のページ", 1)), &a); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{60, 45, 44, 43, 37, 20} {
		var b bytes.Buffer
		if err := a.writeTable(&b, "UTC", width); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")[2:6]
		for _, l := range lines {
			if n := textWidth(l); n > max(width, 35) {
				t.Errorf("width %d: %q has %d", width, l, n)
			}
		}
		if !strings.Contains(lines[1], "…") || !strings.HasSuffix(lines[1], "1204           41") {
			t.Errorf("width %d: %q", width, lines[1])
		}
	}
}

// The examples of the help, of README.md and of docs/assistants.md are queries that the API takes.
func TestQueryExamples(t *testing.T) {
	text := queryCmd{}.Help()
	for _, name := range []string{"../../README.md", "../../docs/assistants.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text += "\n" + string(b)
	}
	const written = `{"site_id":"example.com","metrics":["visits"],"date_range":"day"}`
	t.Chdir(t.TempDir())
	if err := os.WriteFile("query.json", []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	examples := 0
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, " < ")
		args := words(strings.TrimPrefix(strings.TrimSpace(line), "bin/"))
		if len(args) < 3 || args[0] != "nowcast" || args[1] != "query" || args[2] == "--help" {
			continue
		}
		examples++
		if code, _, errs, asked := ask(t, bySource, written, args[2:]...); code != 0 || asked == "" {
			t.Errorf("%s: %d %s", line, code, errs)
		}
	}
	if examples != 12 {
		t.Errorf("%d examples, want 12", examples)
	}
}
