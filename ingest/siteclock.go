package ingest

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// previousIDSpan is how long, in ms, after a site's day has begun an event also has its visitor's id of the
// day before.
const previousIDSpan = 10 * 60 * 1000

const dayMS = 86_400_000

// day is a date of a calendar, as days since 1970.
type day int64

// dayOf returns the date that clocks show which are so far ahead of UTC, in s. ms is a time in UTC.
func dayOf(ms, offset int64) day {
	local := ms + offset*1000
	d := local / dayMS
	if local%dayMS < 0 {
		d--
	}
	return day(d)
}

// siteDay is a span of a day on the clocks of a zone. It is immutable.
type siteDay struct {
	from, until   int64 // ms UTC: the span has the times in [from, until)
	day           day
	offset        int32 // of the clocks from UTC, s
	previous      day   // the date that the clocks showed before this one
	previousUntil int64 // ms UTC: until then an event has the id of the previous day too
}

// newSiteDay returns the span that has a time. The clocks' changes cut spans, so that each has one offset.
func newSiteDay(zone *time.Location, at int64) *siteDay {
	t := time.UnixMilli(at).In(zone)
	s := &siteDay{from: math.MinInt64, until: math.MaxInt64}
	begin, end := t.ZoneBounds()
	_, offset := t.Zone()
	s.day, s.offset = dayOf(at, int64(offset)), int32(offset)
	midnight := int64(s.day)*dayMS - int64(offset)*1000
	s.from, s.until = midnight, midnight+dayMS
	if !begin.IsZero() {
		s.from = max(s.from, begin.UnixMilli())
	}
	if !end.IsZero() {
		s.until = min(s.until, end.UnixMilli())
	}
	since := s.from
	for {
		// A change of the clocks within the day doesn't begin it, and one over midnight may skip a date.
		before := time.UnixMilli(since - 1).In(zone)
		_, offset := before.Zone()
		if s.previous = dayOf(since-1, int64(offset)); s.previous != s.day {
			break
		}
		begin, _ := before.ZoneBounds()
		since = int64(s.day)*dayMS - int64(offset)*1000
		if !begin.IsZero() {
			since = max(since, begin.UnixMilli())
		}
	}
	s.previousUntil = since + previousIDSpan
	return s
}

// zone is a time zone with the span that was asked for last. All sites of the zone share it.
type zone struct {
	location *time.Location
	span     atomic.Pointer[siteDay]
}

// newZone loads a zone by its IANA name. An unknown one is UTC.
func newZone(name string) *zone {
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		location = time.UTC
	}
	return &zone{location: location}
}

// at returns the span that has a time (ms UTC).
func (z *zone) at(ms int64) *siteDay {
	if s := z.span.Load(); s != nil && s.from <= ms && ms < s.until {
		return s
	}
	s := newSiteDay(z.location, ms)
	z.span.Store(s)
	return s
}

// siteClock tells the days of a site. It is immutable: a change of the site's zone makes another one.
type siteClock struct {
	*zone
	timezone string // IANA name

	// The site's zone was changed at a time (ms UTC), at which the former one had another day. An event has
	// the visitor's id of that day too until previousIDSpan has passed.
	changedAt int64
	changed   bool
	previous  day
}

// now returns the span that has a time (ms UTC), and the day before, if events of the time have its ids too.
func (c *siteClock) now(at int64) (s *siteDay, previous day, ok bool) {
	s = c.at(at)
	switch {
	case at < s.previousUntil:
		return s, s.previous, true
	case c.changed && at >= c.changedAt && at < c.changedAt+previousIDSpan && c.previous != s.day:
		return s, c.previous, true
	}
	return s, 0, false
}

// utcClock tells the days of domains that are no sites.
var utcClock = &siteClock{zone: &zone{location: time.UTC}}

// day returns when the day of a time begins and ends, on the clocks of the site.
func (c *siteClock) day(t time.Time) (begin, end time.Time) {
	s := c.at(t.UnixMilli())
	until := s.until
	for {
		next := newSiteDay(c.location, until)
		if next.day != s.day {
			break
		}
		until = next.until // a change of the clocks within the day
	}
	begin = time.UnixMilli(s.previousUntil - previousIDSpan)
	return begin.In(c.location), time.UnixMilli(until).In(c.location)
}

// maxSiteClocks bounds the clocks in memory. What is lost with the clocks above it is the knowledge of a zone
// that was changed in the last minutes.
const maxSiteClocks = 200_000

// siteClocks are the clocks of the sites that had a beacon.
type siteClocks struct {
	sites sync.Map // domain → *siteClock
	mu    sync.Mutex
	zones map[string]*zone // by IANA name, of all clocks
	count int              // in sites
}

func newSiteClocks() *siteClocks { return &siteClocks{zones: map[string]*zone{}} }

// of returns the clock of a site whose zone is given.
func (c *siteClocks) of(domain, timezone string) *siteClock {
	if v, ok := c.sites.Load(domain); ok {
		if clock := v.(*siteClock); clock.timezone == timezone {
			return clock
		}
	}
	return c.make(domain, timezone, time.Now().UnixMilli())
}

// make returns the clock of a site that is new or has another zone from a time (ms UTC) on.
func (c *siteClocks) make(domain, timezone string, at int64) *siteClock {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, known := c.sites.Load(domain)
	if known && v.(*siteClock).timezone == timezone {
		return v.(*siteClock)
	}
	if !known && c.count >= maxSiteClocks {
		c.sites.Clear()
		c.zones, c.count = map[string]*zone{}, 0
	}
	z, ok := c.zones[timezone]
	if !ok {
		z = newZone(timezone)
		c.zones[timezone] = z
	}
	clock := &siteClock{zone: z, timezone: timezone}
	if known {
		clock.changed, clock.changedAt, clock.previous = true, at, v.(*siteClock).at(at).day
	} else {
		domain = strings.Clone(domain)
		c.count++
	}
	c.sites.Store(domain, clock)
	return clock
}

// days returns the dates at a time (ms UTC) on the clocks of the sites that had a beacon.
func (c *siteClocks) days(at int64) (all []day) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, z := range c.zones {
		all = append(all, z.at(at).day)
	}
	return all
}
