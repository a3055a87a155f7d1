package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// eachTransition calls f for every change of the clocks from 2015 to 2030, in every time zone that has any.
func eachTransition(t *testing.T, f func(loc *time.Location, at time.Time)) {
	t.Helper()
	b, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	zones, transitions := 0, 0
	for name := range strings.Lines(string(b)) {
		loc := load(t, strings.TrimSpace(name))
		zones++
		_, at := time.Date(2015, 1, 1, 0, 0, 0, 0, loc).ZoneBounds()
		for ; !at.IsZero() && at.Year() <= 2030; _, at = at.ZoneBounds() {
			f(loc, at)
			transitions++
		}
	}
	if zones < 400 || transitions < 4000 {
		t.Fatalf("only %d zones with %d transitions: is the time zone database complete?", zones, transitions)
	}
}

// firstOf finds, a quarter of an hour at a time, the first instant at which the clocks of a zone show a date
// or a later one: since 2015 no day began at another time than a multiple of that.
func firstOf(date time.Time, loc *time.Location) time.Time {
	for at := date.Add(-15 * time.Hour); ; at = at.Add(15 * time.Minute) {
		if !civil(at.In(loc)).Before(date) {
			return at
		}
	}
}

// Around every change of the clocks, a day begins at the first instant of its date: where 00:00 is skipped
// (as in Asia/Beirut), occurs twice (as in Asia/Amman until 2021), or is as usual.
func TestMidnights(t *testing.T) {
	skipped, twice := 0, 0
	eachTransition(t, func(loc *time.Location, at time.Time) {
		day := civil(at.In(loc))
		for d := day.AddDate(0, 0, -1); !d.After(day.AddDate(0, 0, 1)); d = d.AddDate(0, 0, 1) {
			want, got := firstOf(d, loc), startOfDay(d, loc)
			if !got.Equal(want) {
				t.Errorf("%s %s begins at %s, not %s", loc, d.Format(time.DateOnly), got, want.In(loc))
			}
			local := want.In(loc)
			if local.Hour() != 0 || local.Minute() != 0 {
				skipped++
			}
			for later := want.Add(15 * time.Minute); later.Before(want.Add(3 * time.Hour)); {
				if l := later.In(loc); l.Hour() == 0 && l.Minute() == 0 && civil(l).Equal(d) {
					twice++
				}
				later = later.Add(15 * time.Minute)
			}
		}
	})
	if skipped < 50 || twice < 20 {
		t.Errorf("%d skipped and %d doubled midnights: the test tries too few", skipped, twice)
	}
}

