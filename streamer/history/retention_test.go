package history

import (
	"fmt"
	"testing"
	"time"
)

// Nothing that is older than its site keeps it is answered, to the millisecond, whichever way it is asked.
func TestRetention(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	domain := t.Name()
	var events []event
	for i, age := range []time.Duration{50 * time.Hour, 48*time.Hour + time.Millisecond,
		48 * time.Hour, 47 * time.Hour, time.Hour} {
		events = append(events, event{at: now.Add(-age), visitor: uint64(i + 1), offset: uint64(i),
			kind: "pageview",
			name: "pageview", path: fmt.Sprint("/", i), source: "s", fresh: true, interactive: true})
	}
	put(t, domain, events, nil)
	db := database(t)
	for _, minute := range []int{50 * 60, 48*60 + 1, 48 * 60, 60} {
		if err := db.Exec(t.Context(),
			fmt.Sprintf("INSERT INTO ledger (site, minute, koff, received, counted) "+
				"VALUES ('%s', toDateTime(%d, 'UTC'), %d, 1, 1)", domain,
				now.Add(-time.Duration(minute)*time.Minute).Unix(), minute)); err != nil {
			t.Fatal(err)
		}
	}
	e := newEngine(t, db, Config{Now: func() time.Time { return now }})
	for _, c := range []struct {
		days  int // for which the site keeps its history
		want  float64
		pages int    // of whole days before today
		first string // label of "all" by the day
		beats uint64 // beacons of the ledger
	}{
		{395, 5, 4, "2026-11-21", 4},
		{2, 3, 2, "2026-11-21", 2},
		{1, 1, 0, "2026-11-22", 1},
	} {
		s := e.keeping(Site{Domain: domain}, c.days)
		for _, metric := range []Metric{Pageviews, Visits, Visitors} {
			for _, r := range []DateRange{{Name: "all"}, {From: "2026-11-01", To: "2026-11-23"}} {
				got, err := e.Run(t.Context(), public, s, Query{Metrics: []Metric{metric}, DateRange: r})
				if err != nil || len(got.Results) != 1 || *got.Results[0].Metrics[0] != c.want {
					t.Errorf("%d days, %s of %v: %v %v, want %v", c.days, metric, r, got.Results, err,
						c.want)
				}
			}
		}
		pages, err := e.Run(t.Context(), public, s, Query{Metrics: []Metric{Visitors},
			Dimensions: []string{"event:page"}, DateRange: DateRange{Name: "7d"}})
		if err != nil || len(pages.Results) != c.pages {
			t.Errorf("%d days: pages %v %v, want %d", c.days, pages.Results, err, c.pages)
		}
		q := Query{Metrics: []Metric{Visitors}, Dimensions: []string{"time:day"},
			DateRange: DateRange{Name: "all"}}
		q.Include.TimeLabels = true
		all, err := e.Run(t.Context(), public, s, q)
		if err != nil || len(all.Meta.TimeLabels) == 0 || all.Meta.TimeLabels[0] != c.first {
			t.Errorf("%d days: labels %v %v, want %s first", c.days, all.Meta.TimeLabels, err, c.first)
		}
		l, err := e.Ledger(t.Context(), public, s, LedgerRange{From: "2026-11-01", To: "2026-11-23"})
		if err != nil || l.Total.Received != c.beats {
			t.Errorf("%d days: ledger %+v %v, want %d", c.days, l.Total, err, c.beats)
		}
	}
}
