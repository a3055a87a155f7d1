package query

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Whatever a request says goes into a statement as a bound parameter. The templates write only names from the tables of
// catalogue.go and the numbers of parameters.
//
//go:embed sql/*.sql
var files embed.FS

var statements = template.Must(template.ParseFS(files, "sql/*.sql"))

// A plan is a request with everything settled that it leaves open.
type plan struct {
	Request
	site  string
	span  span
	grain grain // of the time dimension
}

// A statement is SQL and its parameters, in the order in which they appear.
type statement struct {
	sql  string
	args []any
}

func (s *statement) bind(name string, value any) {
	s.args = append(s.args, clickhouse.Named(name, value))
}

// These are what the templates see.
type (
	termData struct {
		Value, Blank string // an expression; what an empty value is called
		Grain        string
	}
	filterData struct {
		Op         string // "is", "contains", "matches" or "not"
		Negated    bool
		Joint      string // AND, OR
		Dimension  termData
		Param      string   // of is and contains: all values
		Params     []string // of matches: a pattern each
		IgnoreCase bool
		Filters    []filterData
	}
	columnData struct{ Column, Expression string }
	data       struct {
		Dimensions   []termData
		Metrics      []string
		Filters      []filterData
		OrderBy      []string
		Columns      []string     // of events, that visits.sql has to carry along
		VisitColumns []columnData // what is known of a visit
		Split        bool         // buckets of time differ for an event and its visit, and both count
		VisitsOnly   bool         // a visit that began before the range is nothing then
	}
)

type builder struct {
	plan
	statement
	visits bool
	d      data
	params int
}

// build writes the statement of a plan.
func (p plan) build() (statement, error) {
	b := builder{plan: p, visits: p.needsVisits()}
	b.bind("site", p.site)
	b.bind("from", p.span.From.UnixMilli())
	b.bind("to", p.span.To.UnixMilli())
	name := "events.sql"
	if b.visits {
		name = "visits.sql"
		b.bind("midnight", p.span.From.UTC().Truncate(24*time.Hour).UnixMilli())
		ofVisits := slices.ContainsFunc(p.Metrics, Metric.ofVisits)
		ofEvents := slices.ContainsFunc(p.Metrics, func(m Metric) bool { return !m.ofVisits() })
		b.d.Split = ofVisits && ofEvents && p.grain != none
		b.d.VisitsOnly = !ofEvents
	}
	for i, n := range p.Dimensions {
		d, ok := lookup(n)
		if !ok {
			return statement{}, invalid(at("dimensions", i), "%s is not known", show(n))
		}
		if d.Grain != none {
			d.Grain = p.grain
			b.bind("zone", p.span.Zone.String())
			if d.Grain == week {
				b.bind("first_day", civil(p.span.From).Format(time.DateOnly))
			}
		}
		b.d.Dimensions = append(b.d.Dimensions, b.term(d))
	}
	b.d.Metrics = p.columns()
	for _, f := range p.Filters {
		b.d.Filters = append(b.d.Filters, b.filter(f))
	}
	b.orderBy()
	b.bind("limit", p.Limit)
	b.bind("offset", p.Offset)
	var sql strings.Builder
	if err := statements.ExecuteTemplate(&sql, name, b.d); err != nil {
		return statement{}, fmt.Errorf("write %s: %w", name, err)
	}
	b.sql = strings.TrimSpace(sql.String())
	return b.statement, nil
}

// needsVisits says whether a question can't be answered event by event.
func (p plan) needsVisits() bool {
	return slices.ContainsFunc(p.Metrics, Metric.ofVisits) ||
		slices.ContainsFunc(p.Dimensions, func(n string) bool { return dimensions[n].Visit }) ||
		slices.ContainsFunc(p.Filters, Filter.ofVisits)
}

func (f Filter) ofVisits() bool {
	return dimensions[f.Dimension].Visit || slices.ContainsFunc(f.Filters, Filter.ofVisits)
}

func (b *builder) param(value any) string {
	name := fmt.Sprintf("p%d", b.params)
	b.params++
	b.bind(name, value)
	return name
}

// term writes how to get at a dimension's value in the statement at hand.
func (b *builder) term(d dimension) termData {
	t := termData{Blank: d.Blank, Grain: d.Grain.String()}
	switch {
	case d.Grain != none && b.d.Split:
		t.Value = "if(part = 0, e.ts, start)"
	case d.Grain != none && b.d.VisitsOnly:
		t.Value = "start"
	case d.Grain != none && b.visits:
		t.Value = "e.ts"
	case d.Grain != none:
		t.Value = "ts"
	case d.Prop != "":
		t.Value = "props[{" + b.param(d.Prop) + ":String}]"
		b.carry("props")
	case d.Visit:
		t.Value = "visit_" + d.Column
		b.carryVisit(d.Column)
		return t
	default:
		t.Value = d.Column
		b.carry(d.Column)
	}
	if b.visits && d.Grain == none {
		t.Value = "e." + t.Value
	}
	return t
}

func (b *builder) carry(column string) {
	if !slices.Contains(b.d.Columns, column) {
		b.d.Columns = append(b.d.Columns, column)
	}
}

func (b *builder) carryVisit(column string) {
	if slices.ContainsFunc(b.d.VisitColumns, func(c columnData) bool { return c.Column == column }) {
		return
	}
	c := columnData{column, "counted[1]." + column}
	switch column {
	case "entry_page":
		c.Expression, column = "views[1].path", "path"
	case "exit_page":
		c.Expression, column = "views[-1].path", "path"
	}
	b.carry(column)
	b.d.VisitColumns = append(b.d.VisitColumns, c)
}

func (b *builder) filter(f Filter) filterData {
	out := filterData{Op: string(f.Op), IgnoreCase: f.IgnoreCase}
	switch f.Op {
	case And, Or:
		out.Joint = strings.ToUpper(string(f.Op))
	case Not:
		out.Negated = true
	case IsNot, ContainsNot, MatchesNot:
		out.Op, out.Negated = strings.TrimSuffix(out.Op, "_not"), true
	}
	for _, sub := range f.Filters {
		out.Filters = append(out.Filters, b.filter(sub))
	}
	if f.Dimension == "" {
		return out
	}
	d, _ := lookup(f.Dimension)
	out.Dimension = b.term(d)
	if out.Op != "matches" {
		out.Param = b.param(f.Values)
		return out
	}
	for _, v := range f.Values {
		out.Params = append(out.Params, b.param(v))
	}
	return out
}

// orderBy sorts by what was asked for, then by the dimensions, so that pages of rows fit together.
func (b *builder) orderBy() {
	seen := map[string]bool{}
	add := func(column, direction string) {
		if !seen[column] {
			seen[column] = true
			b.d.OrderBy = append(b.d.OrderBy, column+direction)
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
	if len(b.d.OrderBy) == 0 {
		add(b.d.Metrics[0], "")
	}
}
