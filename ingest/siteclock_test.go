package ingest

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"nowcast/internal/event"
)

// countSpan counts a day's beginning by seconds: the date at a time, the offset, and the date before, if it
// ended in the ten minutes before.
func countSpan(zone *time.Location, at int64) (d day, offset int32, previous day, seam bool) {
	date := func(ms int64) day {
		y, m, d := time.UnixMilli(ms).In(zone).Date()
		return day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86_400)
	}
	_, o := time.UnixMilli(at).In(zone).Zone()
	d = date(at)
	for t := at; t > at-previousIDSpan; t = (t - 1) / 1000 * 1000 {
		if p := date(t - 1); p != d {
			return d, int32(o), p, true
		}
	}
	return d, int32(o), 0, false
}

// TestSiteDays compares the days of clocks with counted ones, at all changes of the clocks and at midnights:
// midnights that are skipped or come twice, days that are skipped, days of 23 and 25 hours, half hours.
func TestSiteDays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seams, changes := 0, 0
	for _, name := range []string{"UTC", "Europe/Berlin", "Pacific/Niue", "America/St_Johns",
		"Asia/Kathmandu", "Pacific/Chatham", "Pacific/Apia", "Pacific/Kwajalein", "America/Havana",
		"America/Sao_Paulo",
		"Asia/Beirut", "Australia/Lord_Howe", "Africa/Casablanca", "America/Caracas", "Antarctica/Troll",
		"Pacific/Kiritimati", "Etc/GMT+12", "America/Adak"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		z := newZone(name)
		check := func(at int64) {
			t.Helper()
			c := &siteClock{zone: z}
			s, previous, ok := c.now(at)
			d, offset, wantPrevious, seam := countSpan(zone, at)
			if s.day != d || s.offset != offset || ok != seam || ok && previous != wantPrevious ||
				at < s.from || at >= s.until {
				t.Fatalf("%s, %s: %+v, previous %d %v; want %d, %d, %d %v", name, time.UnixMilli(at).In(zone),
					*s, previous, ok, d, offset, wantPrevious, seam)
			}
			if seam {
				seams++
			}
			begin, end := c.day(time.UnixMilli(at))
			first, _, _, _ := countSpan(zone, begin.UnixMilli())
			before, _, _, _ := countSpan(zone, begin.UnixMilli()-1)
			last, _, _, _ := countSpan(zone, end.UnixMilli()-1)
			after, _, _, _ := countSpan(zone, end.UnixMilli())
			if first != d || before == d || last != d || after == d {
				t.Fatalf("%s, %s: the day is from %s to %s", name, time.UnixMilli(at).In(zone), begin, end)
			}
		}
		around := func(at time.Time) {
			for _, ms := range []int64{-600_001, -600_000, -1000, -1, 0, 1, 59_999, 599_999, 600_000, 600_001,
				r.Int64N(7_200_000) - 3_600_000, r.Int64N(180_000_000) - 90_000_000} {
				check(at.UnixMilli() + ms)
			}
		}
		to := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
		for at := time.Date(1987, 1, 1, 0, 0, 0, 0, time.UTC).In(zone); at.Before(to); {
			_, end := at.ZoneBounds()
			if end.IsZero() {
				break
			}
			around(end)
			changes++
			at = end
		}
		for range 30 {
			at := time.Unix(600_000_000+r.Int64N(1_300_000_000), 0).In(zone)
			around(time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, zone))
		}
	}
	if seams < 2500 || changes < 700 {
		t.Errorf("%d times in a seam, %d changes: the test tries too few", seams, changes)
	}
}

// stamper stamps events of one visitor, with a salt for each day.
type stamper struct {
	*salts
	t *testing.T
}

func newStamper(t *testing.T, around time.Time) *stamper {
	s := newSalts(nil, newSiteClocks(), slog.New(slog.DiscardHandler))
	byDay := map[day]sipKey{}
	for d := dayIn(around, 0) - 3; d <= dayIn(around, 0)+3; d++ {
		byDay[d] = sipKey{uint64(d), 1}
	}
	s.byDay.Store(&byDay)
	return &stamper{s, t}
}

