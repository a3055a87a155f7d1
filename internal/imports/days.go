package imports

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// hit is a page view or a custom event with its own time.
type hit struct {
	at       time.Time
	visitor  uint64 // of the export; a visitor lasts one day
	name     string // of a custom event; "" of a page view
	hostname string
	path     string
	Attributes
}

const (
	pause   = 30 * time.Minute // ends a visit
	maxHits = 3_000_000        // held at a time, some 250 MB
)

var errManyHits = fmt.Errorf("two days have over %d hits, which is the most that an import holds; "+
	"import the files of a few hours at a time", maxHits)

// days counts hits by day, by the rules of history's statements. It holds the hits of a day until the day is
// closed: at the end, or when the bound is reached and the day is older than the last two. So files of up to
// maxHits hits may have any order, and larger ones have to be in order of time within a day.
type days struct {
	zone   *time.Location
	sums   *adder
	open   map[Day]*openDay
	held   int
	limit  int
	closed Day // this day and all before are closed; 0: none is
}

// openDay holds the hits of a day, with each text once.
type openDay struct {
	hits       []heldHit
	texts      map[string]uint32
	text       []string
	attributes map[Attributes]uint32
	attribute  []Attributes
}

type heldHit struct {
	visitor              uint64
	ms                   int64
	order                uint32 // of hits of one moment
	custom               bool
	name, hostname, path uint32 // of openDay.text
	attributes           uint32 // of openDay.attribute
}

func newDays(zone *time.Location, sums *adder) *days {
	return &days{zone: zone, sums: sums, open: map[Day]*openDay{}, limit: maxHits}
}

// add counts a hit.
func (d *days) add(h hit) error {
	y, m, date := h.at.In(d.zone).Date()
	day := DayOf(y, m, date)
	if day < DayOf(1990, 1, 1) || day > DayOf(2100, 12, 31) {
		return fmt.Errorf("its time is in the year %d", y)
	}
	if d.closed != 0 && day <= d.closed {
		return fmt.Errorf("it is of %s, which is behind days that were read before: "+
			"sort the files by time", day)
	}
	if d.held >= d.limit {
		if err := d.closeOld(); err != nil {
			return err
		}
	}
	o := d.open[day]
	if o == nil {
		o = &openDay{texts: map[string]uint32{}, attributes: map[Attributes]uint32{}}
		d.open[day] = o
	}
	a, ok := o.attributes[h.Attributes]
	if !ok {
		a = uint32(len(o.attribute)) //nolint:gosec // at most maxHits
		o.attribute = append(o.attribute, h.Attributes)
		o.attributes[h.Attributes] = a
	}
	o.hits = append(o.hits, heldHit{
		visitor: h.visitor, ms: h.at.UnixMilli(),
		order:  uint32(len(o.hits)), //nolint:gosec // at most maxHits
		custom: h.name != "", name: o.intern(h.name), hostname: o.intern(h.hostname), path: o.intern(h.path),
		attributes: a,
	})
	d.held++
	return nil
}

func (o *openDay) intern(s string) uint32 {
	i, ok := o.texts[s]
	if !ok {
		i = uint32(len(o.text)) //nolint:gosec // at most 3 × maxHits
		o.text = append(o.text, s)
		o.texts[s] = i
	}
	return i
}

// closeOld closes all days but the last two.
func (d *days) closeOld() error {
	open := slices.Sorted(maps.Keys(d.open))
	if len(open) <= 2 {
		return errManyHits
	}
	for _, day := range open[:len(open)-2] {
		if err := d.closeDay(day); err != nil {
			return err
		}
	}
	if d.held >= d.limit {
		return errManyHits
	}
	return nil
}

// close closes all days.
func (d *days) close() error {
	for _, day := range slices.Sorted(maps.Keys(d.open)) {
		if err := d.closeDay(day); err != nil {
			return err
		}
	}
	return nil
}

func (d *days) closeDay(day Day) error {
	o := d.open[day]
	delete(d.open, day)
	d.held -= len(o.hits)
	d.closed = max(d.closed, day)
	return o.count(day, func(s Sum) error {
		if _, err := d.sums.add(s); err != nil {
			return fmt.Errorf("count %s: %w", day, err)
		}
		return nil
	})
}

