package history

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// Hits are the page views and custom events of a site's visits that began in a date range, for the statements
// of package behaviour: of sealed days from the rows of their seals, of the others from events.
//
// A statement first says what it needs, and then takes From. Its rows have the columns day, who, visit, n,
// ts, kind, page_key, pageviews, bounced and those that were asked for.
type Hits struct {
	engine     *Engine
	builder    *builder
	columns    []string
	engaged    bool
	values     []string
	conditions [][]Filter
}

// OfVisits runs the statements of one question within the limits of Config, in one of the principal's slots.
// The errors are those of Run. Without an engine there is no ClickHouse.
func (e *Engine) OfVisits(
	ctx context.Context, p api.Principal, st site.Site, r DateRange, ask func(context.Context, *Hits) error,
) error {
	if e == nil {
		return errNoClickHouse
	}
	return e.admit(ctx, p, func(ctx context.Context) error {
		s := e.keeping(siteOf(st), st.Retention())
		settled, err := e.plan(ctx, s, Query{Metrics: []Metric{Visits}, DateRange: r})
		if err != nil {
			return err
		}
		if settled.calendar, err = e.sealed(ctx, settled); err != nil {
			return err
		}
		return ask(ctx, &Hits{engine: e, builder: &builder{plan: settled}})
	})
}

// Param binds a value of a ClickHouse type and returns its placeholder.
func (h *Hits) Param(kind string, value any) string {
	return "{" + h.builder.param(value) + ":" + kind + "}"
}

// Need asks for columns of hits or of their visits; see internal/hits.
func (h *Hits) Need(columns ...string) { h.columns = append(h.columns, columns...) }

// NeedEngagement asks for engaged_ms and scroll_depth.
func (h *Hits) NeedEngagement() { h.engaged = true }

// Passes asks for a column that says whether a hit passes all of the filters, and returns its name. Without a
// filter it returns "".
func (h *Hits) Passes(filters []Filter) (column string) {
	if len(filters) == 0 {
		return ""
	}
	h.conditions = append(h.conditions, filters)
	return fmt.Sprintf("c%d", len(h.conditions)-1)
}

// PageIs is the filter of a page that may have wildcards; see MatchesWildcard.
func PageIs(pattern string) Filter { return patternOf(page, pattern) }

// NameIs is the filter of an event's name that may have wildcards.
func NameIs(pattern string) Filter { return patternOf("event:name", pattern) }

