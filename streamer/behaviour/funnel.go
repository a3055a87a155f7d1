package behaviour

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"nowcast/streamer/history"
)

// funnel is the body of POST /api/v2/funnel.
type funnel struct {
	visits
	Steps     []step `json:"steps"`
	Scope     string `json:"scope"`
	Strict    bool   `json:"strict"`
	Breakdown string `json:"breakdown"`
	Limit     *int   `json:"limit"`

	limit int
}

// step is one of a funnel's: a page that is viewed, or a custom event.
type step struct {
	Page    *string         `json:"page"`
	Event   *string         `json:"event"`
	Filters json.RawMessage `json:"filters"`

	filters []history.Filter
}

func (f *funnel) check() (err error) {
	if n := len(f.Steps); n < minSteps || n > maxSteps {
		return history.NewInvalid("steps", "want %d to %d steps, each with a page or an event", minSteps,
			maxSteps)
	}
	for i := range f.Steps {
		if err := f.Steps[i].check(fmt.Sprintf("steps[%d]", i), f.reader); err != nil {
			return err
		}
	}
	if f.Scope, err = checkChoice("scope", f.Scope, "visit", "day"); err != nil {
		return err
	}
	f.limit, err = checkLimit(f.Limit, maxLimit)
	return err
}

func (s *step) check(field string, filters *history.FilterReader) (err error) {
	switch {
	case (s.Page == nil) == (s.Event == nil):
		return history.NewInvalid(field, `want either "page" or "event"`)
	case s.Page != nil:
		err = checkText(field+".page", *s.Page)
	default:
		err = checkText(field+".event", *s.Event)
	}
	if err == nil {
		s.filters, err = filters.Read(field+".filters", s.Filters)
	}
	return err
}

// fits returns the condition that a hit fits the step.
func (s *step) fits(h *history.Hits) string {
	if s.Page != nil {
		return "kind = 'pageview' AND " + h.Passes(append(s.filters, history.PageIs(*s.Page)))
	}
	return "kind = 'custom' AND " + h.Passes(append(s.filters, history.NameIs(*s.Event)))
}

// The data of funnel.sql.
type (
	funnelData struct {
		From, Passes, Breakdown, Limit string
		Steps                          []stepData
		Day, Strict, Keyed             bool // Keyed: values of the breakdown are keys
	}
	stepData struct {
		Number, Index, Bit int
		Last               bool
		Fits               string
	}
)

// Previous is the number of the step before.
func (s stepData) Previous() int { return s.Number - 1 }

// Next is the number of the step after.
func (s stepData) Next() int { return s.Number + 1 }

// Backwards returns the steps from the last to the first.
func (f funnelData) Backwards() (out []stepData) {
	for i := range f.Steps {
		out = append(out, f.Steps[len(f.Steps)-1-i])
	}
	return out
}

func (f *funnel) statement(h *history.Hits) (d funnelData, err error) {
	d = funnelData{Day: f.Scope == "day", Strict: f.Strict}
	d.Passes = h.Passes(f.filters)
	for i := range f.Steps {
		d.Steps = append(d.Steps, stepData{Number: i + 1, Index: i, Bit: 1 << i, Last: i == len(f.Steps)-1,
			Fits: f.Steps[i].fits(h)})
	}
	rows := 1
	if f.Breakdown != "" {
		var ok bool
		if d.Breakdown, d.Keyed, ok = h.Value(f.Breakdown); !ok {
			return d, history.NewInvalid("breakdown", "%s is not known; name an event: or visit: dimension, "+
				"e.g. visit:source", history.Quote(f.Breakdown))
		}
		rows += f.limit
	}
	d.Limit = h.Param("UInt32", rows)
	d.From, err = h.From()
	return d, err
}

// The answer.
type (
	funnelAnswer struct {
		Unit string `json:"unit"`
		funnelCounts
		Breakdown   *[]funnelValue `json:"breakdown,omitempty"`
		TotalValues *uint64        `json:"total_values,omitempty"`
		about
	}
	funnelValue struct {
		Value string `json:"value"`
		funnelCounts
	}
	funnelCounts struct {
		Conversion *float64      `json:"conversion_rate"`
		Steps      []funnelCount `json:"steps"`
	}
	funnelCount struct {
		Count          uint64     `json:"count"`
		Rate           *float64   `json:"rate"`
		RateOfPrevious *float64   `json:"rate_of_previous"`
		Dropped        *uint64    `json:"dropped"`
		Seconds        *quantiles `json:"seconds"`
	}
	quantiles struct {
		Median float64 `json:"median"`
		P90    float64 `json:"p90"`
	}
)

func (f *funnel) answer(ctx context.Context, h *history.Hits) (any, error) {
	d, err := f.statement(h)
	if err != nil {
		return nil, err
	}
	a := funnelAnswer{Unit: "visits", funnelCounts: countsOf(make([]uint64, len(f.Steps)), nil)}
	if d.Day {
		a.Unit = "visitor_days"
	}
	if f.Breakdown != "" {
		a.Breakdown, a.TotalValues = &[]funnelValue{}, new(uint64)
	}
	err = run(ctx, h, "funnel.sql", d, func(scan func(...any) error) error {
		var (
			value   string
			whole   bool
			reached []uint64
			pauses  [][]float64
			rows    uint64
		)
		if err := scan(&value, &whole, &reached, &pauses, &rows); err != nil {
			return err
		}
		counts := countsOf(reached, pauses)
		if whole {
			a.funnelCounts = counts
		} else {
			*a.Breakdown = append(*a.Breakdown, funnelValue{value, counts})
			*a.TotalValues = rows - 1
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d.Keyed {
		if err := f.name(ctx, h, *a.Breakdown); err != nil {
			return nil, err
		}
	}
	if f.Breakdown != "" {
		slices.SortStableFunc(*a.Breakdown, func(x, y funnelValue) int {
			return cmp.Or(cmp.Compare(y.Steps[0].Count, x.Steps[0].Count), strings.Compare(x.Value, y.Value))
		})
	}
	a.about, err = f.about(ctx, h)
	return a, err
}

// name puts strings in place of the keys of a breakdown.
func (f *funnel) name(ctx context.Context, h *history.Hits, values []funnelValue) error {
	var keys []uint64
	for _, v := range values {
		key, err := strconv.ParseUint(v.Value, 10, 64)
		if err != nil {
			return fmt.Errorf("read key: %w", err)
		}
		keys = append(keys, key)
	}
	names, err := h.Names(ctx, f.Breakdown, slices.Clone(keys))
	for i, key := range keys {
		values[i].Value = names[key]
	}
	return err
}

// countsOf makes the counts of a funnel from how many units reach each step, and quantiles in milliseconds.
func countsOf(reached []uint64, pauses [][]float64) funnelCounts {
	out := funnelCounts{Conversion: percent(reached[len(reached)-1], reached[0], 2)}
	for i, n := range reached {
		c := funnelCount{Count: n, Rate: percent(n, reached[0], 2)}
		if i > 0 {
			c.RateOfPrevious = percent(n, reached[i-1], 2)
			if n > 0 {
				c.Seconds = &quantiles{seconds(pauses[i][0]), seconds(pauses[i][1])}
			}
		}
		if i+1 < len(reached) {
			dropped := n - reached[i+1]
			c.Dropped = &dropped
		}
		out.Steps = append(out.Steps, c)
	}
	return out
}

func seconds(ms float64) float64 { return math.Round(ms) / 1000 }
