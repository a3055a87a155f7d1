package history

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func readDashboard(t testing.TB, body string) (q DashboardQuery, err error) {
	t.Helper()
	err = json.Unmarshal([]byte(body), &q)
	return q, err
}

// A dashboard has the numbers of single queries, whatever is sealed.
func TestDashboard(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	for _, x := range samples(t)[:7] {
		r := wholeRange(x)
		q, err := readDashboard(t, `{"site_id":"x","date_range":["`+r.From+`","`+r.To+`"],`+
			`"filters":[["is_not","event:page",["/"]]],"interval":"time:day",`+
			`"comparison":{"mode":"custom","date_range":["`+r.From+`","`+r.From+`"]},`+
			`"cards":[{"dimension":"visit:source"},{"dimension":"event:page","metrics":["pageviews",`+
			`"time_on_page","percentage"],"limit":3},{"dimension":"visit:language",`+
			`"metrics":["bounce_rate"]}]}`)
		if err != nil {
			t.Fatal(err)
		}
		d, err := e.Dashboard(t.Context(), public, x.site, q)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(q Query) Response {
			t.Helper()
			q.Filters = []Filter{{Op: IsNot, Dimension: page, Values: []string{"/"}}}
			q.Include.TotalRows = true
			if q.DateRange.From == "" {
				q.DateRange = r
			}
			if q.Metrics == nil {
				q.Metrics = usualTiles
			}
			got, err := e.Run(t.Context(), public, x.site, q)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		one := func(m []*float64) string { return describe([]Row{{Metrics: m}}) }
		if got, want := one(d.Tiles), one(ask(Query{}).Results[0].Metrics); got != want {
			t.Errorf("tiles %s, want %s", got, want)
		}
		first := ask(Query{DateRange: DateRange{From: r.From, To: r.From}})
		if got, want := one(d.Comparison.Tiles), one(first.Results[0].Metrics); got != want ||
			d.Comparison.DateRange != first.Query.DateRange {
			t.Errorf("compared %s %v, want %s", got, d.Comparison.DateRange, want)
		}
		line := ask(Query{Dimensions: []string{"time:day"}, Include: Include{TimeLabels: true}})
		if got, want := describe(d.Line.Results), describe(line.Results); got != want ||
			strings.Join(d.Line.Labels, " ") != strings.Join(line.Meta.TimeLabels, " ") {
			t.Errorf("line %s, want %s", got, want)
		}
		for i, c := range q.Cards {
			card := ask(Query{Dimensions: []string{c.Dimension}, Metrics: c.Metrics, Limit: c.Limit})
			if got, want := describe(d.Cards[i].Results), describe(card.Results); got != want ||
				d.Cards[i].TotalRows != *card.Meta.TotalRows {
				t.Errorf("card %d has %s of %d, want %s of %d", i, got, d.Cards[i].TotalRows, want,
					*card.Meta.TotalRows)
			}
		}
	}
}

// The range that is compared with has the length of the other, also where that isn't over.
func TestComparisons(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 46, 30, 0, time.UTC) // a Tuesday, 10:46:30 in Berlin
	for _, c := range []struct{ dates, comparison, want string }{
		{`"day"`, `{"mode":"previous_period"}`, "2026-11-23T00:00:00 2026-11-23T10:46:30"},
		{`"day"`, `{"mode":"previous_period","match_day_of_week":true}`,
			"2026-11-17T00:00:00 2026-11-17T10:46:30"},
		{`"day"`, `{"mode":"year_over_year"}`, "2025-11-24T00:00:00 2025-11-24T10:46:30"},
		{`"day"`, `{"mode":"year_over_year","match_day_of_week":true}`,
			"2025-11-25T00:00:00 2025-11-25T10:46:30"},
		{`"7d"`, `{"mode":"previous_period"}`, "2026-11-10 2026-11-16"},
		{`"7d"`, `{"mode":"previous_period","match_day_of_week":true}`, "2026-11-10 2026-11-16"},
		{`"30d"`, `{"mode":"previous_period"}`, "2026-09-25 2026-10-24"},
		{`"30d"`, `{"mode":"previous_period","match_day_of_week":true}`, "2026-09-20 2026-10-19"},
		{`["2026-10-25","2026-10-25"]`, `{"mode":"previous_period"}`, "2026-10-24 2026-10-24"},
		{`["2024-02-29","2024-02-29"]`, `{"mode":"year_over_year"}`, "2023-03-01 2023-03-01"},
		{`"month"`, `{"mode":"year_over_year"}`, "2025-11-01T00:00:00 2025-11-24T10:46:30"},
		{`"24h"`, `{"mode":"previous_period"}`, "2026-11-22T10:46:31+01:00 2026-11-23T10:46:30+01:00"},
		{`"24h"`, `{"mode":"year_over_year"}`, "2025-11-23T10:46:31 2025-11-24T10:46:30"},
		{`"day"`, `{"mode":"custom","date_range":["2026-01-01","2026-01-02"]}`, "2026-01-01 2026-01-02"},
	} {
		q, err := readDashboard(t, `{"site_id":"x","date_range":`+c.dates+`,"comparison":`+c.comparison+`}`)
		if err != nil {
			t.Fatal(err)
		}
		s, err := q.DateRange.resolve(now, load(t, "Europe/Berlin"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := q.Comparison.of(s, now)
		if got := r.From + " " + r.To; err != nil || got != c.want {
			t.Errorf("%s %s: %s %v, want %s", c.dates, c.comparison, got, err, c.want)
		}
		if _, err := r.between(s.Zone); err != nil {
			t.Errorf("%s %s: %v", c.dates, c.comparison, err)
		}
	}
}

// What a request has wrong is said with its place.
func TestDashboardRefusals(t *testing.T) {
	for body, want := range map[string]string{
		`"date_range":"day","card":[]`:                                           `"card" is not known`,
		`"metrics":["visitors"]`:                                                 "date_range: is missing",
		`"date_range":"day","interval":"visit:os"`:                               "interval: ",
		`"date_range":"day","metrics":[]`:                                        "metrics: ",
		`"date_range":"day","cards":[{}]`:                                        "cards[0].dimension: want ",
		`"date_range":"day","cards":[{"dimension":"time"}]`:                      "cards[0].dimension: ",
		`"date_range":"day","cards":[{"dimension":"visit:os","limit":0}]`:        "cards[0].limit: ",
		`"date_range":"day","comparison":{"mode":"last"}`:                        "comparison.mode: ",
		`"date_range":"day","comparison":{"mode":"custom"}`:                      "comparison.date_range: ",
		`"date_range":"day","comparison":{"mode":"previous_period","x":1}`:       `"x" is not known`,
		`"date_range":"day","comparison":{"mode":"custom","date_range":"month"}`: "comparison.date_range: ",
		`"date_range":"day","cards":[` + strings.Repeat(`{"dimension":"visit:os"},`, 20) +
			`{"dimension":"visit:os"}]`: "cards: at most 20",
	} {
		if _, err := readDashboard(t, `{"site_id":"x",`+body+`}`); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	q, err := readDashboard(t, `{"site_id":"x","date_range":"day","cards":[{"dimension":"visit:os"},`+
		`{"dimension":"visit:os","metrics":["scroll_depth"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = newEngine(t, database(t), Config{}).Dashboard(t.Context(), public, Site{Domain: t.Name()}, q)
	if err == nil || !strings.Contains(err.Error(), "cards[1]: metrics[0]: scroll_depth is of a page") {
		t.Errorf("got %v", err)
	}
}
