package history

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// DateRange is a name, or two dates or times, both included.
type DateRange struct {
	Name     string
	From, To string
}

var rangeNames = []string{"day", "24h", "7d", "28d", "30d", "91d", "month", "6mo", "12mo", "year", "all"}

func (r *DateRange) read(b json.RawMessage) error {
	const field = "date_range"
	if absent(b) {
		return invalid(field, "is missing; name one of %s or give two dates", join(rangeNames))
	}
	var err error
	if b[0] != '[' {
		if r.Name, err = decodeString(field, b); err != nil {
			return invalid(field, "want one of %s or two dates", join(rangeNames))
		}
		if !slices.Contains(rangeNames, r.Name) {
			return invalid(field, "%s is not known; name one of %s or give two dates",
				quote(r.Name), join(rangeNames))
		}
		return nil
	}
	ends, err := decodeStrings(field, b)
	if err != nil {
		return err
	}
	if len(ends) != 2 {
		return invalid(field, `want two dates, e.g. ["2026-11-01", "2026-11-30"]`)
	}
	r.From, r.To = ends[0], ends[1]
	_, err = r.between(time.UTC)
	return err
}

// A span is the instants in [From, To) but those in Holes, all on whole seconds, and the time zone in which
// they are read.
type span struct {
	From, To time.Time
	Zone     *time.Location
	Holes    []interval // in order, apart, within From and To
	// Local has the first and last local time, where no two instants say what the span is.
	Local [2]string
}

// between resolves a range of two dates or times.
func (r *DateRange) between(zone *time.Location) (span, error) {
	from, fromKind, err := instant("date_range[0]", r.From)
	if err != nil {
		return span{}, err
	}
	to, toKind, err := instant("date_range[1]", r.To)
	if err != nil {
		return span{}, err
	}
	if (fromKind == date) != (toKind == date) {
		return span{}, invalid("date_range", "want two dates or two times, not one of each")
	}
	// A time stands for its whole second, and the last second is included.
	from, to = from.Truncate(time.Second), to.Truncate(time.Second)
	var s span
	switch {
	case fromKind == date && !to.Before(from):
		s = span{From: startOfDay(from, zone), To: startOfDay(to.AddDate(0, 0, 1), zone)}
	case fromKind == local && toKind == local && !to.Before(from):
		s = localSpan(from, to, zone)
	case fromKind == toKind:
		s = span{From: from, To: to.Add(time.Second)}
	case fromKind == local:
		s = span{From: firstLocal(from, zone), To: to.Add(time.Second)}
	default:
		s = span{From: from, To: lastLocal(to, zone)}
	}
	if to.Before(from) && fromKind == toKind || s.To.Before(s.From) {
		return span{}, invalid("date_range", "it ends before it begins")
	}
	s.From, s.To, s.Zone = s.From.In(zone), s.To.In(zone), zone
	return s, nil
}

// The ways to write an end of a range. A date and a local time are read in UTC, until the zone is known.
type endKind int

const (
	date  endKind = iota // 2026-11-01
	exact                // 2026-11-01T12:00:00Z
	local                // 2026-11-01T12:00:00: in the site's time zone
)

func instant(field, s string) (t time.Time, kind endKind, err error) {
	for kind, layout := range []string{date: time.DateOnly, exact: time.RFC3339, local: localLayout} {
		if t, err = time.Parse(layout, s); err == nil {
			if y := t.Year(); y < 1971 || y > 2099 {
				return t, 0, invalid(field, "want a year from 1971 to 2099")
			}
			return t, endKind(kind), nil
		}
	}
	return t, 0, invalid(field,
		"%s is neither a date such as 2026-11-01 nor a time such as 2026-11-01T12:00:00Z", quote(s))
}