func patternOf(dimension, pattern string) Filter {
	f := Filter{Op: Is, Dimension: dimension, Values: []string{pattern}}
	if strings.ContainsAny(pattern, `*\`) {
		f.Op = MatchesWildcard
	}
	return f
}

// Value asks for a column with the value of a dimension, and returns its name. Where `keyed` is set, its
// values are keys in decimals, of which Names has the strings. There is none of a dimension that isn't known
// or is one of time.
func (h *Hits) Value(name string) (column string, keyed, ok bool) {
	d, ok := lookup(name)
	if !ok || d.Grain != none {
		return "", false, false
	}
	h.values = append(h.values, name)
	return fmt.Sprintf("v%d", len(h.values)-1), d.Names != "", true
}

// PageDimension is that of the keys in the column page_key.
const PageDimension = page

// From returns the subquery of the hits.
func (h *Hits) From() (string, error) {
	b := h.builder
	b.bind("site", b.site)
	if b.cut {
		b.bindRange()
	}
	changes, offsets := b.offsets()
	b.bind("changes", changes)
	b.bind("offsets", offsets)
	var parts []hitsData
	add := func(source source, from func(p *partData)) {
		d := hitsData{partData: &partData{source: source}}
		h.describe(&d)
		from(d.partData)
		if b.cut {
			d.Where = append(d.Where, b.write("within", withinData{"start", b.holes}))
		}
		parts = append(parts, d)
	}
	if len(b.calendar.Sealed) > 0 {
		add(fromHits, func(p *partData) {
			p.From, p.Where = "hits", []string{b.ofSeals(b.calendar.Sealed)}
		})
	}
	if len(b.calendar.Open) > 0 {
		add(fromFold, func(p *partData) {
			p.From = "\n(\n" + b.fold(p, b.write("open", b.open(false))) + ")"
		})
	}
	sql := b.write("hits.sql", parts)
	return sql, b.err
}

// hitsData is what hits.sql takes, for each part.
type hitsData struct {
	*partData
	Page       termData
	Columns    []string
	Values     []termData
	Conditions []string
}

// describe settles the columns of a part.
func (h *Hits) describe(d *hitsData) {
	p := d.partData
	p.pages = true
	d.Page = h.builder.term(page, p)
	for _, c := range h.columns {
		if d.Columns = append(d.Columns, c); slices.Contains(hitColumns, c) {
			p.hit(c)
		} else {
			p.visit(c)
		}
	}
	if p.Engaged = h.engaged; p.Engaged {
		d.Columns = append(d.Columns, "engaged_ms", "scroll_depth")
	}
	for _, name := range h.values {
		t := h.builder.term(name, p)
		x, _ := lookup(name)
		t.Names = x.Names
		d.Values = append(d.Values, t)
	}
	for _, filters := range h.conditions {
		all := Filter{Op: And, Filters: filters}
		d.Conditions = append(d.Conditions, h.builder.write("filter", h.builder.filter(all, p)))
	}
}

// hitColumns are the columns of hits, of those that Need may name, that aren't those of visits.
var hitColumns = []string{"name", "hostname", "props", "revenue_micros", "currency"}

// Select runs a statement that uses From, and calls scan for each of its rows. Groups, of which there may be
// as many as visits, are kept on disk beyond a third of the memory.
func (h *Hits) Select(ctx context.Context, sql string, scan func(scan func(to ...any) error) error) error {
	sql += fmt.Sprintf("\nSETTINGS max_bytes_before_external_group_by = %d", h.engine.cfg.Memory/3)
	return h.run(ctx, statement{sql: sql, args: h.builder.args}, scan)
}

func (h *Hits) run(ctx context.Context, s statement, scan func(scan func(to ...any) error) error) error {
	return h.engine.db.run(ctx, s, func(r driver.Rows) error {
		return scan(func(to ...any) error {
			if err := r.Scan(to...); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
			return nil
		})
	})
}

// Names returns the strings behind keys of a dimension, of rows that From has.
func (h *Hits) Names(ctx context.Context, dimension string, keys []uint64) (map[uint64]string, error) {
	out := map[uint64]string{}
	d, _ := lookup(dimension)
	read := func(s statement) error {
		return h.run(ctx, s, func(scan func(to ...any) error) error {
			var key uint64
			var value string
			err := scan(&key, &value)
			out[key] = value
			return err
		})
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) == 0 {
		return out, nil
	}
	s, err := execute("names.sql", nil)
	if err != nil {
		return nil, err
	}
	s.bind("site", h.builder.site)
	s.bind("dim", d.Names)
	s.bind("label", d.EmptyLabel)
	s.bind("keys", keys)
	if err := read(s); err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k uint64) bool { _, ok := out[k]; return ok })
	if len(keys) == 0 || len(h.builder.calendar.Open) == 0 {
		return out, nil
	}
	b := builder{plan: h.builder.plan}
	data := struct {
		openData
		Column string
	}{b.open(false), map[string]string{"page": "path"}[d.Names]}
	if data.Column == "" {
		data.Column = d.Names
	}
	changes, offsets := b.offsets()
	b.bind("site", b.site)
	b.bind("changes", changes)
	b.bind("offsets", offsets)
	b.bind("keys", keys)
	b.sql, err = write("open_names.sql", data)
	if err != nil {
		return nil, err
	}
	return out, read(b.statement)
}

// Range returns the date range as it was understood: in the site's time zone, with the last second included.
func (h *Hits) Range() [2]string { return h.builder.span.echo() }

// Days returns the first and the last date of the range that has begun; false: none has.
func (h *Hits) Days() (first, last time.Time, ok bool) {
	s := h.builder.span
	end := s.To
	if now := h.engine.cfg.Now(); now.Before(end) {
		end = now.Add(1)
	}
	if !s.From.Before(end) {
		return first, last, false
	}
	return civil(s.From), civil(end.Add(-1).In(s.Zone)), true
}

// Warnings returns what to know about the hits.
func (h *Hits) Warnings(ctx context.Context) ([]Warning, error) {
	return h.engine.warnings(ctx, h.builder.plan)
}
