package history

import "slices"

// A class is sums of the same rows: what a statement, or a part of it, has to compute.
type class struct {
	sums       []string
	dimensions []string
	filters    []Filter
	// Numbers of the parts of each row, where sums count different rows; see "rows" in parts.sql.
	parts      []int
	entered    bool // one of the parts is of the visits that entered on a page
	visitsOnly bool // only visits count, by the times at which they began
	apart      bool // its groups are no rows of the answer
}

// sumsOfMetric names what a metric is computed from.
var sumsOfMetric = map[Metric][]string{
	Visitors: {"visitors"}, Visits: {"visits"}, Pageviews: {"pageviews"}, Events: {"events"},
	ViewsPerVisit: {"visits", "views"}, BounceRate: {"entries", "bounces"},
	VisitDuration: {"entries", "duration_ms"}, ScrollDepth: {"scroll_depth", "scrolled_visits"},
	TimeOnPage: {"engaged_ms", "engaged_visits"}, ExitRate: {"exits", "pageviews"},
}

// Sums of events; those of the visits that entered on a page; those that need the engagement with a page.
var (
	eventSums   = []string{"visitors", "pageviews", "events"}
	entrySums   = []string{"entries", "bounces", "duration_ms"}
	engagedSums = []string{"scroll_depth", "scrolled_visits", "engaged_ms", "engaged_visits"}
)

// class settles which rows the metrics of a plan count.
func (p plan) class() class {
	c := class{dimensions: slices.Clone(p.Dimensions), filters: p.Filters}
	for _, m := range p.Metrics {
		for _, s := range sumsOfMetric[Metric(m.column())] {
			if !slices.Contains(c.sums, s) {
				c.sums = append(c.sums, s)
			}
		}
	}
	paged := slices.Contains(p.Dimensions, page) ||
		slices.ContainsFunc(p.Filters, func(f Filter) bool { return f.any(ofPage) })
	if paged && slices.ContainsFunc(c.sums, ofEntries) {
		if !slices.ContainsFunc(c.sums, func(s string) bool { return !ofEntries(s) }) {
			return c.ofEntries()
		}
		c.entered = true
	}
	return c.divided(p.grain)
}

func ofEntries(sum string) bool { return slices.Contains(entrySums, sum) }

// ofEntries returns the class of the visits that entered on the page.
func (c class) ofEntries() class {
	c.dimensions, c.filters = slices.Clone(c.dimensions), slices.Clone(c.filters)
	for i, n := range c.dimensions {
		if n == page {
			c.dimensions[i] = entryPage
		}
	}
	for i, f := range c.filters {
		c.filters[i] = f.entered()
	}
	c.visitsOnly, c.entered, c.parts = true, false, nil
	return c
}

// divided returns the class with the parts that its rows need.
func (c class) divided(g grain) class {
	ofEvents, ofVisits := false, false
	for _, s := range c.sums {
		switch {
		case c.entered && ofEntries(s):
		case slices.Contains(eventSums, s):
			ofEvents = true
		default:
			ofVisits = true
		}
	}
	c.visitsOnly, c.parts = !ofEvents, nil
	if c.entered || ofEvents && ofVisits && g != none && g < day {
		for part, counts := range []bool{ofEvents, ofVisits, c.entered} {
			if counts {
				c.parts = append(c.parts, part)
			}
		}
	}
	return c
}

// any reports whether a dimension or filter of the class is of one that passes a test.
func (c class) any(test func(string) bool) bool {
	return slices.ContainsFunc(c.dimensions, test) ||
		slices.ContainsFunc(c.filters, func(f Filter) bool { return f.any(test) })
}

func ofEvent(name string) bool {
	d, _ := lookup(name)
	return d.Grain == none && !d.Visit
}

// needsVisits reports whether the class needs to know which events make up a visit.
func (c class) needsVisits() bool {
	return c.entered || c.any(ofVisit) ||
		slices.ContainsFunc(c.sums, func(s string) bool { return !slices.Contains(eventSums, s) })
}

// once returns a condition that holds for one row of each visit in each group; "" where there is none.
func (c class) once(p plan) string {
	switch {
	case p.cut || len(c.parts) > 0 || p.grain != none && p.grain < day:
		return ""
	case !c.any(ofEvent):
		return "n = 1"
	case c.any(func(name string) bool { return ofEvent(name) && name != page }):
		return ""
	case slices.Contains(c.dimensions, page) || slices.ContainsFunc(c.filters, func(f Filter) bool {
		return f.Op == Is && f.Dimension == page && len(f.Values) == 1 && !f.IgnoreCase
	}):
		return "nth = 1"
	}
	return ""
}

// split divides a class into that of the events and that of the visits that entered on their pages, which
// then needs only visits.
func (c class) split(g grain) []class {
	if !c.entered || c.any(func(name string) bool { return ofEvent(name) && name != page }) {
		return []class{c}
	}
	entries, rest := c.ofEntries(), c
	entries.apart, rest.entered = true, false
	entries.sums, rest.sums = nil, nil
	for _, s := range c.sums {
		if ofEntries(s) {
			entries.sums = append(entries.sums, s)
		} else {
			rest.sums = append(rest.sums, s)
		}
	}
	return []class{rest.divided(g), entries}
}
