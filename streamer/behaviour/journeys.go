package behaviour

import (
	"context"

	"nowcast/streamer/history"
)

// journeys is the body of POST /api/v2/journeys.
type journeys struct {
	visits
	Page      *string `json:"page"`
	Direction string  `json:"direction"`
	Paths     *int    `json:"paths"`
	Limit     *int    `json:"limit"`

	limit int
}

func (j *journeys) check() (err error) {
	switch {
	case j.Page == nil && j.Paths == nil:
		return history.NewInvalid("page", "name a page, or ask for paths with the number of their pages")
	case j.Page == nil && j.Direction != "":
		return history.NewInvalid("direction", "it needs a page")
	case j.Paths != nil && (*j.Paths < minPath || *j.Paths > maxPath):
		return history.NewInvalid("paths", "want a whole number from %d to %d", minPath, maxPath)
	}
	if j.Page != nil {
		if err := checkText("page", *j.Page); err != nil {
			return err
		}
	}
	if j.Direction, err = checkChoice("direction", j.Direction, "after", "before"); err != nil {
		return err
	}
	j.limit, err = checkLimit(j.Limit, maxLimit)
	return err
}

// The data of neighbours.sql and paths.sql.
type walkData struct {
	From, Passes, Limit, Length string
	Before                      bool
	Page                        func(expression string) string // nil: any
}

func (j *journeys) statement(h *history.Hits) (d walkData, err error) {
	d.Before = j.Direction == "before"
	if j.Page != nil {
		d.Page = h.Page(*j.Page)
	}
	if j.Paths != nil {
		d.Length = h.Param("UInt8", *j.Paths)
	}
	d.Limit = h.Param("UInt32", j.limit+1)
	if d.Passes, err = h.Passes(j.filters); err != nil {
		return d, err
	}
	d.From, err = h.From()
	return d, err
}

// The answer.
type (
	journeysAnswer struct {
		Count      uint64       `json:"count"`
		Visits     uint64       `json:"visits"`
		Neighbours *[]neighbour `json:"neighbours,omitempty"`
		Paths      *[]path      `json:"paths,omitempty"`
		TotalRows  uint64       `json:"total_rows"`
		about
	}
	neighbour struct {
		Kind   string  `json:"kind"`
		Page   *string `json:"page"`
		Count  uint64  `json:"count"`
		Visits uint64  `json:"visits"`
		Share  float64 `json:"share"`
	}
	path struct {
		Pages  []string `json:"pages"`
		Count  uint64   `json:"count"`
		Visits uint64   `json:"visits"`
		Share  float64  `json:"share"`
	}
)

// ends names what is before or after a page when no page is.
var ends = map[bool]string{true: "entry", false: "exit"}

func newNeighbour(before, end bool, page string, count, visits, all uint64) neighbour {
	n := neighbour{Kind: "page", Page: &page, Count: count, Visits: visits, Share: *percent(count, all, 2)}
	if end {
		n.Kind, n.Page = ends[before], nil
	}
	return n
}

func (j *journeys) answer(ctx context.Context, h *history.Hits) (any, error) {
	d, err := j.statement(h)
	if err != nil {
		return nil, err
	}
	var a journeysAnswer
	if j.Paths != nil {
		a.Paths = &[]path{}
		err = run(ctx, h, "paths.sql", d, a.scanPath)
	} else {
		a.Neighbours = &[]neighbour{}
		err = run(ctx, h, "neighbours.sql", d, func(scan func(...any) error) error {
			return a.scanNeighbour(d.Before, scan)
		})
	}
	if err != nil {
		return nil, err
	}
	a.about, err = j.about(ctx, h)
	return a, err
}

// scanNeighbour reads a row of neighbours.sql, of which the first is the sum.
func (a *journeysAnswer) scanNeighbour(before bool, scan func(...any) error) error {
	var (
		kind          uint8
		name          string
		count, visits uint64
	)
	if err := scan(&kind, &name, &count, &visits, &a.TotalRows); err != nil {
		return err
	}
	if kind == 2 {
		a.Count, a.Visits = count, visits
		return nil
	}
	*a.Neighbours = append(*a.Neighbours, newNeighbour(before, kind == 1, name, count, visits, a.Count))
	return nil
}

// scanPath reads a row of paths.sql, of which the first is the sum.
func (a *journeysAnswer) scanPath(scan func(...any) error) error {
	var (
		pages         []string
		count, visits uint64
	)
	if err := scan(&pages, &count, &visits, &a.TotalRows); err != nil {
		return err
	}
	if len(pages) == 0 {
		a.Count, a.Visits = count, visits
		return nil
	}
	*a.Paths = append(*a.Paths, path{pages, count, visits, *percent(visits, a.Visits, 2)})
	return nil
}