// count adds up the sums of a day.
func (o *openDay) count(day Day, add func(Sum) error) error {
	slices.SortFunc(o.hits, func(a, b heldHit) int {
		return cmp.Or(cmp.Compare(a.visitor, b.visitor), cmp.Compare(a.ms, b.ms),
			cmp.Compare(a.order, b.order))
	})
	c := dayCount{day: o, sums: map[key]*counted{}}
	for i := 0; i < len(o.hits); {
		j := i + 1
		for j < len(o.hits) && o.hits[j].visitor == o.hits[i].visitor &&
			o.hits[j].ms-o.hits[j-1].ms < pause.Milliseconds() {
			j++
		}
		if i == 0 || o.hits[i].visitor != o.hits[i-1].visitor {
			c.visitor++
		}
		c.visit(o.hits[i:j])
		i = j
	}
	for k, n := range c.sums {
		s := Sum{Day: day, Dim: k.dim, Value: k.value, Known: allKnown, Counts: n.counts}
		if k.dim == "event:page" { // those of visit:entry_page are of the visits that entered on it
			s.Known &^= setOf(Bounces, Duration)
			s.Counts[Bounces], s.Counts[Duration] = 0, 0
		}
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}

// counted is a sum that counts each visitor and each visit once.
type counted struct {
	counts         [metrics]uint64
	visitor, visit uint64 // the numbers of the last ones that it has counted
}

// dayCount counts the visits of a day.
type dayCount struct {
	day     *openDay
	sums    map[key]*counted
	visitor uint64 // the number of the current visitor, from 1
	number  uint64 // of the current visit, from 1
}

// visit counts one visit, whose hits are in order.
func (c *dayCount) visit(hits []heldHit) {
	c.number++
	var views, interactive int
	entry, exit := uint32(0), uint32(0)
	for _, h := range hits {
		if h.custom {
			interactive++
			continue
		}
		if views++; views == 1 {
			entry = h.path
		}
		exit = h.path
	}
	duration := uint64(hits[len(hits)-1].ms - hits[0].ms) //nolint:gosec // in order
	bounced := views <= 1 && interactive == 0
	of := func(dim, value string, views, events int) {
		k := key{dim: dim, value: value}
		n := c.sums[k]
		if n == nil {
			n = &counted{}
			c.sums[k] = n
		}
		if n.visitor != c.visitor {
			n.visitor = c.visitor
			n.counts[Visitors]++
		}
		if n.visit != c.number {
			n.visit = c.number
			n.counts[Visits]++
			n.counts[Duration] += duration
			if bounced {
				n.counts[Bounces]++
			}
		}
		n.counts[Pageviews] += uint64(views) //nolint:gosec // a count
		n.counts[Events] += uint64(events)   //nolint:gosec // a count
	}
	text := c.day.text
	for _, h := range hits {
		views, name := 1, "pageview"
		if h.custom {
			views, name = 0, text[h.name]
		}
		of("event:page", text[h.path], views, 1)
		of("event:hostname", text[h.hostname], views, 1)
		of("event:name", name, views, 1)
	}
	a := &c.day.attribute[hits[0].attributes]
	entryPage, exitPage := "", ""
	if views > 0 {
		entryPage, exitPage = text[entry], text[exit]
	}
	for _, d := range [...]struct{ dim, value string }{{"", ""},
		{"visit:entry_page", entryPage}, {"visit:exit_page", exitPage},
		{"visit:source", a.Source}, {"visit:channel", a.Channel}, {"visit:referrer", a.Referrer},
		{"visit:utm_source", a.UTMSource}, {"visit:utm_medium", a.UTMMedium},
		{"visit:utm_campaign", a.UTMCampaign}, {"visit:utm_content", a.UTMContent},
		{"visit:utm_term", a.UTMTerm}, {"visit:country", a.Country}, {"visit:region", a.Region},
		{"visit:city", a.City}, {"visit:device", a.Device}, {"visit:screen", a.Screen},
		{"visit:browser", a.Browser}, {"visit:browser_version", a.BrowserVersion}, {"visit:os", a.OS},
		{"visit:os_version", a.OSVersion}, {"visit:language", a.Language},
	} {
		of(d.dim, d.value, views, len(hits))
	}
}
