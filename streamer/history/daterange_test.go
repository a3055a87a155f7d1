package history

import (
	"strings"
	"testing"
	"time"
)

func load(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestResolve(t *testing.T) {
	first := func() (time.Time, error) { return time.Date(2025, 11, 3, 23, 0, 0, 0, time.UTC), nil }
	nothing := func() (time.Time, error) { return time.Time{}, nil }
	for _, c := range []struct {
		zone, now string
		r         DateRange
		first     func() (time.Time, error)
		from, to  string
	}{
		{"UTC", "2026-03-31T10:00:00.5Z", DateRange{Name: "day"}, nil, "2026-03-31T00:00:00Z",
			"2026-03-31T23:59:59Z"},
		{"Europe/Berlin", "2026-03-28T23:30:00Z", DateRange{Name: "day"}, nil, "2026-03-29T00:00:00+01:00",
			"2026-03-29T23:59:59+02:00"},
		{"America/New_York", "2026-03-31T02:00:00Z", DateRange{Name: "day"}, nil,
			"2026-03-30T00:00:00-04:00", "2026-03-30T23:59:59-04:00"},
		{"Europe/Berlin", "2026-03-29T12:00:00.9Z", DateRange{Name: "24h"}, nil, "2026-03-28T13:00:01+01:00",
			"2026-03-29T14:00:00+02:00"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "7d"}, nil, "2026-03-24T00:00:00Z",
			"2026-03-30T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "28d"}, nil, "2026-03-03T00:00:00Z",
			"2026-03-30T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "30d"}, nil, "2026-03-01T00:00:00Z",
			"2026-03-30T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "91d"}, nil, "2025-12-30T00:00:00Z",
			"2026-03-30T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "month"}, nil, "2026-03-01T00:00:00Z",
			"2026-03-31T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "6mo"}, nil, "2025-09-01T00:00:00Z",
			"2026-02-28T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "12mo"}, nil, "2025-03-01T00:00:00Z",
			"2026-02-28T23:59:59Z"},
		{"UTC", "2028-02-29T10:00:00Z", DateRange{Name: "year"}, nil, "2028-01-01T00:00:00Z",
			"2028-12-31T23:59:59Z"},
		{"Europe/Berlin", "2026-03-31T10:00:00Z", DateRange{Name: "all"}, first, "2025-11-04T00:00:00+01:00",
			"2026-03-31T23:59:59+02:00"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{Name: "all"}, nothing, "2026-03-31T00:00:00Z",
			"2026-03-31T23:59:59Z"},
		{"UTC", "2026-03-31T10:00:00Z", DateRange{From: "2026-03-01", To: "2026-03-01"}, nil,
			"2026-03-01T00:00:00Z", "2026-03-01T23:59:59Z"},
		{"Africa/Cairo", "2026-03-31T10:00:00Z", DateRange{From: "2026-04-24", To: "2026-04-24"}, nil,
			"2026-04-24T01:00:00+03:00", "2026-04-24T23:59:59+03:00"},
		{"America/Havana", "2026-03-31T10:00:00Z", DateRange{From: "2026-11-01", To: "2026-11-01"}, nil,
			"2026-11-01T00:00:00-04:00", "2026-11-01T23:59:59-05:00"},
		{"Pacific/Apia", "2026-03-31T10:00:00Z", DateRange{From: "2011-12-29", To: "2011-12-31"}, nil,
			"2011-12-29T00:00:00-10:00", "2011-12-31T23:59:59+14:00"},
		{"Asia/Kathmandu", "2026-03-31T10:00:00Z",
			DateRange{From: "2026-03-01T12:00:00Z", To: "2026-03-01T12:00:00.9Z"}, nil,
			"2026-03-01T17:45:00+05:45", "2026-03-01T17:45:00+05:45"},
		{"Europe/Berlin", "2026-03-31T10:00:00Z",
			DateRange{From: "2026-07-01T12:00:00", To: "2026-07-01T13:00:00"}, nil,
			"2026-07-01T12:00:00+02:00", "2026-07-01T13:00:00+02:00"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.r.resolve(now, load(t, c.zone), c.first)
		if err != nil || s.echo() != [2]string{c.from, c.to} {
			t.Errorf("%s %v at %s: got %v %v, want %s %s", c.zone, c.r, c.now, s.echo(), err, c.from, c.to)
		}
	}
}

// A day begins where its date is seen for the first time, and days follow each other without gap or overlap,
// everywhere.
func TestStartOfDay(t *testing.T) {
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Cairo", "Asia/Beirut",
		"Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran",
		"Pacific/Chatham",
		"America/Santiago",
	} {
		loc := load(t, name)
		for d := time.Date(2009, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2028; d = d.AddDate(0, 0, 1) {
			s := startOfDay(d, loc)
			if civil(s.In(loc)).Before(d) || !civil(s.Add(-time.Second).In(loc)).Before(d) {
				t.Errorf("%s %s begins at %s?", name, d.Format(time.DateOnly), s.In(loc))
			}
		}
	}
}

func TestLabels(t *testing.T) {
	for _, c := range []struct {
		zone, from, to string
		grain          grain
		n              int
		want           string // first, second … last
	}{
		{"UTC", "2026-03-01", "2026-03-01", hour, 24,
			"2026-03-01 00:00:00,2026-03-01 01:00:00 … 2026-03-01 23:00:00"},
		{"Europe/Berlin", "2026-03-29", "2026-03-29", hour, 23,
			"2026-03-29 00:00:00,2026-03-29 01:00:00 … 2026-03-29 23:00:00"},
		{"Europe/Berlin", "2026-10-25", "2026-10-25", hour, 24,
			"2026-10-25 00:00:00,2026-10-25 01:00:00 … 2026-10-25 23:00:00"},
		{"Australia/Lord_Howe", "2026-04-05", "2026-04-05", hour, 24,
			"2026-04-05 00:00:00,2026-04-05 01:00:00 … 2026-04-05 23:00:00"},
		{"Europe/Berlin", "2026-10-25", "2026-10-25", minute, 1440,
			"2026-10-25 00:00:00,2026-10-25 00:01:00 … 2026-10-25 23:59:00"},
		{"Asia/Kathmandu", "2026-03-01T12:00:00Z", "2026-03-01T14:00:00Z", hour, 3,
			"2026-03-01 17:00:00,2026-03-01 18:00:00 … 2026-03-01 19:00:00"},
		{"UTC", "2026-03-01T12:00:10Z", "2026-03-01T12:00:12Z", second, 3,
			"2026-03-01 12:00:10,2026-03-01 12:00:11 … 2026-03-01 12:00:12"},
		{"Europe/Berlin", "2026-03-28", "2026-03-31", day, 4, "2026-03-28,2026-03-29 … 2026-03-31"},
		{"UTC", "2026-03-04", "2026-03-17", week, 3, "2026-03-04,2026-03-09 … 2026-03-16"},
		{"UTC", "2026-01-31", "2026-04-01", month, 4, "2026-01-01,2026-02-01 … 2026-04-01"},
	} {
		s, err := (&DateRange{From: c.from, To: c.to}).between(load(t, c.zone))
		if err != nil {
			t.Fatal(err)
		}
		l := s.labels(c.grain)
		if got := strings.Join(l[:2], ",") + " … " + l[len(l)-1]; len(l) != c.n || got != c.want {
			t.Errorf("%s %s: %d %s, want %d %s", c.zone, c.grain, len(l), got, c.n, c.want)
		}
	}
}

func TestGrain(t *testing.T) {
	for _, c := range []struct {
		from, to string
		grain    grain
		want     string
	}{
		{"2026-03-01", "2026-03-02", auto, "time:hour"},
		{"2026-03-01", "2026-03-03", auto, "time:day"},
		{"2026-03-01", "2026-04-09", auto, "time:day"},
		{"2026-03-01", "2026-05-30", auto, "time:week"},
		{"2026-03-01", "2027-02-28", auto, "time:month"},
		{"2026-03-01T12:00:00Z", "2026-03-01T12:59:59Z", second, "time:second"},
		{"2026-03-01T12:00:00Z", "2026-03-01T13:00:01Z", second,
			"dimensions: time:second takes a date_range of at most an hour"},
		{"2026-03-01", "2026-03-02", minute, "time:minute"},
		{"2026-03-01", "2026-03-03", minute, "time:minute takes a date_range of at most two days"},
		{"2026-01-01", "2026-12-31", hour, "time:hour"},
		{"2026-01-01", "2027-12-31", hour, "time:hour takes a date_range of at most 400 days"},
		{"1971-01-01", "2099-12-31", day, "time:day"},
	} {
		s, err := (&DateRange{From: c.from, To: c.to}).between(time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		g, err := s.resolveGrain(c.grain)
		got := g.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s to %s by %s: got %s, want %s", c.from, c.to, c.grain, got, c.want)
		}
	}
}