// The named cases of both kinds, so that each is noticed by itself.
func TestNamedMidnights(t *testing.T) {
	for _, row := range []struct{ zone, date, from, to string }{
		// 00:00 occurs twice: the day begins with the first, and has 25 hours.
		{"Asia/Amman", "2021-10-29", "2021-10-29T00:00:00+03:00", "2021-10-30T00:00:00+02:00"},
		{"America/Havana", "2026-11-01", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"},
		{"Atlantic/Azores", "2026-10-25", "2026-10-25T00:00:00Z", "2026-10-26T00:00:00-01:00"},
		// The day before has 25 hours: its last one occurs twice.
		{"Africa/Cairo", "2024-11-01", "2024-11-01T00:00:00+02:00", "2024-11-02T00:00:00+02:00"},
		{"Africa/Cairo", "2024-10-31", "2024-10-31T00:00:00+03:00", "2024-11-01T00:00:00+02:00"},
		{"Asia/Damascus", "2020-10-30", "2020-10-30T00:00:00+02:00", "2020-10-31T00:00:00+02:00"},
		{"Asia/Beirut", "2026-10-24", "2026-10-24T00:00:00+03:00", "2026-10-25T00:00:00+02:00"},
		// 00:00 is skipped: the day begins at 01:00, and has 23 hours.
		{"Africa/Cairo", "2024-04-26", "2024-04-26T01:00:00+03:00", "2024-04-27T00:00:00+03:00"},
		{"Asia/Amman", "2021-03-26", "2021-03-26T01:00:00+03:00", "2021-03-27T00:00:00+03:00"},
		{"Asia/Gaza", "2019-03-29", "2019-03-29T01:00:00+03:00", "2019-03-30T00:00:00+03:00"},
		{"America/Santiago", "2026-09-06", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"},
	} {
		s, err := (&DateRange{From: row.date, To: row.date}).between(load(t, row.zone))
		got := [2]string{s.From.Format(time.RFC3339), s.To.Format(time.RFC3339)}
		if err != nil || got != [2]string{row.from, row.to} {
			t.Errorf("%s %s: %s, want %s to %s (%v)", row.zone, row.date, got, row.from, row.to, err)
		}
	}
}

// The labels of a span are those of its instants, each once: around every change of the clocks, for the day
// and for the 24 hours from a moment that is on no boundary, also where hours begin at half past
// (Asia/Kolkata).
func TestLabelsAroundTransitions(t *testing.T) {
	check := func(s span) {
		t.Helper()
		for _, g := range []grain{hour, day} {
			var want []string
			for at := s.From; at.Before(s.To); at = at.Add(time.Minute) {
				want = append(want, s.label(s.wall(at), g))
			}
			want = append(want, s.label(s.wall(s.To.Add(-1)), g))
			slices.Sort(want)
			if want = slices.Compact(want); !slices.Equal(s.labels(g), want) {
				t.Errorf("%s %s to %s by %s: %v, want %v", s.Zone, s.From, s.To, g, s.labels(g), want)
			}
		}
	}
	n := 0
	eachTransition(t, func(loc *time.Location, at time.Time) {
		if n++; n%23 != 0 { // a part of them, spread over all zones
			return
		}
		day := civil(at.In(loc))
		check(span{From: startOfDay(day, loc), To: startOfDay(day.AddDate(0, 0, 1), loc), Zone: loc})
		now := at.Add(5*time.Hour + 7*time.Minute)
		s, err := (&DateRange{Name: "24h"}).resolve(now, loc, nil)
		if err != nil {
			t.Fatal(err)
		}
		check(s)
	})
	now := time.Date(2026, 7, 1, 10, 7, 3, 0, time.UTC)
	for name := range strings.FieldsSeq("Asia/Kolkata Asia/Kathmandu Australia/Adelaide America/St_Johns") {
		s, err := (&DateRange{Name: "24h"}).resolve(now, load(t, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		check(s)
		last := s.wall(s.To.Add(-1)).Format("2006-01-02 15") + ":00:00"
		if l := s.labels(hour); len(l) != 25 || l[24] != last {
			t.Errorf("%s: %d hours, the last is %s", name, len(l), l[len(l)-1])
		}
	}
}

// A visit over the site's midnight is one of each day: a day has the same numbers alone, within two days, and
// as the sum of its hours, whatever is sealed.
func TestVisitOverMidnight(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	for state := range sealStates {
		loc := load(t, "America/St_Johns")
		x := sample{site: Site{Domain: fmt.Sprint(state, strings.ToLower(t.Name())), Timezone: loc.String()},
			state: state}
		x.from = time.Date(2026, 11, 3, 12, 0, 0, 0, loc)
		for i, minutes := range []int{-10, -5, 5, 10, 20} { // of one visitor, around midnight
			x.events = append(x.events, event{at: time.Date(2026, 11, 4, 0, minutes, 0, 0, loc), visitor: 7,
				offset: uint64(i), kind: "pageview", name: "pageview", path: fmt.Sprint("/", i), source: "s",
				fresh: true, interactive: true})
		}
		x.put(t, rand.New(rand.NewPCG(1, 2)))
		ask := func(from, to string, dimensions ...string) string {
			t.Helper()
			r, err := e.Run(t.Context(), public, x.site, Query{Dimensions: dimensions,
				Metrics:   []Metric{Visitors, Visits, Pageviews, ViewsPerVisit, BounceRate, VisitDuration},
				DateRange: DateRange{From: from, To: to}})
			if err != nil {
				t.Fatal(err)
			}
			return describe(r.Results)
		}
		const first, second = " 1 1 2 2 0 300\n", " 1 1 3 3 0 900\n"
		for got, want := range map[string]string{
			ask("2026-11-03", "2026-11-03"): "[]" + first, ask("2026-11-04", "2026-11-04"): "[]" + second,
			ask("2026-11-03", "2026-11-04", "time:day"): `["2026-11-03"]` + first + `["2026-11-04"]` + second,
			ask("2026-11-03", "2026-11-04"):             "[] 2 2 5 2.5 0 600\n",
			ask("2026-11-03", "2026-11-04", "time:hour"): `["2026-11-03 23:00:00"]` + first +
				`["2026-11-04 00:00:00"]` + second,
			ask("2026-11-01", "2026-11-30", "time:month"):     `["2026-11-01"] 2 2 5 2.5 0 600` + "\n",
			ask("2026-11-03T23:50:00", "2026-11-04T00:20:00"): "[] 2 2 5 2.5 0 600\n",
			ask("2026-11-04T00:06:00", "2026-11-04T00:20:00"): "[] 1 0 2 null null null\n",
			ask("2026-11-03", "2026-11-04", "visit:source", "time:week"): `["s" "2026-11-03"] ` +
				"2 2 5 2.5 0 600\n",
		} {
			if got != want {
				t.Errorf("state %d: got %s want %s", state, got, want)
			}
		}
	}
}
