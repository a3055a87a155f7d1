package history

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// in reports whether an instant is in a span.
func (s span) in(at time.Time) bool {
	for _, p := range s.pieces() {
		if !at.Before(p.From) && at.Before(p.To) {
			return true
		}
	}
	return false
}

// Around every change of the clocks, the range of a bucket's local times has the instants of the bucket: both
// times where an hour occurs twice, and none where it is skipped.
func TestBucketsAreRanges(t *testing.T) {
	n, twice, holes, none := 0, 0, 0, 0
	eachTransition(t, func(loc *time.Location, at time.Time) {
		// A part of them, spread over all zones, and the zone whose two hours repeat in turn.
		if n++; n%11 != 0 && loc.String() != "Antarctica/Troll" {
			return
		}
		before, after := offset(at.Add(-1).In(loc)), offset(at.In(loc))
		around := at.UTC().Add(max(before, after))
		for width, layout := range map[time.Duration]string{
			time.Hour: "2006-01-02T15", 15 * time.Minute: "2006-01-02T15:04"} {
			for w := around.Truncate(time.Hour).Add(-5 * time.Hour); w.Before(around.Add(4 * time.Hour)); {
				last := w.Add(width - time.Second)
				s, err := (&DateRange{From: w.Format(localLayout), To: last.Format(localLayout)}).between(loc)
				if err != nil {
					t.Fatal(err)
				}
				count := time.Duration(0)
				for x := at.Add(-8 * time.Hour); x.Before(at.Add(8 * time.Hour)); x = x.Add(5 * time.Minute) {
					l := x.In(loc)
					wall := l.UTC().Add(offset(l)).Truncate(width)
					want := wall.Format(layout) == w.Format(layout)
					if s.in(x) != want {
						t.Fatalf("%s: %s in %s to %s: %t", loc, l, w, last, !want)
					}
					if want {
						count += 5 * time.Minute
					}
				}
				switch {
				case count == 0:
					none++
				case count > width:
					twice++
				}
				if len(s.Holes) > 0 {
					holes++
				}
				w = w.Add(width)
			}
		}
	})
	if none < 100 || twice < 100 || holes < 100 {
		t.Errorf("%d skipped, %d doubled, %d divided: the test tries too few", none, twice, holes)
	}
}

// The ends of a range may be written in different ways.
func TestLocalEnds(t *testing.T) {
	for _, c := range []struct{ zone, from, to, want string }{
		{"Europe/London", "2026-10-25T01:00:00", "2026-10-25T01:59:59",
			"2026-10-25T01:00:00+01:00 2026-10-25T01:59:59Z"},
		{"Europe/London", "2026-10-25T01:15:00", "2026-10-25T01:29:59",
			"2026-10-25T01:15:00 2026-10-25T01:29:59"},
		{"Europe/London", "2026-10-25T01:15:00+01:00", "2026-10-25T01:29:59",
			"2026-10-25T01:15:00+01:00 2026-10-25T01:29:59Z"},
		{"Europe/London", "2026-10-25T01:15:00", "2026-10-25T01:29:59+01:00",
			"2026-10-25T01:15:00+01:00 2026-10-25T01:29:59+01:00"},
		{"Europe/London", "2026-03-29T01:00:00", "2026-03-29T01:59:59",
			"2026-03-29T01:00:00 2026-03-29T01:59:59"},
		{"Europe/London", "2026-03-29T00:30:00", "2026-03-29T01:30:00",
			"2026-03-29T00:30:00Z 2026-03-29T00:59:59Z"},
		{"Europe/London", "2026-03-29T01:30:00", "2026-03-29T02:30:00+01:00",
			"2026-03-29T02:00:00+01:00 2026-03-29T02:30:00+01:00"},
		{"Australia/Lord_Howe", "2026-04-05T01:00:00", "2026-04-05T01:59:59",
			"2026-04-05T01:00:00+11:00 2026-04-05T01:59:59+10:30"},
		{"Antarctica/Troll", "2026-10-25T01:00:00", "2026-10-25T01:59:59",
			"2026-10-25T01:00:00 2026-10-25T01:59:59"},
	} {
		s, err := (&DateRange{From: c.from, To: c.to}).between(load(t, c.zone))
		e := s.echo()
		if got := e[0] + " " + e[1]; err != nil || got != c.want {
			t.Errorf("%s %s to %s: %s %v, want %s", c.zone, c.from, c.to, got, err, c.want)
		}
		if len(s.labels(hour)) == 0 != !s.From.Before(s.To) {
			t.Errorf("%s %s to %s: labels %v", c.zone, c.from, c.to, s.labels(hour))
		}
	}
}

// Each bucket of a day on which clocks change has the numbers of the range of its times, whether they are
// counted with visits or without.
func TestRepeatedHours(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	both, ofEvents := []Metric{Visitors, Pageviews, Visits}, []Metric{Visitors, Pageviews}
	for _, c := range []struct{ zone, date string }{
		{"Europe/London", "2026-10-25"}, {"Australia/Lord_Howe", "2026-04-05"},
		{"Antarctica/Troll", "2026-10-25"}, {"Europe/London", "2026-03-29"},
	} {
		day := DateRange{From: c.date, To: c.date}
		s, err := day.between(load(t, c.zone))
		if err != nil {
			t.Fatal(err)
		}
		domain := strings.ToLower(strings.ReplaceAll(t.Name()+c.zone+c.date, "/", "-"))
		var events []event
		for at := s.From; at.Before(s.To); at = at.Add(20 * time.Minute) {
			n := len(events) // visits of two views
			events = append(events, event{at: at, visitor: visitorID(n/2, at), offset: uint64(n),
				kind: "pageview", name: "pageview", path: "/", fresh: true, interactive: true})
		}
		put(t, domain, events, nil)
		for _, b := range []struct {
			dimension string
			width     time.Duration
			metrics   []Metric
		}{
			{"time:hour", time.Hour, both}, {"time:hour", time.Hour, ofEvents},
			{"time:minute", time.Minute, both}, {"time:minute", time.Minute, ofEvents},
			{"time:hour", time.Hour, both[2:]},
		} {
			q := Query{Metrics: b.metrics, Dimensions: []string{b.dimension},
				DateRange: day, Include: Include{TimeLabels: true}}
			site := Site{Domain: domain, Timezone: c.zone}
			all, err := e.Run(t.Context(), public, site, q)
			if err != nil || len(all.Results) < 10 {
				t.Fatal(all, err)
			}
			for _, row := range all.Results {
				from, err := time.Parse(time.DateTime, row.Dimensions[0])
				if err != nil || !slices.Contains(all.Meta.TimeLabels, row.Dimensions[0]) {
					t.Fatal(row, err)
				}
				if from.Hour() > 5 {
					continue
				}
				q := Query{Metrics: q.Metrics, DateRange: DateRange{From: from.Format(localLayout),
					To: from.Add(b.width - time.Second).Format(localLayout)}}
				one, err := e.Run(t.Context(), public, site, q)
				if err != nil || !slices.EqualFunc(one.Results[0].Metrics, row.Metrics, same) {
					t.Errorf("%s %s: the bucket has %s the range %s", c.zone, b.dimension,
						describe([]Row{row}), describe(one.Results))
				}
			}
		}
	}
}
