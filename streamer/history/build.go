package history

import (
	"embed"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
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
	sql, err := write(name, data)
	return statement{sql: sql}, err
}

// write writes a template.
func write(name string, data any) (string, error) {
	var sql strings.Builder
	if err := statements.ExecuteTemplate(&sql, name, data); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return sql.String(), nil
}

// questionData is what question.sql takes.
type questionData struct {
	Dimensions []termData
	Metrics    []string
	Parts      []string // statements
	Keyed      bool     // a dimension has keys
	Entered    bool     // some parts have groups that are no rows
	Known      bool     // rows may have metrics that an import doesn't know
	First      []string // the order as far as it needs no strings
	OrderBy    []string
}

type builder struct {
	plan
	statement
	holes    []holeData
	keyed    []string // of each dimension: its Names in the statement, "" where it has strings
	sums     []string
	params   int
	lists    int
	usesZone bool
	err      error // the first of its templates
}

// write writes a template for the statement.
func (b *builder) write(name string, data any) string {
	s, err := write(name, data)
	if b.err == nil {
		b.err = err
	}
	return s
}

// build returns the statement of a plan.
func (p plan) build() (statement, error) {
	b := builder{plan: p}
	b.bind("site", p.site)
	if p.cut {
		b.bindRange()
	}
	for i, n := range p.Dimensions {
		if d, ok := lookup(n); !ok {
			return statement{}, invalid(element("dimensions", i), "%s is not known", quote(n))
		} else if d.Grain == week {
			b.bind("range_day", civil(p.span.From).Format(time.DateOnly))
		}
	}
	c := p.class()
	data := questionData{Metrics: p.columns(), Known: p.imports.included}
	data.Entered = c.entered || data.Known && slices.Contains(p.Dimensions, page)
	b.sums = c.sums
	b.settleKeys(c)
	data.Parts = b.parts(c)
	if b.usesZone {
		changes, offsets := p.offsets()
		b.bind("changes", changes)
		b.bind("offsets", offsets)
	}
	for i, n := range c.dimensions {
		d, _ := lookup(n)
		data.Dimensions = append(data.Dimensions, termData{EmptyLabel: d.EmptyLabel, Names: b.keyed[i]})
		data.Keyed = data.Keyed || b.keyed[i] != ""
	}
	data.First, data.OrderBy = b.orderBy()
	b.bind("limit", p.Limit)
	b.bind("offset", p.Offset)
	b.sql = strings.TrimSpace(b.write("question.sql", data))
	return b.statement, b.err
}

// bindRange binds the range of a plan that is cut.
func (b *builder) bindRange() {
	b.bind("from", b.notBefore(b.span.From))
	b.bind("to", b.span.To.UnixMilli())
	for i, h := range b.span.Holes {
		hole := holeData{fmt.Sprintf("hole%d", i), fmt.Sprintf("hole%d_end", i)}
		b.holes = append(b.holes, hole)
		b.bind(hole.From, h.From.UnixMilli())
		b.bind(hole.To, h.To.UnixMilli())
	}
}

// offsets returns the offsets from UTC that clocks have within the days of the plan, in seconds, and the
// second from which each applies.
func (p plan) offsets() (changes, offsets []int64) {
	s := p.span
	s.From = startOfDay(p.calendar.Days.First.time(), s.Zone)
	s.To = startOfDay((p.calendar.Days.Last + 1).time(), s.Zone)
	return s.offsets()
}

// notBefore returns a time, or the first of the site if that is later, in Unix milliseconds.
func (p plan) notBefore(t time.Time) int64 {
	if t.Before(p.since) {
		t = p.since
	}
	return t.UnixMilli()
}

// param binds a value to a parameter and returns its name.
func (b *builder) param(value any) string {
	for _, a := range b.args {
		n, ok := a.(driver.NamedValue)
		if ok && strings.HasPrefix(n.Name, "p") && reflect.DeepEqual(n.Value, value) {
			return n.Name
		}
	}
	name := fmt.Sprintf("p%d", b.params)
	b.params++
	b.bind(name, value)
	return name
}

// list binds days or seals to a parameter and returns its name.
func (b *builder) list(name string, value any) string {
	for _, a := range b.args {
		n, ok := a.(driver.NamedValue)
		if ok && strings.HasPrefix(n.Name, name) && reflect.DeepEqual(n.Value, value) {
			return n.Name
		}
	}
	name = fmt.Sprintf("%s%d", name, b.lists)
	b.bind(name, value)
	return name
}

// orderBy sorts by the order of the query, then by the dimensions, so that the order is total and pages do
// not overlap. `first` is the begin of the order that is known before keys have their strings.
func (b *builder) orderBy() (first, all []string) {
	seen := map[string]bool{}
	known := true
	add := func(column, direction string, dimension int) {
		if seen[column] {
			return
		}
		seen[column] = true
		all = append(all, column+direction)
		if known = known && (dimension < 0 || b.keyed[dimension] == ""); known {
			first = append(first, column+direction)
		}
	}
	for _, o := range b.OrderBy {
		column := Metric(o.By).column()
		dimension := slices.Index(b.Dimensions, o.By)
		if dimension >= 0 {
			column = fmt.Sprintf("d%d", dimension)
		}
		if o.Desc {
			add(column, " DESC", dimension)
		} else {
			add(column, "", dimension)
		}
	}
	for i := range b.Dimensions {
		add(fmt.Sprintf("d%d", i), "", i)
	}
	if len(all) == 0 {
		add(b.columns()[0], "", -1)
	}
	return first, all
}
