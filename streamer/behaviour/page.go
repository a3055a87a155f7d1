package behaviour

import (
	"context"
	"slices"

	"nowcast/streamer/history"
)

// page is the body of POST /api/v2/page.
type page struct {
	visits
	Page  string `json:"page"`
	Limit *int   `json:"limit"`

	limit int
}

func (p *page) check() (err error) {
	if err := checkText("page", p.Page); err != nil {
		return err
	}
	p.limit, err = checkLimit(p.Limit, maxPageLimit)
	return err
}

// The data of page.sql.
type pageData struct {
	From, Passes, Limit string
	Source, Country     string
	Page                string // the column that says whether it is the page
	Before, After       walkData
}

func (p *page) statement(h *history.Hits) (d pageData, err error) {
	d.Page = h.Passes([]history.Filter{history.PageIs(p.Page)})
	d.Before, d.After = walkData{Page: d.Page, Before: true}, walkData{Page: d.Page}
	h.Need("name")
	h.NeedEngagement()
	d.Source, _, _ = h.Value("visit:source")
	d.Country, _, _ = h.Value("visit:country")
	d.Limit = h.Param("UInt32", p.limit)
	d.Passes = h.Passes(p.filters)
	d.From, err = h.From()
	return d, err
}

// The answer.
type (
	pageAnswer struct {
		Visitors    uint64       `json:"visitors"`
		Visits      uint64       `json:"visits"`
		Pageviews   uint64       `json:"pageviews"`
		Entries     uint64       `json:"entries"`
		Exits       uint64       `json:"exits"`
		BounceRate  *float64     `json:"bounce_rate"`
		TimeOnPage  *float64     `json:"time_on_page"`
		ScrollDepth *float64     `json:"scroll_depth"`
		Before      []neighbour  `json:"before"`
		After       []neighbour  `json:"after"`
		Sources     []valueCount `json:"sources"`
		Countries   []valueCount `json:"countries"`
		Events      []eventCount `json:"events"`
		about

		walks         uint64 // views of the page where consecutive ones are one
		before, after []end
	}
	valueCount struct {
		Value  string `json:"value"`
		Visits uint64 `json:"visits"`
	}
	eventCount struct {
		Name   string `json:"name"`
		Count  uint64 `json:"count"`
		Visits uint64 `json:"visits"`
	}
)

func (p *page) answer(ctx context.Context, h *history.Hits) (any, error) {
	d, err := p.statement(h)
	if err != nil {
		return nil, err
	}
	a := pageAnswer{
		Before: []neighbour{}, After: []neighbour{}, Sources: []valueCount{}, Countries: []valueCount{},
		Events: []eventCount{},
	}
	if err := run(ctx, h, "page.sql", d, a.scan); err != nil {
		return nil, err
	}
	a.Before, a.before = top(a.Before, a.before, p.limit)
	a.After, a.after = top(a.After, a.after, p.limit)
	for list, of := range map[*[]neighbour][]end{&a.Before: a.before, &a.After: a.after} {
		if err := nameNeighbours(ctx, h, *list, of); err != nil {
			return nil, err
		}
	}
	a.about, err = p.about(ctx, h)
	return a, err
}

// The lists of page.sql.
const (
	sums = iota
	sources
	countries
	before
	entries
	after
	exits
	events
)

// scan reads a row of page.sql. The sums come first.
func (a *pageAnswer) scan(scan func(...any) error) error {
	var (
		list                                          uint8
		value                                         string
		key                                           uint64
		count, visits, visitors                       uint64
		entered, exited, bounces, walks               uint64
		engagedMS, engagedVisits, scrolled, scrolling uint64
	)
	err := scan(&list, &key, &value, &count, &visits, &visitors, &entered, &exited, &bounces, &engagedMS,
		&engagedVisits, &scrolled, &scrolling, &walks)
	if err != nil {
		return err
	}
	switch list {
	case sums:
		a.Visitors, a.Visits, a.Pageviews, a.Entries, a.Exits = visitors, visits, count, entered, exited
		a.walks = walks
		a.BounceRate = percent(bounces, entered, 0)
		a.TimeOnPage = mean(float64(engagedMS)/1000, float64(engagedVisits), 1)
		a.ScrollDepth = mean(float64(scrolled), float64(scrolling), 0)
	case sources:
		a.Sources = append(a.Sources, valueCount{value, visits})
	case countries:
		a.Countries = append(a.Countries, valueCount{value, visits})
	case before, entries:
		a.Before = append(a.Before, newNeighbour(true, list == entries, count, visits, a.walks))
		a.before = append(a.before, end{list == entries, key})
	case after, exits:
		a.After = append(a.After, newNeighbour(false, list == exits, count, visits, a.walks))
		a.after = append(a.after, end{list == exits, key})
	case events:
		a.Events = append(a.Events, eventCount{value, count, visits})
	}
	return nil
}

// top returns the neighbours with the highest counts: of pages, and of what is no page, which is the last of
// the list. The pages are in order.
func top(list []neighbour, of []end, most int) ([]neighbour, []end) {
	if last := len(list) - 1; last >= 0 && of[last].none {
		at := slices.IndexFunc(list[:last], func(n neighbour) bool { return n.Count < list[last].Count })
		if at >= 0 {
			none, its := list[last], of[last]
			list, of = slices.Insert(list[:last], at, none), slices.Insert(of[:last], at, its)
		}
	}
	n := min(most, len(list))
	return list[:n], of[:n]
}
