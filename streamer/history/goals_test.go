package history_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nowcast/internal/site"
	"nowcast/streamer/history"
)

// A queried is an answer with rows.
type queried struct {
	Results []struct {
		Metrics    []float64
		Dimensions []string
	}
	Meta struct {
		TotalRows int                              `json:"total_rows"`
		Warnings  []struct{ Code, Warning string } `json:"warnings"`
	}
}

func (d *server) queried(key, body string) (q queried) {
	d.t.Helper()
	a, err := d.post(d.t.Context(), key, body)
	if err != nil || a.status != http.StatusOK {
		d.t.Fatalf("%s: %v %d %s", body, err, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &q); err != nil {
		d.t.Fatal(err)
	}
	return q
}

// reaching are the visitors and the number of the events that reach a goal.
func reaching(events []site.Event, visitors []int, g site.Goal) (reached map[int]bool, n int) {
	reached = map[int]bool{}
	for i, e := range events {
		if g.Matches(e) {
			reached[visitors[i]] = true
			n++
		}
	}
	return reached, n
}

// Answers by goals, and of the visitors who reach one, are those of package site, event by event.
func TestGoals(t *testing.T) {
	d := newServer(t, 0, history.Config{})
	goals := []site.Goal{
		{Name: "Signup", Condition: site.Condition{Event: "Signup"}},
		{Name: "Any event", Condition: site.Condition{Event: "**"}},
		{Name: "Blog", Condition: site.Condition{Page: "/blog/*"}},
		{Name: "Star", Condition: site.Condition{Page: `/a\*b`}},
		{Name: "Pro", Condition: site.Condition{Event: "Signup", Properties: []site.PropertyCondition{
			{Key: "plan", Operator: "is", Values: []string{"pro", "team"}}}}},
		{Name: "Not pro", Condition: site.Condition{Event: "S*", Properties: []site.PropertyCondition{
			{Key: "plan", Operator: "is_not", Values: []string{"pro"}}}}},
		{Name: "Has o", Condition: site.Condition{Page: "/**", Properties: []site.PropertyCondition{
			{Key: "plan", Operator: "contains", Values: []string{"o"}}}}},
		{Name: "No o", Condition: site.Condition{Event: "**", Properties: []site.PropertyCondition{
			{Key: "plan", Operator: "contains_not", Values: []string{"o"}},
			{Key: "size", Operator: "is_not", Values: []string{"none"}}}}},
		{Name: "Nobody", Condition: site.Condition{Event: "Never"}},
		{Name: "Reads", Condition: site.Condition{Page: "/blog/*", ScrollDepth: 50}},
	}
	for _, g := range goals {
		body, err := json.Marshal(struct {
			Name string `json:"name"`
			site.Condition
		}{g.Name, g.Condition})
		if err != nil {
			t.Fatal(err)
		}
		a, err := d.postTo(t.Context(), "/api/v1/sites/"+d.site+"/goals", adminSecret, string(body))
		if err != nil || a.status != http.StatusCreated {
			t.Fatalf("%s: %v %d %s", body, err, a.status, a.body)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	var events []site.Event
	var visitors []int
	var rows []string
	for i := range 400 {
		e := site.Event{
			Name:       pick("pageview", "pageview", "Signup", "Sale", "Other"),
			Properties: map[string]string{},
			Path:       pick("/", "/blog/a", "/blog/b/c", "/a*b", "/aXb"),
		}
		for _, key := range []string{"plan", "size"} {
			if v := pick("", "pro", "team", "none", "s"); v != "" {
				e.Properties[key] = v
			}
		}
		kind := map[bool]string{true: "pageview", false: "custom"}[e.Name == "pageview"]
		props := ""
		for _, key := range slices.Sorted(maps.Keys(e.Properties)) {
			props += fmt.Sprintf(", '%s', '%s'", key, e.Properties[key])
		}
		events, visitors = append(events, e), append(visitors, random.IntN(60))
		rows = append(
			rows,
			fmt.Sprintf("('%s', '2026-03-02 10:00:00', %d, unhex(hex(sipHash128(%d))), %d, '%s', '%s', "+
				"'%s', map(%s), '2026-03-02', 0, 1)", d.site, visitors[i]+1, i, i, kind, e.Name, e.Path,
				strings.TrimPrefix(props, ", ")),
		)
	}
	if err := d.db.Exec(t.Context(), "INSERT INTO events (site, ts, visitor, id, koff, kind, name, path, "+
		"props, "+
		"day, utc_offset, fresh) VALUES "+strings.Join(rows, ", ")); err != nil {
		t.Fatal(err)
	}
	all := map[int]bool{}
	for _, v := range visitors {
		all[v] = true
	}
	rate := func(n int) float64 { return math.Round(10000*float64(n)/float64(len(all))) / 100 }
	ask := func(rest string) string {
		return `{"site_id":"` + d.site + `","date_range":["2026-03-02","2026-03-02"],` + rest + `}`
	}
	byGoal := d.queried(d.key, ask(`"metrics":["visitors","events","conversion_rate","percentage"],
		"dimensions":["event:goal"],"include":{"total_rows":true}`))
	if w := byGoal.Meta.Warnings; len(w) != 1 || w[0].Code != "goals_not_counted" ||
		!strings.Contains(w[0].Warning, `"Reads"`) {
		t.Errorf("warnings %+v, want one that names Reads", w)
	}
	if byGoal.Meta.TotalRows != 8 || len(byGoal.Results) != 8 {
		t.Fatalf("%d rows, want 8: %+v", len(byGoal.Results), byGoal)
	}
	for i, r := range byGoal.Results {
		g := goals[slices.IndexFunc(goals, func(g site.Goal) bool { return g.Name == r.Dimensions[0] })]
		reached, n := reaching(events, visitors, g)
		want := []float64{float64(len(reached)), float64(n), rate(len(reached)), 0}
		want[3] = math.Round(1000*float64(len(reached))/float64(len(all))) / 10
		if !slices.Equal(r.Metrics, want) {
			t.Errorf("%s: %v, want %v", g.Name, r.Metrics, want)
		}
		if i > 0 && r.Metrics[0] > byGoal.Results[i-1].Metrics[0] {
			t.Errorf("row %d isn't in order: %+v", i, byGoal.Results)
		}
		for op, want := range map[string]int{"is": n, "is_not": len(events) - n} {
			q := d.queried(
				d.key,
				ask(fmt.Sprintf(`"metrics":["events"],"filters":[[%q,"event:goal",[%q]]]`, op, g.Name)),
			)
			if got := q.Results[0].Metrics[0]; got != float64(want) {
				t.Errorf("%s %s: %v events, want %d", op, g.Name, got, want)
			}
		}
	}
	page := d.queried(
		d.key,
		ask(`"metrics":["visitors"],"dimensions":["event:goal"],"pagination":{"limit":2,"offset":1},
		"order_by":[["event:goal","desc"]]`),
	)
	if len(page.Results) != 2 || page.Results[0].Dimensions[0] != "Signup" ||
		page.Results[1].Dimensions[0] != "Pro" {
		t.Errorf("second page %+v, want Signup and Pro", page.Results)
	}
	filtered := func(filter string) string {
		return ask(`"metrics":["visitors"],"filters":[[` + filter + `]]`)
	}
	for _, row := range []struct{ body, want string }{
		{filtered(`"is","event:goal",["Nothing"]`), `has no goal \"Nothing\"`},
		{filtered(`"is","event:goal",["Reads"]`), "by scrolling or by time"},
		{filtered(`"contains","event:goal",["a"]`), `want [\"is\" or \"is_not\"`},
		{ask(`"metrics":["conversion_rate"]`), "conversion_rate is of goals"},
		{ask(`"metrics":["visitors"],"dimensions":["event:goal","visit:source"]`),
			"without another dimension"},
	} {
		a, err := d.post(t.Context(), d.key, row.body)
		if err != nil || a.status != http.StatusBadRequest || !strings.Contains(a.body, row.want) {
			t.Errorf("%s: %v %d %s, want 400 with %q", row.body, err, a.status, a.body, row.want)
		}
	}
	// The site is public, its goals aren't.
	if q := d.queried("", ask(`"metrics":["visitors"],"dimensions":["event:goal"]`)); len(q.Results) != 0 {
		t.Errorf("without a key: %+v", q)
	}
}

// A dashboard has a card of goals.
func TestGoalsOnADashboard(t *testing.T) {
	d := newServer(t, 10, history.Config{})
	a, err := d.postTo(
		t.Context(),
		"/api/v1/sites/"+d.site+"/goals",
		adminSecret,
		`{"name":"First","page":"/section-0/**"}`,
	)
	if err != nil || a.status != http.StatusCreated {
		t.Fatal(err, a)
	}
	a, err = d.postTo(t.Context(), "/api/v2/dashboard", d.key, `{"site_id":"`+d.site+`","date_range":
		["2026-03-02","2026-03-02"],
		"cards":[{"dimension":"event:goal","metrics":["visitors","conversion_rate"]}]}`)
	if err != nil || a.status != http.StatusOK ||
		!strings.Contains(a.body, `"results":[{"metrics":[1,10],"dimensions":["First"]}],"total_rows":1`) {
		t.Error(err, a.status, a.body)
	}
}
