package history

import (
	"fmt"
	"slices"

	"nowcast/internal/hits"
)

// What a part reads.
type source int

const (
	fromEvents       source = iota // of open days, each by itself
	fromFold                       // of open days, with their visits
	fromFoldedVisits               // of open days
	fromHits                       // of sealed days
	fromVisits                     // of sealed days
	fromRollups                    // of sealed days
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
	Keys       bool // pages are keys
	Exits      bool // exits are asked for
	Known      bool // the statement has a part of imports

	class          class
	source         source
	moment         string // which time of the rows a time dimension is of
	hits, ofVisits []string
	pages, nth     bool // columns that a fold needs
}

// Entered reports whether a part of the rows is of the visits that entered on a page.
func (p *partData) Entered() bool { return p.class.entered }

func (p *partData) sealed() bool { return p.source >= fromHits }

func (p *partData) ofVisitRows() bool { return p.source == fromVisits || p.source == fromFoldedVisits }

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
	Keys           bool // pages are keys
}

// parts returns the parts of a statement.
func (b *builder) parts(c class) (out []string) {
	if len(b.calendar.Sealed) > 0 {
		for _, c := range c.split(b.grain) {
			for _, s := range b.sealedParts(c) {
				out = append(out, b.sealedPart(c, s))
			}
		}
	}
	if len(b.calendar.Open) > 0 {
		out = append(out, b.openPart(c))
	}
	if b.imports.included {
		out = append(out, b.importedParts(c)...)
	}
	return out
}

// openPart returns the part of the days that aren't sealed.
func (b *builder) openPart(c class) string {
	p := &partData{class: c, source: fromFold}
	switch {
	case !c.needsVisits():
		p.source = fromEvents
	case b.answeredByVisits(c):
		p.source = fromFoldedVisits
	}
	b.usesZone = true
	kind := b.describe(p)
	open := b.open(p.source == fromEvents)
	if p.source == fromEvents {
		p.From = b.write("plain", struct {
			openData
			Columns []string
		}{open, p.hits})
		return b.write(kind, p)
	}
	p.From = "\n(\n" + b.fold(p, b.write("open", open)) + ")"
	return b.write(kind, p)
}

// fold returns the hits of the events that pass a condition, with what a part needs of them.
func (b *builder) fold(p *partData, where string) string {
	fold, err := hits.Fold{
		Where: where, Who: "visitor",
		Day: b.write("local day", nil), Offset: b.write("local offset", nil),
		Hit: p.hits, Visit: p.ofVisits, Engaged: p.Engaged, Pages: p.pages, Nth: p.nth, Strings: true,
		Visits: p.source == fromFoldedVisits,
	}.SQL()
	if b.err == nil {
		b.err = err
	}
	return fold
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
	p.Parts, p.Apart, p.OfVisits, p.Keys = c.parts, c.apart, p.ofVisitRows(), p.sealed()
	p.Exits, p.Known = slices.Contains(c.sums, "exits"), b.imports.included
	p.nth = once == "nth = 1"
	p.pages = p.Exits || p.nth
	p.Engaged = slices.ContainsFunc(c.sums, func(s string) bool { return slices.Contains(engagedSums, s) })
	switch {
	case p.source == fromRollups:
		kind, p.moment = "rollups", "hour"
	case p.OfVisits:
		p.moment = "visit"
	case p.source == fromEvents:
		p.moment, once = "ts", ""
	case (once == "" || p.Engaged) && (!singly || len(c.parts) > 0):
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
		p.Sums = append(p.Sums, sumData{s, once, of, !slices.Contains(c.sums, s), p.sealed()})
	}
	b.conditions(p, kind)
	return kind
}

// conditions adds those of the range and of the filters.
func (b *builder) conditions(p *partData, kind string) {
	within := func(value string) string { return b.write("within", withinData{value, b.holes}) }
	if b.cut {
		switch {
		case p.OfVisits:
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
		p.Where = append(p.Where, b.write("filter", b.filter(f, p)))
	}
}
