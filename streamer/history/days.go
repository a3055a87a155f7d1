package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// A localDate is a date of a site: the days since 1970.
type localDate int

func dateOf(t time.Time) localDate {
	return localDate(civil(t).Unix() / int64(24*time.Hour/time.Second))
}

func (d localDate) time() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

func (d localDate) String() string { return d.time().Format(time.DateOnly) }

// days are the first and last of a run of dates.
type days struct{ First, Last localDate }

// sealedDay is a date whose rows are all in a seal.
type sealedDay struct {
	Date            localDate
	Seal            uint64
	Rolled, Monthly bool // its sums are stored; also those of its month
}

// A calendar says which days of a question are sealed. The others are open: they are read from `events`.
type calendar struct {
	Days   days
	Sealed []sealedDay
	Open   []days
	months []localDate // whose sums are stored, by their first day
	// labelled are the Names of dimensions of which a value is the label of empty ones: their stored sums
	// don't add up to those of the label.
	labelled []string
}

// whole reports whether a span is of whole days of its zone.
func (s span) whole() bool {
	return len(s.Holes) == 0 && s.From.Before(s.To) &&
		startOfDay(civil(s.From.In(s.Zone)), s.Zone).Equal(s.From) &&
		startOfDay(civil(s.To.Add(-1).In(s.Zone)).AddDate(0, 0, 1), s.Zone).Equal(s.To)
}

// open returns the days of a plan, all of them open.
func (p plan) open() calendar {
	from := time.UnixMilli(p.notBefore(p.span.From)).In(p.span.Zone)
	all := days{dateOf(from), dateOf(p.span.To.Add(-1).In(p.span.Zone))}
	all.Last = max(all.First, all.Last) // an empty span
	return calendar{Days: all, Open: []days{all}}
}

// sealed reads which days of a plan are sealed, for its dimensions and others. A day in which the site's
// history begins is open, as its seal may have rows of before.
func (e *Engine) sealed(ctx context.Context, p plan, dimensions ...string) (calendar, error) {
	c := calendar{Days: p.calendar.Days}
	dims, labels := []string{}, []string{}
	for _, n := range append(dimensions, p.Dimensions...) {
		if d, _ := lookup(n); d.names() != "" && len(p.Filters) == 0 {
			dims, labels = append(dims, d.names()), append(labels, d.EmptyLabel)
		}
	}
	s, err := execute("days.sql", len(dims) > 0)
	if err != nil {
		return c, err
	}
	s.bind("site", p.site)
	s.bind("first_day", c.Days.First.String())
	s.bind("last_day", c.Days.Last.String())
	if len(dims) > 0 {
		s.bind("dims", dims)
		s.bind("labels", labels)
	}
	changed := map[localDate]sealedDay{}
	err = e.db.run(ctx, s, func(r driver.Rows) error {
		var number uint16
		var d sealedDay
		if err := r.Scan(&number, &d.Seal, &d.Rolled, &d.Monthly, &c.labelled); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		d.Date = localDate(number)
		changed[d.Date] = d
		return nil
	})
	if err != nil {
		return c, err
	}
	if begin := startOfDay(c.Days.First.time(), p.span.Zone); p.since.After(begin) {
		changed[c.Days.First] = sealedDay{}
	}
	for d := c.Days.First; d <= c.Days.Last; d++ {
		switch last := len(c.Open) - 1; {
		case changed[d].Seal != 0:
			c.Sealed = append(c.Sealed, changed[d])
		case last >= 0 && c.Open[last].Last == d-1:
			c.Open[last].Last = d
		default:
			c.Open = append(c.Open, days{d, d})
		}
	}
	c.months = storedMonths(c.Days, changed)
	return c, nil
}

// storedMonths returns the months within a run of days of which each day that has changed is in one seal,
// which has the month's sums.
func storedMonths(all days, changed map[localDate]sealedDay) (out []localDate) {
	first := all.First.time()
	for m := time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC); ; m = m.AddDate(0, 1, 0) {
		next := dateOf(m.AddDate(0, 1, 0))
		if next-1 > all.Last {
			return out
		}
		seal, ok := uint64(0), dateOf(m) >= all.First
		for d := dateOf(m); d < next && ok; d++ {
			day, known := changed[d]
			if !known {
				continue
			}
			ok = day.Seal != 0 && day.Rolled && day.Monthly && (seal == 0 || seal == day.Seal)
			seal = day.Seal
		}
		if ok && seal != 0 {
			out = append(out, dateOf(m))
		}
	}
}

// maxRuns bounds the runs of open days that a statement names.
const maxRuns = 20

// runs returns the open days in a few runs, which may have sealed days between them.
func (c calendar) runs() (out []days, exact bool) {
	out = slices.Clone(c.Open)
	for exact = true; len(out) > maxRuns; exact = false {
		least := 1
		for i := range out[1:] {
			if out[i+1].First-out[i].Last < out[least].First-out[least-1].Last {
				least = i + 1
			}
		}
		out[least-1].Last = out[least].Last
		out = slices.Delete(out, least, least+1)
	}
	return out, exact
}
