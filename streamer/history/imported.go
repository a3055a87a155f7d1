package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Why an answer is without imports, in the words of the Plausible Stats API.
const (
	noImports           = "no_imported_data"
	importsOutOfRange   = "out_of_range"
	unsupportedQuery    = "unsupported_query"
	unsupportedInterval = "unsupported_interval"
)

var importsWarnings = map[string]string{
	unsupportedQuery: "Imports are not included: they are sums by day of one dimension, which answer no " +
		"filters, no parts of days, no custom properties and no two dimensions at a time.",
	unsupportedInterval: "Imports are not included: they are sums by day, and the time dimension is finer.",
}

// importing is what a plan does with imports.
type importing struct {
	included bool
	skipped  string // why not; "": they aren't asked for
	days     []days // of each import of the site
	part     string // of a total with which the rows of a dimension are compared: the dimension
	since    int64  // the time from which on imports are of the site, in Unix milliseconds
}

// importsOf reads the days of a site's imports.
func (e *Engine) importsOf(ctx context.Context, s Site) (i importing, err error) {
	if !s.ImportsSince.IsZero() {
		i.since = s.ImportsSince.UnixMilli()
	}
	stmt, err := execute("imports.sql", nil)
	if err != nil {
		return i, err
	}
	stmt.bind("site", s.Domain)
	stmt.bind("imports_since", i.since)
	err = e.db.run(ctx, stmt, func(r driver.Rows) error {
		var first, last uint16
		if err := r.Scan(&first, &last); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		i.days = append(i.days, days{localDate(first), localDate(last)})
		return nil
	})
	return i, err
}

// begin returns the begin of the first imported day, or a time that is before it or the only one.
func (i *importing) begin(t time.Time, zone *time.Location) time.Time {
	for _, d := range i.days {
		if first := startOfDay(d.First.time(), zone); t.IsZero() || first.Before(t) {
			t = first
		}
	}
	return t
}

// describe says in an answer whether it is with imports.
func (i *importing) describe(m *Meta) {
	if i.included || i.skipped != "" {
		m.ImportsIncluded = &i.included
		m.ImportsSkipReason, m.ImportsWarning = i.skipped, importsWarnings[i.skipped]
	}
}

// refusal returns why imports don't answer a plan, whatever its range is.
func (p plan) refusal() (reason string) {
	values := 0
	for _, n := range p.Dimensions {
		switch d, _ := lookup(n); {
		case d.Prop != "", n == goalDimension:
			return unsupportedQuery
		case d.Grain == none:
			values++
		case d.Grain != auto && d.Grain < day:
			reason = unsupportedInterval
		}
	}
	if len(p.Filters) > 0 || values > 1 {
		return unsupportedQuery
	}
	return reason
}

// settleImports decides whether a plan includes imports, once its range and grain are known.
func (p *plan) settleImports() {
	i := &p.imports
	i.skipped = p.refusal()
	switch first, last := p.localDays(); {
	case len(i.days) == 0:
		i.skipped = noImports
	case !slices.ContainsFunc(i.days, func(d days) bool { return d.First <= last && d.Last >= first }):
		i.skipped = importsOutOfRange
	case i.skipped == "" && !p.span.whole():
		i.skipped = unsupportedQuery
	}
	i.included = i.skipped == ""
}

// localDays returns the first and last date of the range.
func (p plan) localDays() (first, last localDate) {
	return dateOf(p.span.From), dateOf(p.span.To.Add(-1).In(p.span.Zone))
}

// importedData is what the template "imported" takes. Names of parameters: that of the dimension; and of the
// dimension of the pages on which visits entered or of the totals, where another part has these.
type importedData struct {
	Dimensions []termData
	Sums       []sumData

	Dim, Entries, Totals string

	Apart      bool
	OnlyVisits bool // groups without a visit are no rows
	OfEvents   bool // page views of a group are not those of its visits
}

// importedDimension returns that of the table `imported` which answers dimensions; "": totals.
func importedDimension(names []string) (dim string) {
	for _, n := range names {
		if !isTime(n) {
			dim = n
		}
	}
	if dim == "visit:city_name" {
		return "visit:city"
	}
	return dim
}

// importedPart returns the part of what other tools counted of a class without parts.
func (b *builder) importedPart(c class, split bool) string {
	data := importedData{Apart: c.apart, OnlyVisits: c.visitsOnly}
	dim := importedDimension(c.dimensions)
	for i, n := range c.dimensions {
		d, _ := lookup(n)
		t := termData{EmptyLabel: d.EmptyLabel, Grain: d.Grain.String(), Value: "value", Names: b.keyed[i]}
		if data.Dimensions = append(data.Dimensions, t); d.Grain != none {
			continue
		}
		data.OfEvents = !d.Visit
	}
	for _, s := range b.sums {
		data.Sums = append(data.Sums, sumData{Name: s, Absent: !slices.Contains(c.sums, s)})
	}
	data.Dim = b.param(dim)
	if split && dim == page {
		data.Entries = b.param(entryPage)
	}
	return b.write("imported", data)
}

// importedParts returns the parts of what other tools counted.
func (b *builder) importedParts(c class) (out []string) {
	first, last := b.localDays()
	b.bind("imported_from", first.String())
	b.bind("imported_to", last.String())
	b.bind("imports_since", b.imports.since)
	classes := c.split(b.grain)
	if slices.Contains(b.Dimensions, page) && !slices.Contains(c.dimensions, page) {
		// Only metrics of entries are asked for. Its pages say of which groups an import doesn't know them.
		classes = append(classes, class{dimensions: b.Dimensions, apart: true})
	}
	for _, c := range classes {
		out = append(out, b.importedPart(c, len(classes) > 1))
	}
	if b.imports.part != "" {
		data := importedData{Dim: b.param(b.imports.part), Totals: b.param(""), Apart: true}
		for _, s := range b.sums {
			data.Sums = append(data.Sums, sumData{Name: s, Absent: true})
		}
		out = append(out, b.write("imported", data))
	}
	return out
}
