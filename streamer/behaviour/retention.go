package behaviour

import (
	"context"
	"fmt"
	"time"

	"nowcast/streamer/history"
)

// retention is the body of POST /api/v2/retention.
type retention struct {
	visits
	Period string `json:"period"`
}

func (r *retention) check() (err error) {
	r.Period, err = checkChoice("period", r.Period, "week", "day", "month")
	return err
}

// A period is how cohorts are cut.
type period struct {
	expression string // of the first day of the period that `date` is in
	most       int    // periods of a range; their answer has half the square of it as many numbers
	coarser    string // what to ask for instead
	start      func(day time.Time) time.Time
	next       func(start time.Time) time.Time
}

var periods = map[string]period{
	"day": {"date", 92, "a shorter date_range or weeks",
		func(d time.Time) time.Time { return d },
		func(d time.Time) time.Time { return d.AddDate(0, 0, 1) }},
	"week": {"toMonday(date)", 106, "a shorter date_range or months",
		func(d time.Time) time.Time { return d.AddDate(0, 0, -(int(d.Weekday())+6)%7) },
		func(d time.Time) time.Time { return d.AddDate(0, 0, 7) }},
	"month": {"toStartOfMonth(date)", 120, "a shorter date_range",
		func(d time.Time) time.Time { return d.AddDate(0, 0, 1-d.Day()) },
		func(d time.Time) time.Time { return d.AddDate(0, 1, 0) }},
}

// labels returns the first days of the periods of the range that have begun.
func (r *retention) labels(h *history.Hits) (out []string, err error) {
	p := periods[r.Period]
	first, last, ok := h.Days()
	if !ok {
		return nil, nil
	}
	for d := p.start(first); !d.After(last); d = p.next(d) {
		if len(out) == p.most {
			return nil, history.NewInvalid("date_range", "cohorts by %s take at most %d of them; ask for %s",
				r.Period, p.most, p.coarser)
		}
		out = append(out, d.Format(time.DateOnly))
	}
	return out, nil
}

// The data of visits_a_day.sql and cohorts.sql.
type retentionData struct {
	From, Passes, Period string
	First, Last          string // dates of the range
}

// The answer.
type (
	retentionAnswer struct {
		VisitorDays uint64       `json:"visitor_days"`
		Visits      uint64       `json:"visits"`
		PerDay      *float64     `json:"visits_per_visitor_day"`
		VisitsADay  []visitsADay `json:"visits_a_day"`
		Cohorts     *[]cohort    `json:"cohorts"`
		about
	}
	visitsADay struct {
		Visits      string   `json:"visits"`
		VisitorDays uint64   `json:"visitor_days"`
		Share       *float64 `json:"share"`
	}
	cohort struct {
		Period   string   `json:"period"`
		Users    uint64   `json:"users"`
		Returned []uint64 `json:"returned"`
	}
)

func (r *retention) answer(ctx context.Context, h *history.Hits) (any, error) {
	labels, err := r.labels(h)
	if err != nil {
		return nil, err
	}
	h.Need("user")
	d := retentionData{Period: periods[r.Period].expression}
	if first, last, ok := h.Days(); ok {
		d.First = h.Param("String", first.Format(time.DateOnly))
		d.Last = h.Param("String", last.Format(time.DateOnly))
	}
	d.Passes = h.Passes(r.filters)
	if d.From, err = h.From(); err != nil {
		return nil, err
	}
	var a retentionAnswer
	for _, n := range []string{"1", "2", "3", "4+"} {
		a.VisitsADay = append(a.VisitsADay, visitsADay{Visits: n})
	}
	err = run(ctx, h, "visits_a_day.sql", d, func(scan func(...any) error) error {
		var n uint8
		var days, visits uint64
		if err := scan(&n, &days, &visits); err != nil {
			return err
		}
		a.VisitsADay[n-1].VisitorDays = days
		a.VisitorDays += days
		a.Visits += visits
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range a.VisitsADay {
		a.VisitsADay[i].Share = percent(a.VisitsADay[i].VisitorDays, a.VisitorDays, 2)
	}
	a.PerDay = mean(float64(a.Visits), float64(a.VisitorDays), 2)
	if a.Cohorts, err = cohorts(ctx, h, d, labels); err != nil {
		return nil, err
	}
	a.about, err = r.about(ctx, h)
	return a, err
}

// cohorts counts the users by the periods of the labels; nil if there is none.
func cohorts(ctx context.Context, h *history.Hits, d retentionData, labels []string) (*[]cohort, error) {
	at := map[string]int{}
	var out []cohort
	for i, l := range labels {
		at[l] = i
		out = append(out, cohort{Period: l, Returned: make([]uint64, len(labels)-i)})
	}
	if len(labels) == 0 {
		return nil, nil
	}
	known := false
	err := run(ctx, h, "cohorts.sql", d, func(scan func(...any) error) error {
		var first, returned string
		var users uint64
		if err := scan(&first, &returned, &users); err != nil {
			return err
		}
		i, ok := at[first]
		j, too := at[returned]
		if !ok || !too {
			return fmt.Errorf("a period begins on %s or %s, which is none of the range", first, returned)
		}
		known = true
		out[i].Returned[j-i] = users
		out[i].Users = out[i].Returned[0]
		return nil
	})
	if err != nil || !known {
		return nil, err
	}
	return &out, nil
}
