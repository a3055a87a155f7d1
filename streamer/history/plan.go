package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/site"
)

// A plan is a query with everything settled that it leaves open: dates, grain, order and page.
type plan struct {
	Query
	site  string
	since time.Time // nothing before it is read
	span  span
	grain grain // of the time dimension
	// cut says that the range isn't whole days of the site: events count in it by their own times, and visits
	// by those at which they began.
	cut      bool
	calendar calendar
	imports  importing

	asked []Filter    // the query's filters, as it had them
	ofAll []Filter    // those of them that aren't of goals
	goals []site.Goal // of the site
}

func (e *Engine) plan(ctx context.Context, s Site, q Query) (plan, error) {
	p := plan{Query: q, site: s.Domain, since: s.Since}
	if !q.Include.Imports {
		return e.settle(ctx, s, p)
	}
	var err error
	if p.imports, err = e.importsOf(ctx, s); err != nil {
		return p, err
	}
	p.imports.included = len(p.imports.days) > 0 && p.refusal() == ""
	with, err := e.settle(ctx, s, p)
	if err != nil {
		return with, err
	}
	if with.settleImports(); with.imports.included == p.imports.included {
		return with, nil
	}
	// The range "all" begins with the site's own events if imports are not included.
	p.imports.included, p.imports.skipped = false, with.imports.skipped
	return e.settle(ctx, s, p)
}

// settle settles all of a plan but its imports.
func (e *Engine) settle(ctx context.Context, s Site, p plan) (plan, error) {
	q := p.Query
	if len(q.Metrics) == 0 {
		return p, invalid("metrics", "name at least one of %s", join(metrics))
	}
	loc, err := zone(s.Timezone)
	if err != nil {
		return p, err
	}
	first := func() (time.Time, error) {
		t, err := e.firstEvent(ctx, s.Domain)
		if err == nil && !t.IsZero() && t.Before(s.Since) {
			t = s.Since
		}
		if p.imports.included {
			t = p.imports.begin(t, loc)
		}
		return t, err
	}
	if p.span, err = q.DateRange.resolve(e.cfg.Now(), loc, first); err != nil {
		return p, err
	}
	p.Dimensions, p.OrderBy = slices.Clone(q.Dimensions), slices.Clone(q.OrderBy)
	if err := p.settleGoals(s.Goals); err != nil {
		return p, err
	}
	if p.Limit == 0 {
		p.Limit = maxLimit
	}
	for i, name := range p.Dimensions {
		if !isTime(name) {
			continue
		}
		if p.grain, err = p.span.resolveGrain(dimensions[name].Grain); err != nil {
			return p, err
		}
		p.Dimensions[i] = p.grain.String()
		for j := range p.OrderBy {
			if p.OrderBy[j].By == name {
				p.OrderBy[j].By = p.grain.String()
			}
		}
	}
	if len(p.OrderBy) == 0 {
		if p.grain != none {
			p.OrderBy = append(p.OrderBy, Order{By: p.grain.String()})
		}
		p.OrderBy = append(p.OrderBy, Order{By: string(p.Metrics[0]), Desc: true})
	}
	if err := p.checkMetrics(); err != nil {
		return p, err
	}
	p.cut = !p.span.whole() || !p.since.Before(p.span.To)
	p.calendar = p.open()
	return p, nil
}

// checkMetrics refuses metrics of pages where the query names none.
func (p plan) checkMetrics() error {
	if slices.Contains(p.Dimensions, page) ||
		slices.ContainsFunc(p.Filters, func(f Filter) bool { return f.any(ofPage) }) {
		return nil
	}
	for i, m := range p.Metrics {
		if slices.Contains(pageMetrics, m) {
			return invalid(element("metrics", i),
				"%s is of a page; add the dimension event:page or a filter on it", m)
		}
	}
	return nil
}

// firstEvent returns the second of a site's first event; the zero time if the site has no event. The table's
// order finds its hour, in which the days of some zones begin.
func (e *Engine) firstEvent(ctx context.Context, domain string) (t time.Time, err error) {
	sql, err := files.ReadFile("sql/first.sql")
	if err != nil {
		return t, fmt.Errorf("read statement: %w", err)
	}
	s := statement{sql: string(sql)}
	s.bind("site", domain)
	return t, e.db.run(ctx, s, func(r driver.Rows) error {
		var seconds uint32
		if err := r.Scan(&seconds); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		t = time.Unix(int64(seconds), 0)
		return nil
	})
}

// columns are the metrics that the statement computes, each once.
func (p plan) columns() []string {
	var out []string
	for _, m := range p.Metrics {
		if c := m.column(); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// echo is the query as it was understood.
func (p plan) echo() Echo {
	e := Echo{
		SiteID: p.SiteID, Metrics: p.Metrics, DateRange: p.span.echo(), Dimensions: p.Dimensions,
		Filters: p.Filters, OrderBy: p.OrderBy, Include: map[string]any{},
		Pagination: Page{p.Limit, p.Offset},
	}
	if p.Include.TimeLabels {
		e.Include["time_labels"] = true
	}
	if p.Include.Imports {
		e.Include["imports"] = true
	}
	if p.Include.TotalRows {
		e.Include["total_rows"] = true
	}
	if e.Dimensions == nil {
		e.Dimensions = []string{}
	}
	switch {
	case p.asked != nil:
		e.Filters = p.asked
	case e.Filters == nil:
		e.Filters = []Filter{}
	}
	return e
}
