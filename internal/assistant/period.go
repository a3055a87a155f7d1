package assistant

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Names of ranges to compare with, and of one that the API doesn't have.
const (
	previousPeriod = "previous_period"
	previousWeek   = "previous_week"
	yearOverYear   = "year_over_year"
	yesterday      = "yesterday"
)

// localLayout is a time of the site's clocks.
const localLayout = "2006-01-02T15:04:05"

// period is a date range by the site's clocks, both ends included, as if they were UTC's. So days are
// shifted without arithmetic of zones, which the API does.
type period struct{ from, to time.Time }

// periodOf reads a date range as the API echoes it, RFC 3339 or local times. It returns the offset of its
// end, too.
func periodOf(ends [2]string) (p period, offset time.Duration, err error) {
	for i, to := range []*time.Time{&p.from, &p.to} {
		t, err := time.Parse(time.RFC3339, ends[i])
		if err != nil {
			if t, err = time.Parse(localLayout, ends[i]); err != nil {
				return p, 0, fmt.Errorf("the server names the date range %q", ends)
			}
		}
		_, seconds := t.Zone()
		offset = time.Duration(seconds) * time.Second
		*to = t.UTC().Add(offset)
	}
	return p, offset, nil
}

// days returns how many whole days the period is; 0 if its ends aren't those of days.
func (p period) days() int {
	begin, end := p.from.Truncate(24*time.Hour), p.to.Add(time.Second).Truncate(24*time.Hour)
	if !begin.Equal(p.from) || !end.Equal(p.to.Add(time.Second)) {
		return 0
	}
	return int(end.Sub(begin) / (24 * time.Hour))
}

// cut ends the period with the second before now, if it goes on after it.
func (p period) cut(now time.Time) (cut period, open bool) {
	if now = now.Truncate(time.Second); !p.to.Before(now) && p.from.Before(now) {
		return period{p.from, now.Add(-time.Second)}, true
	}
	return p, false
}

// before returns the period to compare p with: one of whole's length before it, weeks earlier, or a year
// earlier. whole is p before it was cut.
func (p period) before(whole period, name string) (period, error) {
	days := whole.days()
	switch {
	case name == previousPeriod && days == 0:
		length := whole.to.Sub(whole.from) + time.Second
		return period{p.from.Add(-length), p.to.Add(-length)}, nil
	case name == previousPeriod:
	case name == previousWeek:
		length := whole.to.Sub(whole.from)
		days = 7 * (1 + int(length/(7*24*time.Hour)))
	case name == yearOverYear:
		return period{yearBefore(p.from), yearBefore(p.to)}, nil
	default:
		return p, fmt.Errorf("compare_to: %q is not known; choose from %s, %s, %s or give two dates",
			shorten(name, 60), previousPeriod, previousWeek, yearOverYear)
	}
	return period{p.from.AddDate(0, 0, -days), p.to.AddDate(0, 0, -days)}, nil
}

// yearBefore is the same date and time a year before; of February 29, the day before March.
func yearBefore(t time.Time) time.Time {
	before := t.AddDate(-1, 0, 0)
	if before.Day() != t.Day() {
		before = before.AddDate(0, 0, -before.Day())
	}
	return before
}

// dateRange writes the period as a query has it: dates where it is of whole days.
func (p period) dateRange() [2]string {
	layout := localLayout
	if p.days() > 0 {
		layout = time.DateOnly
	}
	return [2]string{p.from.Format(layout), p.to.Format(layout)}
}

// givenEnds reads a range of two dates or times of a call; false: it is a name.
func givenEnds(v any) (ends [2]string, ok bool, err error) {
	if _, named := v.(string); named || v == nil {
		return ends, false, nil
	}
	b, err := json.Marshal(v)
	var list []string
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil || len(list) != 2 {
		return ends, false, errors.New("a range is a name, or a list of two dates or times")
	}
	return [2]string(list), true, nil
}
