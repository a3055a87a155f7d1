package history

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"nowcast/internal/site"
)

// goalDimension is that of a site's goals, by their names. An event may reach several.
const goalDimension = "event:goal"

func ofGoal(name string) bool { return name == goalDimension }

// namesGoals reports whether a query has a dimension or filter of goals.
func (q Query) namesGoals() bool {
	return slices.ContainsFunc(q.Dimensions, ofGoal) ||
		slices.ContainsFunc(q.Filters, func(f Filter) bool { return f.any(ofGoal) })
}

// namesGoals reports whether a card or filter is of goals.
func (q DashboardQuery) namesGoals() bool {
	return q.Query.namesGoals() ||
		slices.ContainsFunc(q.Cards, func(c Card) bool { return ofGoal(c.Dimension) })
}

// settleGoals replaces comparisons with goals by what the goals stand for, and keeps the filters of all
// visitors, of whom a conversion rate is a share.
func (p *plan) settleGoals(goals []site.Goal) error {
	p.asked, p.goals = p.Filters, goals
	byGoal := slices.Contains(p.Dimensions, goalDimension)
	var filters []Filter
	size := 0
	for i, f := range p.Filters {
		if !f.any(ofGoal) {
			filters, p.ofAll = append(filters, f), append(p.ofAll, f)
			continue
		}
		byGoal = true
		expanded, err := expandGoals(f, goals)
		if err != nil {
			return invalid(element("filters", i), "%s", err)
		}
		if size += expanded.size(); size > maxBytes {
			return invalid("filters", "the goals have more than %d bytes in all; name fewer of them",
				maxBytes)
		}
		filters = append(filters, expanded)
	}
	p.Filters = filters
	if i := slices.Index(p.Metrics, ConversionRate); i >= 0 && !byGoal {
		return invalid(element("metrics", i),
			"%s is of goals; add the dimension event:goal or a filter on it", ConversionRate)
	}
	return nil
}

// expandGoals returns a filter with the conditions of goals in place of their names.
func expandGoals(f Filter, goals []site.Goal) (Filter, error) {
	if f.Dimension != goalDimension {
		f.Filters = slices.Clone(f.Filters)
		for i := range f.Filters {
			var err error
			if f.Filters[i], err = expandGoals(f.Filters[i], goals); err != nil {
				return f, err
			}
		}
		return f, nil
	}
	reached := Filter{Op: Or}
	for _, name := range f.Values {
		i := slices.IndexFunc(goals, func(g site.Goal) bool { return g.Name == name })
		if i < 0 {
			return f, &Invalid{Reason: "the site has no goal " + quote(name) + ", or the request no key: " +
				"GET /api/v1/sites/{domain}/goals lists the goals"}
		}
		condition, ok := conditionOf(goals[i].Condition)
		if !ok {
			return f, &Invalid{Reason: "the goal " + quote(name) + " is reached by scrolling or by time, " +
				"which queries don't count yet; name a goal of an event or a page"}
		}
		reached.Filters = append(reached.Filters, condition)
	}
	if f.Op == IsNot {
		return Filter{Op: Not, Filters: []Filter{reached}}, nil
	}
	return reached, nil
}

// conditionOf returns the filter that passes the page views and custom events which a condition holds for. ok
// is false for a condition on engagement.
func conditionOf(c site.Condition) (f Filter, ok bool) {
	if c.ScrollDepth > 0 || c.EngagedSeconds > 0 {
		return f, false
	}
	const eventName, pageview = "event:name", "pageview"
	f = Filter{Op: And}
	if c.Event != "" {
		f.Filters = append(f.Filters, NameIs(string(c.Event)),
			Filter{Op: IsNot, Dimension: eventName, Values: []string{pageview}})
	} else {
		f.Filters = append(f.Filters, PageIs(string(c.Page)),
			Filter{Op: Is, Dimension: eventName, Values: []string{pageview}})
	}
	lacks := func(key string) Filter {
		return Filter{Op: Is, Dimension: props + key, Values: []string{noProp}}
	}
	for _, p := range c.Properties {
		holds := Filter{Op: Op(p.Operator), Dimension: props + p.Key, Values: p.Values}
		switch p.Operator { // a property that the event lacks is empty, and has the label noProp here
		case site.PropertyIs, site.PropertyContains:
			f.Filters = append(f.Filters, holds, Filter{Op: Not, Filters: []Filter{lacks(p.Key)}})
		case site.PropertyIsNot, site.PropertyContainsNot:
			f.Filters = append(f.Filters, Filter{Op: Or, Filters: []Filter{holds, lacks(p.Key)}})
		}
	}
	return f, true
}

// size returns the bytes of a filter's values.
func (f Filter) size() (n int) {
	for _, v := range f.Values {
		n += len(v)
	}
	for _, sub := range f.Filters {
		n += sub.size()
	}
	return n
}

// goalRows answers a plan by goals: a row for each goal that an event reaches, and how many there are. It
// runs a statement a goal.
func (e *Engine) goalRows(ctx context.Context, p plan) (rows []Row, total uint64, err error) {
	ask := p
	ask.Dimensions, ask.OrderBy, ask.Limit, ask.Offset, ask.Include = nil, nil, 1, 0, Include{}
	if ask.Metrics = slices.Clone(p.Metrics); !slices.Contains(ask.Metrics, Events) {
		ask.Metrics = append(ask.Metrics, Events)
	}
	events := slices.Index(ask.Metrics, Events)
	rows = []Row{}
	for _, g := range p.goals {
		condition, ok := conditionOf(g.Condition)
		if !ok {
			continue
		}
		ask.Filters = append(slices.Clone(p.Filters), condition)
		s, err := ask.build()
		if err != nil {
			return nil, 0, err
		}
		answer, _, err := e.rows(ctx, ask, s)
		if err != nil {
			return nil, 0, err
		}
		if n := answer[0].Metrics[events]; n == nil || *n == 0 {
			continue
		}
		rows = append(rows, Row{Metrics: answer[0].Metrics[:len(p.Metrics)], Dimensions: []string{g.Name}})
	}
	p.sortGoals(rows)
	total = uint64(len(rows))
	rows = rows[min(p.Offset, len(rows)):]
	return rows[:min(p.Limit, len(rows))], total, nil
}

// sortGoals sorts the rows of goals by the order of the plan, and then by their names.
func (p plan) sortGoals(rows []Row) {
	number := func(r Row, i int) float64 {
		if v := r.Metrics[i]; v != nil {
			return *v
		}
		return -1 // as none is known, behind all that are
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		for _, o := range p.OrderBy {
			by := strings.Compare(a.Dimensions[0], b.Dimensions[0])
			if i := slices.Index(p.Metrics, Metric(o.By)); i >= 0 {
				by = cmp.Compare(number(a, i), number(b, i))
			}
			if o.Desc {
				by = -by
			}
			if by != 0 {
				return by
			}
		}
		return strings.Compare(a.Dimensions[0], b.Dimensions[0])
	})
}

// uncountedGoals warns of goals that an answer by goals leaves out.
func (p plan) uncountedGoals() []Warning {
	var names []string
	for _, g := range p.goals {
		if _, ok := conditionOf(g.Condition); !ok {
			names = append(names, quote(g.Name))
		}
	}
	if len(names) == 0 || !slices.Contains(p.Dimensions, goalDimension) {
		return nil
	}
	return []Warning{{Code: "goals_not_counted", Warning: "Goals that are reached by scrolling or by time " +
		"aren't counted yet: " + strings.Join(names, ", ") + "."}}
}
