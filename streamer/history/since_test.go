package history

import (
	"fmt"
	"testing"
	"time"
)

// Nothing before the begin of a site's history is answered, to the millisecond, whichever way it is asked.
func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	since := now.Add(-36*time.Hour - 500*time.Millisecond)
	domain := t.Name()
	var events []event
	for i, age := range []time.Duration{40 * time.Hour, 36*time.Hour + 501*time.Millisecond,
		36*time.Hour + 500*time.Millisecond, 35 * time.Hour, time.Hour} {
		events = append(events, event{at: now.Add(-age), visitor: uint64(i + 1), offset: uint64(i), kind: "pageview",
			name: "pageview", path: fmt.Sprint("/", i), source: "s", fresh: true, interactive: true})
	}
	put(t, domain, events, nil)
	db := database(t)
	for _, minute := range []int{40 * 60, 36*60 + 1, 36 * 60, 60} {
		if err := db.Exec(t.Context(), fmt.Sprintf("INSERT INTO ledger (site, minute, koff, received, counted) "+
			"VALUES ('%s', toDateTime(%d, 'UTC'), %d, 1, 1)", domain,
			now.Add(-time.Duration(minute)*time.Minute).Unix(), minute)); err != nil {
			t.Fatal(err)
		}
	}
	e := newEngine(t, db, Config{Now: func() time.Time { return now }})
	for _, c := range []struct {
		since time.Time
		want  float64
		rows  int    // of pages
		first string // label of "all" by the day
		beats uint64 // beacons of the ledger
	}{
		{time.Time{}, 5, 5, "2026-11-21", 4},
		{since, 3, 3, "2026-11-21", 2},
		{since.Add(time.Millisecond), 2, 2, "2026-11-22", 2},
		{now.Add(time.Hour), 0, 0, "2026-11-23", 0},
	} {
		s := Site{Domain: domain, Since: c.since}
		for _, metric := range []Metric{Pageviews, Visits, Visitors} {
			for _, r := range []DateRange{{Name: "all"}, {From: "2026-11-01", To: "2026-11-23"}} {
				got, err := e.Run(t.Context(), public, s, Query{Metrics: []Metric{metric}, DateRange: r})
				if err != nil || len(got.Results) != 1 || *got.Results[0].Metrics[0] != c.want {
					t.Errorf("since %v, %s of %v: %v %v, want %v", c.since, metric, r, got.Results, err, c.want)
				}
			}
		}
		pages, err := e.Run(t.Context(), public, s, Query{Metrics: []Metric{Visitors},
			Dimensions: []string{"event:page"}, DateRange: DateRange{Name: "7d"}})
		if err != nil || len(pages.Results) != max(0, c.rows-1) { // 7d ends before today
			t.Errorf("since %v: pages %v %v, want %d", c.since, pages.Results, err, c.rows-1)
		}
		q := Query{Metrics: []Metric{Visitors}, Dimensions: []string{"time:day"}, DateRange: DateRange{Name: "all"}}
		q.Include.TimeLabels = true
		all, err := e.Run(t.Context(), public, s, q)
		if err != nil || len(all.Meta.TimeLabels) == 0 || all.Meta.TimeLabels[0] != c.first {
			t.Errorf("since %v: labels %v %v, want %s first", c.since, all.Meta.TimeLabels, err, c.first)
		}
		l, err := e.Ledger(t.Context(), public, s, LedgerRange{From: "2026-11-01", To: "2026-11-23"})
		if err != nil || l.Total.Received != c.beats {
			t.Errorf("since %v: ledger %+v %v, want %d", c.since, l.Total, err, c.beats)
		}
	}
}