func (s *stamper) at(site, zone string, at time.Time) event.Event {
	s.t.Helper()
	e := event.Event{HasID: true, ID: clientID(nil, site, "a")}
	v := visitor{appendVisitorKey(nil, site, netip.MustParseAddr("192.0.2.1"), "agent"),
		s.clocks.make(site, zone, at.UnixMilli())}
	if err := s.stamp(&e, &v, at.UnixMilli()); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// TestSiteMidnight takes a visitor over midnights: at that of the site the id changes, and the events of ten
// minutes have both; at that of UTC nothing does.
func TestSiteMidnight(t *testing.T) {
	for _, c := range []struct {
		zone, midnight string // of the site, in UTC
		offset         int32  // after it, s
		skipped        bool   // the date before
	}{
		{"UTC", "2026-11-30T00:00:00Z", 0, false},
		{"Pacific/Niue", "2026-11-30T11:00:00Z", -11 * 3600, false},
		{"America/St_Johns", "2026-11-30T03:30:00Z", -12_600, false},
		{"America/St_Johns", "2026-07-30T02:30:00Z", -9000, false},
		{"Asia/Kathmandu", "2026-11-29T18:15:00Z", 20_700, false},
		{"Pacific/Chatham", "2026-11-29T10:15:00Z", 49_500, false},
		{"Pacific/Chatham", "2026-07-29T11:15:00Z", 45_900, false},
		{"Pacific/Apia", "2011-12-30T10:00:00Z", 50_400, true},      // the 30th of December doesn't exist
		{"America/Sao_Paulo", "2018-11-04T03:00:00Z", -7200, false}, // the day begins at 01:00
		{"Europe/Berlin", "2026-03-28T23:00:00Z", 3600, false},      // the day in which clocks go forward
		{"Europe/Berlin", "2026-03-29T22:00:00Z", 7200, false},
		{"Europe/Berlin", "2026-10-24T22:00:00Z", 7200, false}, // the day in which clocks go back
		{"Europe/Berlin", "2026-10-25T23:00:00Z", 3600, false},
		{"No/Such", "2026-11-30T00:00:00Z", 0, false},
		{"Local", "2026-11-30T00:00:00Z", 0, false},
		{"", "2026-11-30T00:00:00Z", 0, false},
	} {
		if c.zone == "Local" { // the zone of the machine isn't that of a site
			machine := time.Local
			time.Local = time.FixedZone("", 7200)
			defer func() { time.Local = machine }()
		}
		midnight, err := time.Parse(time.RFC3339, c.midnight)
		if err != nil {
			t.Fatal(err)
		}
		s := newStamper(t, midnight)
		at := func(after time.Duration) event.Event {
			return s.at("example.com", c.zone, midnight.Add(after))
		}
		before, after := at(-time.Millisecond), at(0)
		late, later := at(10*time.Minute-time.Millisecond), at(10*time.Minute)
		if after.Visitor == before.Visitor || after.PreviousVisitor != before.Visitor ||
			after.PreviousID != before.ID || before.PreviousVisitor != 0 || before.HasPreviousID {
			t.Errorf("%+v: over midnight %+v, %+v", c, before, after)
		}
		if late.PreviousVisitor != before.Visitor || later.PreviousVisitor != 0 || later.HasPreviousID ||
			late.Visitor != after.Visitor || later.Visitor != after.Visitor || later.ID != after.ID {
			t.Errorf("%+v: ten past midnight %+v, %+v", c, late, later)
		}
		days := uint32(1)
		if c.skipped {
			days = 2
		}
		if after.UTCOffset != c.offset || after.Day-before.Day != days {
			t.Errorf("%+v: the days are %d, offset %d, and %d, offset %d", c, before.Day, before.UTCOffset,
				after.Day, after.UTCOffset)
		}
		if c.offset == 0 {
			continue
		}
		utc := midnight.Truncate(24 * time.Hour)
		if c.offset < 0 {
			utc = utc.Add(24 * time.Hour)
		}
		one, two := s.at("example.com", c.zone, utc.Add(-time.Second)), s.at("example.com", c.zone, utc)
		if one.Visitor != two.Visitor || one.Day != two.Day || two.PreviousVisitor != 0 {
			t.Errorf("%+v: over midnight UTC %+v, %+v", c, one, two)
		}
	}
}

// TestZoneChange changes a site's zone: the new one counts from that moment on, and where it has another date
// a visitor's events of ten minutes have the id of the former date too.
func TestZoneChange(t *testing.T) {
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	s := newStamper(t, noon)
	const west, east = "Pacific/Niue", "Pacific/Kiritimati" // at 01:00 of the 30th, and 02:00 of the 1st
	at := func(zone string, after time.Duration) event.Event {
		return s.at("example.com", zone, noon.Add(after))
	}
	one, two, three := at(west, 0), at(east, time.Second), at(east, 10*time.Minute+time.Second)
	if two.Day != one.Day+1 || two.UTCOffset != 50_400 || two.PreviousVisitor != one.Visitor ||
		two.PreviousID != one.ID || three.PreviousVisitor != 0 || three.Visitor != two.Visitor {
		t.Errorf("to the east: %+v, %+v, %+v", one, two, three)
	}
	back := at(west, 20*time.Minute) // the former day again
	if back.Visitor != one.Visitor || back.PreviousVisitor != two.Visitor || back.Day != one.Day {
		t.Errorf("back to the west: %+v", back)
	}
	// Where both have the same date, only the offset changes.
	same := at("Pacific/Pago_Pago", 21*time.Minute)
	if same.Visitor != back.Visitor || same.PreviousVisitor != 0 {
		t.Errorf("to a zone with the same date: %+v", same)
	}
	// A clock that is set back behind the change doesn't make an id of it.
	at(east, 30*time.Minute)
	if x := at(east, 29*time.Minute); x.PreviousVisitor != 0 || x.Visitor != two.Visitor {
		t.Errorf("a minute before the change: %+v", x)
	}
	if s.at("other.example", west, noon).PreviousVisitor != 0 {
		t.Error("another site has changed its zone too")
	}
}

// TestSiteClocks checks that clocks are shared by zone, bounded, and cost no allocation.
func TestSiteClocks(t *testing.T) {
	c := newSiteClocks()
	a, b := c.of("a.example", "Asia/Kathmandu"), c.of("b.example", "Asia/Kathmandu")
	if a.zone != b.zone || a == b || c.of("a.example", "Asia/Kathmandu") != a || len(c.zones) != 1 {
		t.Errorf("%+v, %+v", a, b)
	}
	c.count = maxSiteClocks
	if c.of("c.example", "UTC"); c.count != 1 || len(c.zones) != 1 {
		t.Errorf("%d clocks and %d zones beyond the bound", c.count, len(c.zones))
	}
	now := time.Now().UnixMilli()
	if n := testing.AllocsPerRun(100, func() { c.of("c.example", "UTC").now(now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSiteClock(b *testing.B) {
	c := newSiteClocks()
	now := time.Now().UnixMilli()
	for b.Loop() {
		c.of("example.com", "America/St_Johns").now(now)
	}
}
