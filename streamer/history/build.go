package history

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Every value of a query is a bound parameter of its statement. The templates write only names from the
// tables of catalogue.go and the names of parameters, so that no query can inject SQL.
//
//go:embed sql/*.sql
var files embed.FS

var statements = template.Must(template.ParseFS(files, "sql/*.sql"))

// A statement is SQL and its parameters, in the order in which they appear.
type statement struct {
	sql  string
	args []any
}

func (s *statement) bind(name string, value any) {
	s.args = append(s.args, clickhouse.Named(name, value))
}

// execute writes a statement whose template takes one value.
func execute(name string, data any) (statement, error) {
	var sql strings.Builder
	if err := statements.ExecuteTemplate(&sql, name, data); err != nil {
		return statement{}, fmt.Errorf("write %s: %w", name, err)
	}
	return statement{sql: sql.String()}, nil
}

// The data of the templates.
type (
	termData struct {
		Value, EmptyLabel string // an SQL expression; the label of an empty value
		Grain             string
	}
	filterData struct {
		Op         string // "is", "contains", "matches" or "not"
		Negated    bool
		Connective string // AND, OR
		Dimension  termData
		Param      string   // of is and contains: one parameter for all values
		Params     []string // of matches: one parameter for each pattern
		IgnoreCase bool
		Filters    []filterData
		Unless     string // of a filter of the query: a condition under which it need not hold
	}
	metricData    struct{ Name, Of string } // Of: the condition on the rows whose visits it is of
	columnData    struct{ Column, Expression string }
	holeData      struct{ Value, From, To string } // an SQL expression and two parameters
	statementData struct {
		Dimensions   []termData
		Metrics      []metricData
		Filters      []filterData
		OrderBy      []string
		Columns      []string     // of events, which visits.sql passes through its stages
		VisitColumns []columnData // the values of a visit
		Parts        []int        // of each event; none where all metrics count the same rows
		Entered      bool         // one of the parts is the visits that entered on a page
		VisitsOnly   bool         // only visits count; those that began before the range do not
		Holes        []holeData   // in the range
	}
)

// Of returns the hole as one of an expression's values.
func (h holeData) Of(value string) holeData {
	h.Value = value
	return h
}

// The parts of an event, where metrics count different rows.
const (
	eventPart = iota // of those that count events, by the event's own time
	visitPart        // of those that count visits, by the time at which the visit began
	entryPart        // of those that are of the visits that entered on a page, by that page and that time
)

type builder struct {
	plan
	statement
	visits  bool
	entries bool // event:page is the page on which the visit entered
	data    statementData
	params  int
}

// build returns the statement of a plan.
func (p plan) build() (statement, error) {
	b := builder{plan: p, visits: p.needsVisits()}
	b.bind("site", p.site)
	b.bind("from", p.notBefore(p.span.From))
	b.bind("to", p.span.To.UnixMilli())
	for i, h := range p.span.Holes {
		hole := holeData{From: fmt.Sprintf("hole%d", i), To: fmt.Sprintf("hole%d_end", i)}
		b.data.Holes = append(b.data.Holes, hole)
		b.bind(hole.From, h.From.UnixMilli())
		b.bind(hole.To, h.To.UnixMilli())
	}
	name := "events.sql"
	if b.visits {
		name = "visits.sql"
		b.bind("midnight", p.notBefore(p.span.From.UTC().Truncate(24*time.Hour)))
		b.divide()
	}
	for i, n := range p.Dimensions {
		d, ok := b.lookup(n)
		if !ok {
			return statement{}, invalid(element("dimensions", i), "%s is not known", quote(n))
		}
		if d.Grain != none {
			d.Grain = p.grain
			changes, offsets := p.span.offsets()
			b.bind("changes", changes)
			b.bind("offsets", offsets)
			if d.Grain == week {
				b.bind("first_day", civil(p.span.From).Format(time.DateOnly))
			}
		}
		t := b.term(d)
		if b.data.Entered && n == page {
			entered, _ := lookup(entryPage)
			t.Value = fmt.Sprintf("if(part = %d, %s, %s)", entryPart, b.term(entered).Value, t.Value)
		}
		b.data.Dimensions = append(b.data.Dimensions, t)
	}
	for _, c := range p.columns() {
		of := "begins"
		if b.data.Entered && Metric(c).ofEntries() {
			of = "entered"
		}
		b.data.Metrics = append(b.data.Metrics, metricData{c, of})
	}
	for _, f := range p.Filters {
		b.addFilter(f)
	}
	b.orderBy()
	b.bind("limit", p.Limit)
	b.bind("offset", p.Offset)
	s, err := execute(name, b.data)
	b.sql = strings.TrimSpace(s.sql)
	return b.statement, err
}

// divide settles which rows the metrics of a statement with visits count.
func (b *builder) divide() {
	paged := slices.Contains(b.Dimensions, page) || slices.ContainsFunc(b.Filters, Filter.ofPage)
	ofEvents, ofVisits, ofEntries := false, false, false
	for _, m := range b.Metrics {
		switch {
		case paged && m.ofEntries():
			ofEntries = true
		case m.ofVisits():
			ofVisits = true
		default:
			ofEvents = true
		}
	}
	b.data.VisitsOnly = !ofEvents
	b.entries = ofEntries && !ofEvents && !ofVisits
	if b.data.Entered = ofEntries && !b.entries; b.data.Entered || ofEvents && ofVisits && b.grain != none {
		for part, counts := range []bool{ofEvents, ofVisits, b.data.Entered} {
			if counts {
				b.data.Parts = append(b.data.Parts, part)
			}
		}
	}
}

