package history

import (
	"fmt"
	"testing"
	"time"
)

// A million events of a week, four a visitor, in ten inserts, with 5 % of the rows twice.
const million = `INSERT INTO events (site, ts, visitor, id, kpart, koff, kidx, kind, name, hostname, path,
    referrer, source, country, device, browser, os, interactive, fresh)
SELECT 'million.example',
    toDateTime64('2026-03-02 00:00:00', 3, 'UTC') + toIntervalMillisecond(
        day * 86400000 + sipHash64(v, 7) %% 80000000 + hop * (10000 + sipHash64(n) %% 200000)),
    sipHash64(v, day), unhex(hex(sipHash128(n))), v %% 4, n, 0,
    multiIf(n %% 10 = 0, 'engagement', n %% 17 = 0, 'custom', 'pageview'),
    multiIf(n %% 10 = 0, 'engagement', n %% 17 = 0, 'Signup', 'pageview'),
    'million.example', concat('/section-', toString(p %% 37), '/article-', toString(p)),
    if(hop = 0, concat('https://ref', toString(v %% 200), '.example/'), ''),
    if(hop = 0, ['', 'Google', 'Bing', 'Hacker News', 'Twitter'][v %% 5 + 1], ''),
    ['DE', 'FR', 'US', 'GB', 'IN', 'BR'][v %% 6 + 1],
    ['Desktop', 'Mobile', 'Tablet'][v %% 3 + 1], ['Chrome', 'Safari', 'Firefox'][v %% 3 + 1],
    ['Windows', 'iOS', 'Android', 'GNU/Linux'][v %% 4 + 1], n %% 17 = 0, 1
FROM
(
    SELECT number AS n, intDiv(number, 4) %% 35714 AS v, number %% 4 AS hop, intDiv(number, 142857) AS day,
        toUInt32(pow(5000, sipHash64(number, 3) %% 10000 / 10000)) AS p
    FROM numbers(%d, %d)
)`

// BenchmarkMillion asks what a dashboard asks about a week of a site with a million events.
func BenchmarkMillion(b *testing.B) {
	db := database(b)
	for i := range 10 {
		if err := db.Exec(b.Context(), fmt.Sprintf(million, i*100_000, 100_000)); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Exec(b.Context(), fmt.Sprintf(million, 0, 50_000)); err != nil {
		b.Fatal(err)
	}
	e := newEngine(
		b, db, Config{Now: func() time.Time { return time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC) }},
	)
	week := DateRange{From: "2026-03-02", To: "2026-03-08"}
	for _, c := range []struct {
		name string
		q    Query
	}{
		{"top_pages",
			Query{Metrics: []Metric{Visitors, Pageviews},
				Dimensions: []string{"event:page"}, DateRange: week, Limit: 10}},
		{"top_sources",
			Query{Metrics: []Metric{Visitors},
				Dimensions: []string{"visit:source"}, DateRange: week, Limit: 10}},
		{"countries_bounce",
			Query{Metrics: []Metric{Visitors, BounceRate},
				Dimensions: []string{"visit:country"}, DateRange: week, Limit: 10}},
		{"entry_pages",
			Query{Metrics: []Metric{Visitors, Visits},
				Dimensions: []string{"visit:entry_page"}, DateRange: week, Limit: 10}},
		{"totals",
			Query{Metrics: []Metric{Visitors, Visits, Pageviews, ViewsPerVisit, BounceRate, VisitDuration},
				DateRange: week}},
		{"days", Query{Metrics: []Metric{Visitors}, Dimensions: []string{"time:day"}, DateRange: week}},
		{"days_of_visits",
			Query{Metrics: []Metric{Visitors, Visits}, Dimensions: []string{"time:day"}, DateRange: week}},
		{"one_page",
			Query{Metrics: []Metric{Visitors, Pageviews},
				DateRange: week,
				Filters: []Filter{{
					Op: Is, Dimension: "event:page", Values: []string{"/section-3/article-3"},
				}}}},
		{"last_hour_by_second",
			Query{Metrics: []Metric{Pageviews, Visitors},
				Dimensions: []string{"time:second"},
				DateRange:  DateRange{From: "2026-03-05T11:00:00Z", To: "2026-03-05T11:59:59Z"}}},
		{"all_totals", Query{Metrics: []Metric{Visitors, Pageviews}, DateRange: DateRange{Name: "all"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				of := Site{Domain: "million.example", Timezone: "Europe/Berlin"}
				r, err := e.Run(b.Context(), public, of, c.q)
				if err != nil || len(r.Results) == 0 {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/query")
		})
	}
}
