package aggregator

import (
	"fmt"
	"testing"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/event"
)

// stampedAt returns a page view of the one visitor of a site, as ingest stamps it.
func stampedAt(site string, zone *time.Location, at time.Time) event.Event {
	local := at.In(zone)
	date := func(t time.Time) int64 {
		y, m, d := t.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86_400
	}
	_, offset := local.Zone()
	e := event.Event{Time: at.UnixMilli(), Kind: event.Pageview, Name: "pageview", Site: site, Path: "/",
		Day: uint32(date(local)), UTCOffset: int32(offset), Visitor: 1000 + uint64(date(local))}
	if before := date(at.Add(-10 * time.Minute).In(zone)); before != date(local) {
		e.PreviousVisitor = 1000 + uint64(before)
	}
	return e
}

// A visitor who is active over the site's midnight is one active visitor all the time, and in history one
// visitor of each of two days. Over midnight UTC they are one visitor of one day.
func TestSiteMidnight(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	if err := w.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{} // days by site
	rows := &eventRows{}
	for _, c := range []struct{ zone, date string }{
		{"UTC", "2026-11-30"},
		{"Pacific/Niue", "2026-11-30"},                                   // -11:00
		{"America/St_Johns", "2026-11-30"},                               // -3:30
		{"Asia/Kathmandu", "2026-11-30"},                                 // +5:45
		{"Pacific/Chatham", "2026-11-30"},                                // +13:45
		{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-03-30"}, // a day of 23 hours
		{"Europe/Berlin", "2026-10-25"}, {"Europe/Berlin", "2026-10-26"}, // a day of 25 hours
		{"Asia/Beirut", "2026-03-29"},    // begins at 01:00
		{"America/Havana", "2026-11-01"}, // has 00:30 twice
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		midnight, err := time.ParseInLocation(time.DateOnly, c.date, zone)
		if err != nil {
			t.Fatal(err)
		}
		utc := midnight.Add(12 * time.Hour).Truncate(24 * time.Hour)
		for name, at := range map[string]time.Time{"the site's": midnight, "UTC's": utc} {
			site := fmt.Sprintf("%s %s %s", c.zone, c.date, name)
			want[site] = 2
			if !at.Equal(midnight) {
				want[site] = 1
			}
			log := visitOver(site, zone, at)
			activeOver(t, site, log)
			for i := range log {
				if len(log[i].Events) > 0 {
					rows.add(0, &log[i], 0, fold.Counted)
				}
			}
		}
	}
	if err := rows.insert(t.Context(), w.db, "midnights"); err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Site     string `ch:"site"`
		Days     uint64 `ch:"days"`
		Visitors uint64 `ch:"visitors"`
		Sum      uint64 `ch:"sum"`
		Wrong    uint64 `ch:"wrong"`
	}
	if err := w.db.Select(t.Context(), &got,
		"SELECT site, uniqExact(day) AS days, uniqExact(visitor) AS visitors, "+
			"uniqExact(day, visitor) AS sum, "+
			"countIf(toDate(ts + toIntervalSecond(utc_offset)) != day) AS wrong "+
			"FROM events GROUP BY site"); err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if n := want[r.Site]; r.Days != n || r.Visitors != n || r.Sum != n || r.Wrong != 0 {
			t.Errorf("%+v, want %d visitors and days", r, n)
		}
	}
	if len(got) != len(want) || len(got) < 20 {
		t.Errorf("%d sites, want %d", len(got), len(want))
	}
}

// visitOver is a log of one visitor with a page view every 50 s, from 20 minutes before a time to 20 minutes
// after it.
func visitOver(site string, zone *time.Location, at time.Time) (log []fold.Envelope) {
	for after := -20 * time.Minute; after <= 21*time.Minute; after += 10 * time.Second {
		ms := at.Add(after).UnixMilli()
		e := fold.Envelope{Offset: int64(len(log)), Time: ms,
			Header: event.Header{Node: 1, Sequence: uint64(len(log) + 1), Low: ms - 1}}
		if after <= 20*time.Minute && after%(50*time.Second) == 0 {
			e.Events = []event.Event{stampedAt(site, zone, at.Add(after))}
		}
		log = append(log, e)
	}
	return log
}

// activeOver checks that one visitor is active in each second of a log.
func activeOver(t *testing.T, site string, log []fold.Envelope) {
	t.Helper()
	all, seen := fold.NewWindows(fold.StandardRules()), 0
	for _, e := range log {
		e.Events = append([]event.Event(nil), e.Events...)
		finals, _ := all.Apply(&e)
		for _, s := range finals {
			if seen++; s.Active != 1 || s.Visitors != 1 {
				t.Errorf("%s: %d active visitors, %d in the second %d", site, s.Active, s.Visitors, s.At)
			}
		}
	}
	if seen < 45 {
		t.Errorf("%s: %d seconds", site, seen)
	}
}
