package history

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/hits"
	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// Hits are the page views and custom events of a site's visits that began in a date range, for the statements
// of package behaviour. Its methods bind parameters and note which columns a statement needs, so From comes
// last.
type Hits struct {
	engine  *Engine
	plan    plan
	hit     []string // columns of a hit that the statement needs
	visit   []string // columns of a visit
	engaged bool
	statement
	params int
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
		return ask(ctx, &Hits{engine: e, plan: settled})
	})
}

// Param binds a value of a ClickHouse type and returns its placeholder.
func (h *Hits) Param(kind string, value any) string {
	name := fmt.Sprintf("q%d", h.params)
	h.params++
	h.bind(name, value)
	return "{" + name + ":" + kind + "}"
}

// Need notes that a statement needs columns of a hit, and whether it needs engaged_ms and scroll_depth.
func (h *Hits) Need(engaged bool, columns ...string) {
	h.engaged = h.engaged || engaged
	for _, c := range columns {
		to := &h.visit
		if slices.Contains([]string{"name", "hostname", "props", "revenue_micros", "currency"}, c) {
			to = &h.hit
		}
		if !slices.Contains(*to, c) {
			*to = append(*to, c)
		}
	}
}

// Page returns the condition that an expression is a page with wildcards; see MatchesWildcard.
func (h *Hits) Page(pattern string) func(expression string) string {
	if !strings.ContainsAny(pattern, `*\`) {
		param := h.Param("String", pattern)
		return func(x string) string { return x + " = " + param }
	}
	param := h.Param("String", wildcardPattern(pattern, false))
	return func(x string) string { return "match(" + x + ", " + param + ")" }
}

// Value returns the expression of a dimension's value, with the label of an empty one; false: there is no
// such dimension of a hit.
func (h *Hits) Value(name string) (expression string, ok bool) {
	d, ok := lookup(name)
	if !ok || d.Grain != none {
		return "", false
	}
	t := h.term(d)
	return fmt.Sprintf("toString(if(%s = '', '%s', %s))", t.Value, t.EmptyLabel, t.Value), true
}

func (h *Hits) term(d dimension) termData {
	t := termData{Value: d.Column, EmptyLabel: d.EmptyLabel}
	switch d.Column {
	case "":
		t.Value = "props[" + h.Param("String", d.Prop) + "]"
		h.Need(false, "props")
	case "path":
		t.Value = "page"
	case "entry_page":
		t.Value = "entry"
	case "exit_page":
		t.Value = "exit"
	default:
		h.Need(false, d.Column)
	}
	return t
}

// Passes returns the condition that a hit passes all of the filters; "1" without one.
func (h *Hits) Passes(filters []Filter) (string, error) {
	var all []string
	for _, f := range filters {
		s, err := execute("filter", h.filter(f))
		if err != nil {
			return "", err
		}
		all = append(all, s.sql)
	}
	if len(all) == 0 {
		return "1", nil
	}
	return "(" + strings.Join(all, " AND ") + ")", nil
}

func (h *Hits) filter(f Filter) filterData {
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
		out.Filters = append(out.Filters, h.filter(sub))
	}
	if f.Dimension == "" {
		return out
	}
	name := func(placeholder string) string { return strings.TrimLeft(strings.Split(placeholder, ":")[0], "{") }
	d, _ := lookup(f.Dimension)
	out.Dimension = h.term(d)
	wildcard := Op(out.Op) == MatchesWildcard
	if !wildcard && Op(out.Op) != Matches {
		out.Param = name(h.Param("Array(String)", f.Values))
		return out
	}
	out.Op = string(Matches)
	for _, v := range f.Values {
		if wildcard {
			v = wildcardPattern(v, f.IgnoreCase)
		}
		out.Params = append(out.Params, name(h.Param("String", v)))
	}
	return out
}

// From returns the subquery of the hits. Their columns are site, day, who, visit, n, ts, kind, page, entry,
// exit, bounced and those that Need names.
func (h *Hits) From() (string, error) {
	const where = `site = {site:String}
        AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({read_from:Int64}, 'UTC'))
        AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({read_to:Int64} - 1, 'UTC'))
        AND ts >= fromUnixTimestamp64Milli({read_from:Int64}, 'UTC')
        AND ts < fromUnixTimestamp64Milli({read_to:Int64}, 'UTC')`
	fold := hits.Fold{Where: where, Who: "visitor", Hit: h.hit, Visit: h.visit, Engaged: h.engaged, Strings: true}
	sql, err := fold.SQL()
	if err != nil {
		return "", err
	}
	s := h.plan.span
	h.bind("site", h.plan.site)
	h.bind("hits_from", h.plan.notBefore(s.From))
	h.bind("hits_to", s.To.UnixMilli())
	from, to := wholeDays(s)
	h.bind("read_from", h.plan.notBefore(from))
	h.bind("read_to", to.UnixMilli())
	data := struct {
		Fold  string
		Holes []holeData
	}{Fold: sql}
	for i, x := range s.Holes {
		hole := holeData{From: fmt.Sprintf("hole%d", i), To: fmt.Sprintf("hole%d_end", i)}
		data.Holes = append(data.Holes, hole)
		h.bind(hole.From, x.From.UnixMilli())
		h.bind(hole.To, x.To.UnixMilli())
	}
	out, err := execute("hits.sql", data)
	return out.sql, err
}

// wholeDays returns when the first of the days of a span begins and the last ends, both those of its zone and
// those in UTC, in which visitors of before the site's own days are.
func wholeDays(s span) (from, to time.Time) {
	last := s.To
	if last.After(s.From) {
		last = last.Add(-1)
	}
	from, to = startOfDay(civil(s.From), s.Zone), startOfDay(civil(last).AddDate(0, 0, 1), s.Zone)
	if utc := civil(s.From.UTC()); utc.Before(from) {
		from = utc
	}
	if utc := civil(last.UTC()).AddDate(0, 0, 1); utc.After(to) {
		to = utc
	}
	return from, to
}

// Select runs a statement that uses From, and calls scan for each of its rows.
func (h *Hits) Select(ctx context.Context, sql string, scan func(scan func(to ...any) error) error) error {
	return h.engine.db.run(ctx, statement{sql: sql, args: h.args}, func(r driver.Rows) error {
		return scan(func(to ...any) error {
			if err := r.Scan(to...); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
			return nil
		})
	})
}

// Range returns the date range as it was understood: in the site's time zone, with the last second included.
func (h *Hits) Range() [2]string { return h.plan.span.echo() }

// Days returns the first and the last date of the range that has begun; false: none has.
func (h *Hits) Days() (first, last time.Time, ok bool) {
	s := h.plan.span
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
	return h.engine.warnings(ctx, h.plan)
}
