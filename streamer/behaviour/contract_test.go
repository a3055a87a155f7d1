package behaviour_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"nowcast/streamer/history"
)

// Each example of the contract is answered as the contract says.
func TestExamples(t *testing.T) {
	var contract struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct {
						Examples map[string]struct{ Value map[string]any }
					}
				} `yaml:"requestBody"`
			}
		}
	}
	b, err := os.ReadFile("../openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(b, &contract)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, history.Config{})
	at := time.Now().Add(-48 * time.Hour)
	w.put([]event{{at: at, visitor: 1, kind: "pageview", name: "pageview", path: "/", user: 7}})
	for _, path := range []string{"/api/v2/funnel", "/api/v2/journeys", "/api/v2/page", "/api/v2/retention"} {
		examples := contract.Paths[path].Post.RequestBody.Content["application/json"].Examples
		if len(examples) < 2 {
			t.Errorf("%s has %d examples", path, len(examples))
		}
		for name, x := range examples {
			body := string(must(json.Marshal(x.Value)))
			if status, _, text := w.post(path, body); status != http.StatusOK {
				t.Errorf("%s %s: %d %s", path, name, status, text)
			}
		}
	}
	w.refusals(t)
}

// refusals are questions that can't be answered: each says what to do.
func (w *world) refusals(t *testing.T) {
	const funnel, journeys, page, retention = "/api/v2/funnel", "/api/v2/journeys", "/api/v2/page",
		"/api/v2/retention"
	long := strings.Repeat("x", 2001)
	for _, row := range []struct{ path, rest, says string }{
		{funnel, `"steps":[{"page":"/"}]`, "steps: want 2 to 8 steps"},
		{funnel, `"steps":[` + strings.Repeat(`{"page":"/"},`, 8) + `{"page":"/"}]`, "steps: want 2 to 8"},
		{funnel, `"steps":[{"page":"/"},{}]`, `steps[1]: want either \"page\" or \"event\"`},
		{funnel, `"steps":[{"page":"/"},{"page":"/","event":"x"}]`, "steps[1]: want either"},
		{funnel, `"steps":[{"page":""},{"event":"x"}]`, "steps[0].page: want 1 to 2000 bytes"},
		{funnel, `"steps":[{"page":"/"},{"event":"` + long + `"}]`, "steps[1].event: want 1 to 2000 bytes"},
		{funnel, `"steps":[{"page":"/"},{"page":"/","filters":[["is","time:day",["x"]]]}]`,
			"steps[1].filters[0][1]:"},
		{funnel, `"steps":[{"page":"/"},{"page":"/"}],"scope":"week"`, "scope: \\\"week\\\" is not known"},
		{funnel, `"steps":[{"page":"/"},{"page":"/"}],"breakdown":"time:day"`, "breakdown: "},
		{funnel, `"steps":[{"page":"/"},{"page":"/"}],"limit":0`,
			"limit: want a whole number from 1 to 1000"},
		{funnel, `"steps":[{"page":"/"},{"page":"/"}],"window":3`, "unknown field \\\"window\\\""},
		{funnel, `"steps":[{"page":"/","x":1},{"page":"/"}]`, "unknown field \\\"steps[0].x\\\""},
		{journeys, `"limit":1`, "page: name a page, or ask for paths"},
		{journeys, `"direction":"after","paths":2`, "direction: it needs a page"},
		{journeys, `"paths":1`, "paths: want a whole number from 2 to 6"},
		{journeys, `"paths":7`, "paths: want a whole number from 2 to 6"},
		{journeys, `"page":"/","direction":"up"`, "direction: "},
		{page, `"limit":3`, "page: want 1 to 2000 bytes"},
		{page, `"page":"/","limit":101`, "limit: want a whole number from 1 to 100"},
		{retention, `"period":"hour"`, "period: "},
		{retention, `"filters":[["is"]]`, "filters[0]: want"},
		{retention, `"filters":null`, "null is not allowed"},
		{retention, `"site_id":"x"`, "site_id"},
	} {
		body := `{"site_id":"` + w.site + `","date_range":"7d",` + row.rest + `}`
		status, _, text := w.post(row.path, body)
		if status != http.StatusBadRequest || !strings.Contains(text, row.says) {
			t.Errorf("%s %s: %d %s, want %q", row.path, row.rest, status, text, row.says)
		}
	}
	for _, row := range []struct {
		days   int
		period string
		status int
	}{{92, "day", 200}, {93, "day", 400}, {93, "week", 200}, {106*7 + 7, "week", 400}, {3700, "month", 400}} {
		last := time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)
		body := fmt.Sprintf(`{"site_id":%q,"date_range":[%q,%q],"period":%q}`, w.site,
			last.AddDate(0, 0, 1-row.days).Format(time.DateOnly), last.Format(time.DateOnly), row.period)
		status, _, text := w.post(retention, body)
		if status != row.status || status == 400 && !strings.Contains(text, "ask for a shorter date_range") {
			t.Errorf("%d days by %s: %d %s, want %d", row.days, row.period, status, text, row.status)
		}
	}
	if status, _, text := w.post(page, `{"site_id":"`+w.site+`","page":"/"}`); status != 400 ||
		!strings.Contains(text, "date_range: is missing") {
		t.Errorf("without a range: %d %s", status, text)
	}
}

