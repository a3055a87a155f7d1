package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"nowcast/internal/hits"
)

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

const (
	eventPart = iota
	visitPart
	entryPart
)

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

// What a part reads.
type source int

const (
	fromEvents  source = iota // of open days, each by itself
	fromFold                  // of open days, with their visits
	fromHits                  // of sealed days
	fromVisits                // of sealed days
	fromRollups               // of sealed days
)

// partData is what the templates of parts take.
type partData struct {
	Dimensions []termData
	Sums       []sumData
	From       string // SQL
	Where      []string
	Begins     string // the condition of a visit that began in the range
	Parts      []int
	OfVisits   bool // the rows are visits
	Engaged    bool // engagement is asked for
	Apart      bool

	class          class
	source         source
	moment         string // which time of the rows a time dimension is of
	hits, ofVisits []string
}

// Entered reports whether a part of the rows is of the visits that entered on a page.
func (p *partData) Entered() bool { return p.class.entered }

func (p *partData) sealed() bool { return p.source >= fromHits }

// hit and visit say that a part needs a column.
func (p *partData) hit(column string) { p.hits = with(p.hits, column) }

func (p *partData) visit(column string) { p.ofVisits = with(p.ofVisits, column) }

func with(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// sumData is a sum of a part: Once holds for one row of each visit, Of for the visits of a group.
type sumData struct {
	Name, Once, Of string
	Absent         bool // another part of the same days has it
}

// parts returns the parts of a statement.
func (b *builder) parts(c class) (out []string, err error) {
	add := func(sql string, e error) {
		if sql != "" {
			out = append(out, sql)
		}
		if err == nil {
			err = e
		}
	}
	if len(b.calendar.Sealed) > 0 {
		for _, c := range c.split(b.grain) {
			for _, s := range b.sealedParts(c) {
				add(b.sealedPart(c, s))
			}
		}
	}
	if len(b.calendar.Open) > 0 {
		add(b.openPart(c))
	}
	return out, err
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

// openPart returns the part of the days that aren't sealed.
func (b *builder) openPart(c class) (string, error) {
	p := &partData{class: c, source: fromFold}
	if !c.needsVisits() {
		p.source = fromEvents
	}
	b.usesZone = true
	kind := b.describe(p)
	open := b.open(p.source == fromEvents)
	where, err := write("open", open)
	if err != nil {
		return "", err
	}
	if p.source == fromEvents {
		if p.From, err = write("plain", struct {
			openData
			Columns []string
		}{open, p.hits}); err != nil {
			return "", err
		}
		return write(kind, p)
	}
	fold, err := p.fold(where)
	if err != nil {
		return "", err
	}
	p.From = "\n(\n" + fold + ")"
	return write(kind, p)
}

// fold returns the hits of the events that pass a condition, with what the part needs of them.
func (p *partData) fold(where string) (string, error) {
	day, err := write("local day", nil)
	if err != nil {
		return "", err
	}
	offset, err := write("local offset", nil)
	if err != nil {
		return "", err
	}
	return hits.Fold{Where: where, Who: "visitor", Day: day, Offset: offset, Hit: p.hits,
		Visit: p.ofVisits, Engaged: p.Engaged, Strings: true}.SQL()
}

type (
	// openData is what the template "open" takes.
	openData struct {
		Runs []runData
		Days string // a list of days; "": all of the runs
	}
	runData struct{ From, To, First, Last string } // parameters
)

// open binds which events of `events` are of the open days. Of single events those within the range are
// enough.
func (b *builder) open(single bool) (d openData) {
	runs, exact := b.calendar.runs()
	for i, r := range runs {
		name := fmt.Sprintf("open%d", i)
		data := runData{name, name + "_end", name + "_day", name + "_last_day"}
		d.Runs = append(d.Runs, data)
		from, to := startOfDay(r.First.time(), b.span.Zone), startOfDay((r.Last+1).time(), b.span.Zone)
		if single && b.cut && from.Before(b.span.From) {
			from = b.span.From
		}
		if single && b.cut && to.After(b.span.To) {
			to = b.span.To
		}
		b.bind(data.From, b.notBefore(from))
		b.bind(data.To, to.UnixMilli())
		b.bind(data.First, r.First.String())
		b.bind(data.Last, r.Last.String())
	}
	if !exact {
		var all []localDate
		for _, r := range b.calendar.Open {
			for d := r.First; d <= r.Last; d++ {
				all = append(all, d)
			}
		}
		b.lists++
		d.Days = b.list("days", numbers(all))
	}
	return d
}

func numbers(list []localDate) []uint16 {
	out := make([]uint16, len(list))
	for i, d := range list {
		out[i] = uint16(d) //nolint:gosec // years 1971 to 2099
	}
	return out
}

// describe settles the dimensions, sums and conditions of a part, and returns the name of its template.
func (b *builder) describe(p *partData) string {
	c := p.class
	once, kind := c.once(b.plan), "flat"
	singly := !slices.ContainsFunc(c.sums, func(s string) bool { return !slices.Contains(eventSums, s) })
	p.Parts, p.Apart, p.OfVisits = c.parts, c.apart, p.source == fromVisits
	p.Engaged = slices.ContainsFunc(c.sums, func(s string) bool { return slices.Contains(engagedSums, s) })
	switch {
	case p.source == fromRollups:
		kind, p.moment = "rollups", "hour"
	case p.source == fromVisits:
		p.moment = "visit"
	case p.source == fromEvents:
		p.moment, once = "ts", ""
	case (once == "" || p.Engaged) && !(singly && len(c.parts) == 0):
		kind = "rows"
		p.moment = map[bool]string{true: "start", false: "ts"}[c.visitsOnly]
		if len(c.parts) > 0 {
			p.moment = "part"
		}
	default:
		p.moment = "ts"
	}
	for i, n := range c.dimensions {
		t := b.term(n, p)
		t.Names = b.keyed[i]
		p.Dimensions = append(p.Dimensions, t)
	}
	for _, s := range b.sums {
		of := "begins"
		if c.entered && ofEntries(s) {
			of = "entered"
		}
		p.Sums = append(p.Sums, sumData{s, once, of, !slices.Contains(c.sums, s)})
	}
	b.conditions(p, kind)
	return kind
}

// conditions adds those of the range and of the filters.
func (b *builder) conditions(p *partData, kind string) {
	within := func(value string) string {
		s, _ := write("within", withinData{value, b.holes})
		return s
	}
	if b.cut {
		switch {
		case p.source == fromVisits:
			p.Where = append(p.Where, within("start"))
		case kind == "flat":
			p.Where = append(p.Where, within("ts"))
		default:
			p.Begins = within("start")
			p.Where = append(p.Where, within("ts"))
			if len(p.Parts) > 0 {
				p.Where = append(p.Where, "(part = 0 OR "+p.Begins+")")
			} else if p.class.visitsOnly {
				p.Where = append(p.Where, p.Begins)
			}
		}
	}
	for _, f := range p.class.filters {
		s, _ := write("filter", b.filter(f, p))
		p.Where = append(p.Where, s)
	}
}

// settleKeys decides which dimensions have keys in the statement: those of which a part has keys.
func (b *builder) settleKeys(c class) {
	b.keyed = make([]string, len(c.dimensions))
	if len(b.calendar.Sealed) == 0 {
		return
	}
	rolled := false
	for _, c := range c.split(b.grain) {
		for _, s := range b.sealedParts(c) {
			rolled = rolled || s.source == fromRollups
		}
	}
	for i, n := range c.dimensions {
		d, _ := lookup(n)
		if b.keyed[i] = d.Names; rolled && d.Grain == none {
			b.keyed[i] = d.names()
		}
	}
}

// sealedSet is days of which a part reads rows or sums.
type sealedSet struct {
	source source
	days   []sealedDay
	span   string // of sums: hour, day, month
}

// sealedPart returns the part of some sealed days.
func (b *builder) sealedPart(c class, s sealedSet) (string, error) {
	p := &partData{class: c, source: s.source, From: "hits"}
	where, err := b.ofSeals(s.days)
	if err != nil {
		return "", err
	}
	p.Where = append(p.Where, where)
	switch s.source {
	case fromVisits:
		p.From = "visits"
	case fromRollups:
		p.From = "rollups"
		stored := "segment = 0 AND dim = '" + b.stored(c).stored() + "' AND span = '" + s.span + "'"
		if c.visitsOnly {
			stored += " AND visits > 0"
		}
		p.Where = append(p.Where, stored)
	}
	return write(b.describe(p), p)
}

// ofSeals returns the condition of the rows of sealed days.
func (b *builder) ofSeals(list []sealedDay) (string, error) {
	first, last := list[0], list[len(list)-1]
	b.lists++
	data := sealedData{
		First: b.list("sealed_day", first.Date.String()), Last: b.list("sealed_last_day", last.Date.String()),
	}
	var dates []localDate
	var seals, all []uint64
	for _, d := range list {
		dates, all = append(dates, d.Date), append(all, d.Seal)
		if !slices.Contains(seals, d.Seal) {
			seals = append(seals, d.Seal)
		}
	}
	data.All = b.list("seals", seals)
	if len(seals) > 1 || int(last.Date-first.Date)+1 != len(list) {
		data.Days, data.Seals = b.list("days", numbers(dates)), b.list("day_seals", all)
	}
	where, err := write("sealed", data)
	return strings.TrimSpace(where), err
}

// sealedData is what the template "sealed" takes: parameters.
type sealedData struct{ First, Last, All, Days, Seals string }

// stored returns the dimension whose sums answer a class.
func (b *builder) stored(c class) (d dimension) {
	for _, n := range c.dimensions {
		if x, _ := lookup(n); x.Grain == none {
			d = x
		}
	}
	return d
}

// storedDimension returns the one dimension of a plan that may have stored sums; zero for none.
func (p plan) storedDimension() (d dimension) {
	for _, n := range p.Dimensions {
		if x, _ := lookup(n); x.Grain == none {
			d = x
		}
	}
	return d
}

// sealedParts says from what the sealed days of a class are answered.
func (b *builder) sealedParts(c class) (out []sealedSet) {
	rest := b.calendar.Sealed
	if span := b.storedSpan(c); span != "" {
		var months, rolled, other []sealedDay
		for _, d := range rest {
			first := d.Date.time()
			month := dateOf(time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC))
			switch {
			case d.Rolled && span == "day" && b.grain != day && b.grain != week &&
				slices.Contains(b.calendar.months, month):
				if len(months) == 0 || months[len(months)-1].Date != month {
					months = append(months, sealedDay{Date: month, Seal: d.Seal})
				}
			case d.Rolled:
				rolled = append(rolled, d)
			default:
				other = append(other, d)
			}
		}
		if len(months) > 0 {
			out = append(out, sealedSet{fromRollups, months, "month"})
		}
		if len(rolled) > 0 {
			out = append(out, sealedSet{fromRollups, rolled, span})
		}
		rest = other
	}
	if len(rest) == 0 {
		return out
	}
	if b.answeredByVisits(c) {
		return append(out, sealedSet{fromVisits, rest, ""})
	}
	return append(out, sealedSet{fromHits, rest, ""})
}

// storedSpan returns the spans of the stored sums that answer a class; "" where none do.
func (b *builder) storedSpan(c class) string {
	values := 0
	for _, n := range c.dimensions {
		d, _ := lookup(n)
		switch {
		case d.Grain != none:
		case d.Prop != "":
			return ""
		default:
			values++
		}
	}
	switch {
	case b.cut || len(c.filters) > 0 || values > 1 || c.entered:
		return ""
	case b.grain == none || b.grain >= day:
		return "day"
	case b.grain == hour && values == 0:
		return "hour"
	}
	return ""
}

// answeredByVisits reports whether rows of visits have all that a class needs.
func (b *builder) answeredByVisits(c class) bool {
	byTime := b.cut || b.grain != none && b.grain < day
	return !c.any(ofEvent) && (!byTime || c.visitsOnly) && !slices.ContainsFunc(c.sums, func(s string) bool {
		return slices.Contains(engagedSums, s) || s == "exits"
	})
}