// resolve turns the range into instants. It calls first, which returns the time of the site's first event
// (the zero time: none), only for "all". As in the Plausible Stats API v2, ranges of several days or months
// are whole ones that end before today, and day, month and year are the current ones.
func (r *DateRange) resolve(
	now time.Time, zone *time.Location, first func() (time.Time, error),
) (span, error) {
	now = now.In(zone)
	today := civil(now)
	days := func(from, to time.Time) (span, error) {
		return span{From: startOfDay(from, zone), To: startOfDay(to, zone), Zone: zone}, nil
	}
	month := time.Date(today.Year(), today.Month(), 1, 0, 0, 0, 0, time.UTC)
	year := time.Date(today.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	switch r.Name {
	case "":
		return r.between(zone)
	case "day":
		return days(today, today.AddDate(0, 0, 1))
	case "24h":
		to := now.Truncate(time.Second).Add(time.Second)
		return span{From: to.Add(-24 * time.Hour), To: to, Zone: zone}, nil
	case "7d":
		return days(today.AddDate(0, 0, -7), today)
	case "28d":
		return days(today.AddDate(0, 0, -28), today)
	case "30d":
		return days(today.AddDate(0, 0, -30), today)
	case "91d":
		return days(today.AddDate(0, 0, -91), today)
	case "month":
		return days(month, month.AddDate(0, 1, 0))
	case "6mo":
		return days(month.AddDate(0, -6, 0), month)
	case "12mo":
		return days(month.AddDate(0, -12, 0), month)
	case "year":
		return days(year, year.AddDate(1, 0, 0))
	case "all":
		from, err := first()
		if err != nil {
			return span{}, err
		}
		if from.IsZero() || from.After(now) {
			return days(today, today.AddDate(0, 0, 1))
		}
		return days(civil(from.In(zone)), today.AddDate(0, 0, 1))
	}
	return span{}, invalid("date_range", "%s is not known", quote(r.Name))
}

// civil is the date of t as midnight UTC. Dates are computed in UTC, where every date has exactly one
// midnight.
func civil(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// startOfDay is the first instant at which the calendar of a zone shows a date (a midnight UTC) or a later
// one. Where clocks change at midnight, it is not at 00:00, or it is the first of two.
func startOfDay(date time.Time, zone *time.Location) time.Time {
	y, m, d := date.Date()
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if civil(t).Before(date) {
		_, end := t.ZoneBounds()
		return end
	}
	if start, _ := t.ZoneBounds(); !start.IsZero() {
		_, now := t.Zone()
		_, before := start.Add(-1).In(zone).Zone()
		earlier := t.Add(time.Duration(now-before) * time.Second)
		if earlier.Before(start) {
			return earlier
		}
	}
	return t
}

// offset is how far the clocks of t's zone are ahead of UTC at t.
func offset(t time.Time) time.Duration {
	_, s := t.Zone()
	return time.Duration(s) * time.Second
}

// A grain is the width of the buckets of time.
type grain int

const (
	none grain = iota
	auto
	second
	minute
	hour
	day
	week
	month
)

var grainNames = [...]string{
	none: "", auto: "time", second: "time:second", minute: "time:minute", hour: "time:hour",
	day: "time:day", week: "time:week", month: "time:month",
}

func (g grain) String() string { return grainNames[g] }

// longest bounds the range of the fine grains; the others have no bound.
var longest = map[grain]time.Duration{
	second: time.Hour,
	minute: (2*24 + 2) * time.Hour, // two days, and the hours by which clocks may go back in them
	hour:   400 * 24 * time.Hour,
}

// resolveGrain chooses the grain of `time` by the length of the range, and refuses one that is too fine for
// it.
func (s span) resolveGrain(g grain) (grain, error) {
	length := s.To.Sub(s.From)
	if g == auto {
		switch days := length / (24 * time.Hour); {
		case length <= 50*time.Hour:
			return hour, nil
		case days <= 40:
			return day, nil
		case days <= 52*7:
			return week, nil
		}
		return month, nil
	}
	if most, ok := longest[g]; ok && length > most {
		return g, invalid("dimensions",
			"%s takes a date_range of at most %s; ask for a shorter one or a coarser grain",
			g, map[grain]string{second: "an hour", minute: "two days", hour: "400 days"}[g])
	}
	return g, nil
}

// wall is the local time of the span's zone, as if it were UTC.
func (s span) wall(t time.Time) time.Time {
	t = t.In(s.Zone)
	return t.UTC().Add(offset(t))
}

// offsets returns the offsets from UTC that clocks have within the span, in seconds, and the second from
// which each applies. The first one is that of the span's begin.
func (s span) offsets() (changes, offsets []int64) {
	for t := s.From; ; {
		if o := int64(offset(t.In(s.Zone)) / time.Second); len(offsets) == 0 || offsets[len(offsets)-1] != o {
			changes, offsets = append(changes, t.Unix()), append(offsets, o)
		}
		if _, t = t.In(s.Zone).ZoneBounds(); t.IsZero() || !t.Before(s.To) {
			return changes, offsets
		}
	}
}

// labels returns the labels of all buckets of the span, in order. An hour or day that is skipped when clocks
// go forward has no bucket, and one that occurs twice has one.
func (s span) labels(g grain) []string {
	var out []string
	if !s.From.Before(s.To) {
		return out
	}
	if g >= day {
		last := civil(s.To.Add(-1).In(s.Zone))
		for d := civil(s.From); !d.After(last); {
			if g != day || startOfDay(d, s.Zone).Before(startOfDay(d.AddDate(0, 0, 1), s.Zone)) {
				out = append(out, s.label(d, g))
			}
			switch g {
			case day:
				d = d.AddDate(0, 0, 1)
			case week:
				d = monday(d).AddDate(0, 0, 7)
			default:
				d = time.Date(d.Year(), d.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			}
		}
		return out
	}
	// All current offsets from UTC are multiples of a quarter of an hour.
	step := map[grain]time.Duration{second: time.Second, minute: time.Minute, hour: 15 * time.Minute}[g]
	for _, p := range s.pieces() {
		for t := p.From.Truncate(step); t.Before(p.To); t = t.Add(step) {
			out = append(out, s.label(s.wall(t), g))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// label is the label of the bucket of a local time. As in Plausible, the first week has the date of the
// range's first day.
func (s span) label(wall time.Time, g grain) string {
	switch g {
	case second:
		return wall.Format(time.DateTime)
	case minute:
		return wall.Truncate(time.Minute).Format(time.DateTime)
	case hour:
		return wall.Truncate(time.Hour).Format(time.DateTime)
	case week:
		if m, first := monday(wall), civil(s.From); m.Before(first) {
			return first.Format(time.DateOnly)
		}
		return monday(wall).Format(time.DateOnly)
	case month:
		return time.Date(wall.Year(), wall.Month(), 1, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
	return wall.Format(time.DateOnly)
}

func monday(date time.Time) time.Time {
	return civil(date).AddDate(0, 0, -(int(date.Weekday())+6)%7)
}

// echo writes the span as a query has it: in the site's time zone, with the last second included.
func (s span) echo() [2]string {
	if s.Local[0] != "" {
		return s.Local
	}
	return [2]string{s.From.Format(time.RFC3339), s.To.Add(-time.Second).Format(time.RFC3339)}
}

// zone loads the time zone of a site; "" is UTC. It treats "local", which is this machine's, as UTC.
func zone(name string) (*time.Location, error) {
	if strings.EqualFold(name, "local") {
		name = ""
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, invalid("site_id",
			"the site's time zone %s is not known; set it to an IANA name such as Europe/Berlin", quote(name))
	}
	return loc, nil
}