// A question about nothing has zeros and nulls, and one that would take too much says what to ask for.
func TestNothingAndTooMuch(t *testing.T) {
	w := newWorld(t, history.Config{Rows: 1000})
	ask := func(path, rest string) (int, string) {
		status, _, text := w.post(path,
			`{"site_id":"`+w.site+`","date_range":["2026-03-02","2026-03-02"]`+rest+`}`)
		return status, text
	}
	questions := map[string]struct{ rest, nothing string }{
		"/api/v2/funnel": {`,"steps":[{"page":"/"},{"page":"/a"}],"breakdown":"event:page"`,
			`{"unit":"visits","conversion_rate":null,"steps":[` +
				`{"count":0,"rate":null,"rate_of_previous":null,"dropped":0,"seconds":null},` +
				`{"count":0,"rate":null,"rate_of_previous":null,"dropped":null,"seconds":null}],` +
				`"breakdown":[],"total_values":0,`},
		"/api/v2/journeys": {`,"paths":2`, `{"count":0,"visits":0,"paths":[],"total_rows":0,`},
		"/api/v2/page": {`,"page":"/"`, `"bounce_rate":null,"time_on_page":null,"scroll_depth":null,` +
			`"before":[],"after":[],"sources":[],"countries":[],"events":[],`},
		"/api/v2/retention": {``, `{"visits":"4+","visitor_days":0,"share":null}],"cohorts":null,`},
	}
	for path, q := range questions {
		if status, text := ask(path, q.rest); status != 200 || !strings.Contains(text, q.nothing) {
			t.Errorf("%s about nothing: %d %s", path, status, text)
		}
	}
	w.exec("INSERT INTO events (site, ts, visitor, id, kpart, koff, kind, name, path) SELECT '" + w.site +
		"', toDateTime64('2026-03-02 12:00:00', 3, 'UTC'), number, toString(number), 0, number, " +
		"'pageview', 'pageview', '/' FROM numbers(5000)")
	for path, q := range questions {
		if status, text := ask(path, q.rest); status != http.StatusUnprocessableEntity ||
			!strings.Contains(text, "ask for a shorter date_range") {
			t.Errorf("%s about too much: %d %s", path, status, text)
		}
	}
}

// The visits of a range may take more memory than a statement has.
func TestMoreVisitsThanMemory(t *testing.T) {
	w := newWorld(t, history.Config{Memory: 80 << 20})
	w.exec("INSERT INTO hits (seal, site, day, who, visit, n, ts, kind, page, start, pageviews) SELECT 7, '" +
		w.site + "', '2026-03-02', number % 300000, 1, intDiv(number, 300000) + 1, '2026-03-02 12:00:00', " +
		"'pageview', cityHash64(toString(number % 7)), '2026-03-02 12:00:00', 2 FROM numbers(600000)")
	w.exec("INSERT INTO marks (site, day, n) VALUES ('" + w.site + "', '2026-03-02', 1)")
	w.exec("INSERT INTO seals (site, day, seal, marks, version) VALUES ('" + w.site +
		"', '2026-03-02', 7, 1, 1)")
	status, _, text := w.post("/api/v2/journeys",
		`{"site_id":"`+w.site+`","date_range":["2026-03-02","2026-03-02"],"paths":2,"limit":1}`)
	if status != http.StatusOK || !strings.Contains(text, `"visits":300000,`) {
		t.Errorf("%d %s", status, text)
	}
}
