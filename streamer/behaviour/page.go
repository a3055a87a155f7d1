package behaviour

import (
	"cmp"
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
	Page                func(expression string) string
	Before, After       walkData
}

func (p *page) statement(h *history.Hits) (d pageData, err error) {
	d.Page = h.Page(p.Page)
	d.Before, d.After = walkData{Page: d.Page, Before: true}, walkData{Page: d.Page}
	h.Need(true, "name")
	d.Source, _ = h.Value("visit:source")
	d.Country, _ = h.Value("visit:country")
	d.Limit = h.Param("UInt32", p.limit)
	if d.Passes, err = h.Passes(p.filters); err != nil {
		return d, err
	}
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

		walks uint64 // views of the page where consecutive ones are one
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
	a.Before, a.After = top(a.Before, p.limit), top(a.After, p.limit)
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
		count, visits, visitors                       uint64
		entered, exited, bounces, walks               uint64
		engagedMS, engagedVisits, scrolled, scrolling uint64
	)
	err := scan(&list, &value, &count, &visits, &visitors, &entered, &exited, &bounces, &engagedMS,
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
		a.Before = append(a.Before, newNeighbour(true, list == entries, value, count, visits, a.walks))
	case after, exits:
		a.After = append(a.After, newNeighbour(false, list == exits, value, count, visits, a.walks))
	case events:
		a.Events = append(a.Events, eventCount{value, count, visits})
	}
	return nil
}

// top returns the neighbours with the highest counts, of two lists that are in order.
func top(list []neighbour, most int) []neighbour {
	slices.SortStableFunc(list, func(a, b neighbour) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(order(a), order(b)))
	})
	return list[:min(most, len(list))]
}

// order puts pages before entries and exits.
func order(n neighbour) int {
	if n.Page != nil {
		return 0
	}
	return 1
}
