package history

import (
	"strings"
	"testing"
	"time"
)

// "All" begins on the day of the first event by the site's own clocks, also where a day begins within an hour
// of UTC, and not before the site was created.
func TestFirstDay(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	e := newEngine(t, database(t), Config{Now: func() time.Time { return now }})
	for _, c := range []struct{ name, zone, event, since, want string }{
		{"a", "Asia/Kathmandu", "2026-11-03T18:14:59.999Z", "", "2026-11-03"},
		{"b", "Asia/Kathmandu", "2026-11-03T18:15:00Z", "", "2026-11-04"},
		{"c", "Asia/Kathmandu", "2026-11-03T18:59:00Z", "", "2026-11-04"},
		{"d", "America/St_Johns", "2026-11-04T03:29:59Z", "", "2026-11-03"},
		{"e", "America/St_Johns", "2026-11-04T03:30:00Z", "", "2026-11-04"},
		{"f", "America/St_Johns", "2026-07-04T02:29:59Z", "", "2026-07-03"},
		{"g", "America/St_Johns", "2026-07-04T02:30:00Z", "", "2026-07-04"},
		{"h", "Australia/Lord_Howe", "2026-07-03T13:30:00Z", "", "2026-07-04"},
		{"i", "Europe/Berlin", "2026-11-03T22:59:59Z", "", "2026-11-03"},
		{"j", "Europe/Berlin", "2026-11-03T23:00:00Z", "", "2026-11-04"},
		{"k", "Asia/Kathmandu", "2026-10-01T00:00:00Z", "2026-11-03T18:14:59Z", "2026-11-03"},
		{"l", "Asia/Kathmandu", "2026-10-01T00:00:00Z", "2026-11-03T18:15:00Z", "2026-11-04"},
		{"m", "America/St_Johns", "2026-10-01T00:00:00Z", "2026-11-04T03:30:00Z", "2026-11-04"},
	} {
		parse := func(s string) (at time.Time) {
			if s != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, s); err != nil {
					t.Fatal(err)
				}
			}
			return at
		}
		first := parse(c.event)
		hour := first.Truncate(time.Hour)
		var events []event
		// The order of visitors within an hour is not that of time.
		for i, at := range []time.Time{hour.Add(time.Hour - time.Second), first, hour.Add(20 * time.Hour)} {
			events = append(events, event{at: at, visitor: uint64(i + 1), offset: uint64(i), kind: "pageview",
				name: "pageview", path: "/", fresh: true, interactive: true})
		}
		s := Site{Domain: strings.ToLower(t.Name()) + c.name, Timezone: c.zone, Since: parse(c.since)}
		put(t, s.Domain, events, nil)
		q := Query{Metrics: []Metric{Pageviews}, Dimensions: []string{"time:day"},
			DateRange: DateRange{Name: "all"}}
		q.Include.TimeLabels = true
		got, err := e.Run(t.Context(), public, s, q)
		if err != nil || len(got.Meta.TimeLabels) == 0 {
			t.Fatalf("%+v: %v", c, err)
		}
		if day := got.Meta.TimeLabels[0]; day != c.want {
			t.Errorf("%+v: begins on %s", c, day)
			continue
		}
		if c.since == "" && (len(got.Results) == 0 || got.Results[0].Dimensions[0] != c.want) {
			t.Errorf("%+v: the first day is empty: %v", c, got.Results)
		}
	}
}