// lookup finds a dimension, as the rows of the statement have it.
func (b *builder) lookup(name string) (dimension, bool) {
	if b.entries && name == page {
		name = entryPage
	}
	return lookup(name)
}

// addFilter adds a filter of the query. A part of entries has it with the page on which the visit entered.
func (b *builder) addFilter(f Filter) {
	if !b.data.Entered || !f.ofPage() {
		b.data.Filters = append(b.data.Filters, b.filter(f))
		return
	}
	own := b.filter(f)
	own.Unless = fmt.Sprintf("part = %d", entryPart)
	b.entries = true
	entered := b.filter(f)
	entered.Unless = fmt.Sprintf("part != %d", entryPart)
	b.entries = false
	b.data.Filters = append(b.data.Filters, own, entered)
}

// notBefore returns a time, or the first of the site if that is later, in Unix milliseconds.
func (p plan) notBefore(t time.Time) int64 {
	if t.Before(p.since) {
		t = p.since
	}
	return t.UnixMilli()
}

// needsVisits reports whether the plan needs to know which events make up a visit.
func (p plan) needsVisits() bool {
	return slices.ContainsFunc(p.Metrics, Metric.ofVisits) ||
		slices.ContainsFunc(p.Dimensions, func(n string) bool { return dimensions[n].Visit }) ||
		slices.ContainsFunc(p.Filters, Filter.ofVisits)
}

// ofPage reports whether a filter looks at the page of an event.
func (f Filter) ofPage() bool {
	return f.Dimension == page || slices.ContainsFunc(f.Filters, Filter.ofPage)
}

func (f Filter) ofVisits() bool {
	return dimensions[f.Dimension].Visit || slices.ContainsFunc(f.Filters, Filter.ofVisits)
}

// param binds a value to a new parameter and returns its name.
func (b *builder) param(value any) string {
	name := fmt.Sprintf("p%d", b.params)
	b.params++
	b.bind(name, value)
	return name
}

// term returns the expression of a dimension's value, and passes its columns through.
func (b *builder) term(d dimension) termData {
	t := termData{EmptyLabel: d.EmptyLabel, Grain: d.Grain.String()}
	switch {
	case d.Grain != none && b.data.Parts != nil:
		t.Value = "if(part = 0, e.ts, start)"
	case d.Grain != none && b.data.VisitsOnly:
		t.Value = "start"
	case d.Grain != none && b.visits:
		t.Value = "e.ts"
	case d.Grain != none:
		t.Value = "ts"
	case d.Prop != "":
		t.Value = "props[{" + b.param(d.Prop) + ":String}]"
		b.selectColumn("props")
	case d.Visit:
		t.Value = "visit_" + d.Column
		b.selectVisitColumn(d.Column)
		return t
	default:
		t.Value = d.Column
		b.selectColumn(d.Column)
	}
	if b.visits && d.Grain == none {
		t.Value = "e." + t.Value
	}
	return t
}

// selectColumn passes a column of events through the stages of visits.sql.
func (b *builder) selectColumn(column string) {
	if !slices.Contains(b.data.Columns, column) {
		b.data.Columns = append(b.data.Columns, column)
	}
}

func (b *builder) selectVisitColumn(column string) {
	if slices.ContainsFunc(b.data.VisitColumns, func(c columnData) bool { return c.Column == column }) {
		return
	}
	c := columnData{column, "counted[1]." + column}
	switch column {
	case "entry_page":
		c.Expression, column = "views[1].path", "path"
	case "exit_page":
		c.Expression, column = "views[-1].path", "path"
	}
	b.selectColumn(column)
	b.data.VisitColumns = append(b.data.VisitColumns, c)
}

func (b *builder) filter(f Filter) filterData {
	out := filterData{Op: string(f.Op), IgnoreCase: f.IgnoreCase}
	switch f.Op {
	case And, Or:
		out.Connective = strings.ToUpper(string(f.Op))
	case Not:
		out.Negated = true
	case IsNot, ContainsNot, MatchesNot, MatchesWildcardNot:
		out.Op, out.Negated = strings.TrimSuffix(out.Op, "_not"), true
	}
	for _, sub := range f.Filters {
		out.Filters = append(out.Filters, b.filter(sub))
	}
	if f.Dimension == "" {
		return out
	}
	d, _ := b.lookup(f.Dimension)
	out.Dimension = b.term(d)
	wildcard := Op(out.Op) == MatchesWildcard
	if !wildcard && Op(out.Op) != Matches {
		out.Param = b.param(f.Values)
		return out
	}
	out.Op = string(Matches)
	for _, v := range f.Values {
		if wildcard {
			v = wildcardPattern(v, f.IgnoreCase)
		}
		out.Params = append(out.Params, b.param(v))
	}
	return out
}

// orderBy sorts by the order of the query, then by the dimensions, so that the order is total and pages do
// not overlap.
func (b *builder) orderBy() {
	seen := map[string]bool{}
	add := func(column, direction string) {
		if !seen[column] {
			seen[column] = true
			b.data.OrderBy = append(b.data.OrderBy, column+direction)
		}
	}
	for _, o := range b.OrderBy {
		column := Metric(o.By).column()
		if i := slices.Index(b.Dimensions, o.By); i >= 0 {
			column = fmt.Sprintf("d%d", i)
		}
		if o.Desc {
			add(column, " DESC")
		} else {
			add(column, "")
		}
	}
	for i := range b.Dimensions {
		add(fmt.Sprintf("d%d", i), "")
	}
	if len(b.data.OrderBy) == 0 {
		add(b.data.Metrics[0].Name, "")
	}
}
