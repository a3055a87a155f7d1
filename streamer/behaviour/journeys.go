package behaviour

import (
	"cmp"
	"context"
	"slices"
	"strings"

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
	Page                        string // the column that says whether it is the page; "": all are
}

func (j *journeys) statement(h *history.Hits) (d walkData, err error) {
	d.Before = j.Direction == "before"
	if j.Page != nil {
		d.Page = h.Passes([]history.Filter{history.PageIs(*j.Page)})
	}
	if j.Paths != nil {
		d.Length = h.Param("UInt8", *j.Paths)
	}
	d.Limit = h.Param("UInt32", j.limit+1)
	d.Passes = h.Passes(j.filters)
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

		ends []end      // of Neighbours
		keys [][]uint64 // of Paths
	}
	// end is which page is before or after one, or that none is.
	end struct {
		none bool
		key  uint64
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

// nothing names what is before or after a page when no page is.
var nothing = map[bool]string{true: "entry", false: "exit"}

func newNeighbour(before, none bool, count, visits, all uint64) neighbour {
	n := neighbour{Kind: "page", Count: count, Visits: visits, Share: *percent(count, all, 2)}
	if none {
		n.Kind = nothing[before]
	}
	return n
}

// nameNeighbours sets the pages of neighbours, each of whose keys is that of the end with its index, and
// orders them.
func nameNeighbours(ctx context.Context, h *history.Hits, list []neighbour, of []end) error {
	var keys []uint64
	for _, e := range of {
		if !e.none {
			keys = append(keys, e.key)
		}
	}
	names, err := h.Names(ctx, history.PageDimension, keys)
	if err != nil {
		return err
	}
	for i, e := range of {
		if name := names[e.key]; !e.none {
			list[i].Page = &name
		}
	}
	slices.SortStableFunc(list, func(a, b neighbour) int {
		switch byCount := cmp.Compare(b.Count, a.Count); {
		case byCount != 0:
			return byCount
		case a.Page == nil || b.Page == nil:
			return cmp.Compare(b.Kind, a.Kind) // pages before entries and exits
		}
		return strings.Compare(*a.Page, *b.Page)
	})
	return nil
}

func (j *journeys) answer(ctx context.Context, h *history.Hits) (any, error) {
	d, err := j.statement(h)
	if err != nil {
		return nil, err
	}
	var a journeysAnswer
	if j.Paths != nil {
		a.Paths = &[]path{}
		if err = run(ctx, h, "paths.sql", d, a.scanPath); err == nil {
			err = a.namePaths(ctx, h)
		}
	} else {
		a.Neighbours = &[]neighbour{}
		err = run(ctx, h, "neighbours.sql", d, func(scan func(...any) error) error {
			return a.scanNeighbour(d.Before, scan)
		})
		if err == nil {
			err = nameNeighbours(ctx, h, *a.Neighbours, a.ends)
		}
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
		kind               uint8
		key, count, visits uint64
	)
	if err := scan(&kind, &key, &count, &visits, &a.TotalRows); err != nil {
		return err
	}
	if kind == 2 {
		a.Count, a.Visits = count, visits
		return nil
	}
	*a.Neighbours = append(*a.Neighbours, newNeighbour(before, kind == 1, count, visits, a.Count))
	a.ends = append(a.ends, end{kind == 1, key})
	return nil
}

// scanPath reads a row of paths.sql, of which the first is the sum.
func (a *journeysAnswer) scanPath(scan func(...any) error) error {
	var (
		keys          []uint64
		count, visits uint64
	)
	if err := scan(&keys, &count, &visits, &a.TotalRows); err != nil {
		return err
	}
	if len(keys) == 0 {
		a.Count, a.Visits = count, visits
		return nil
	}
	*a.Paths = append(*a.Paths, path{Count: count, Visits: visits, Share: *percent(visits, a.Visits, 2)})
	a.keys = append(a.keys, keys)
	return nil
}

// namePaths sets the pages of the paths and orders them.
func (a *journeysAnswer) namePaths(ctx context.Context, h *history.Hits) error {
	names, err := h.Names(ctx, history.PageDimension, slices.Concat(a.keys...))
	if err != nil {
		return err
	}
	for i, keys := range a.keys {
		for _, key := range keys {
			(*a.Paths)[i].Pages = append((*a.Paths)[i].Pages, names[key])
		}
	}
	slices.SortStableFunc(*a.Paths, func(x, y path) int {
		return cmp.Or(cmp.Compare(y.Visits, x.Visits), cmp.Compare(y.Count, x.Count),
			slices.Compare(x.Pages, y.Pages))
	})
	return nil
}
