package history

import "time"

const localLayout = "2006-01-02T15:04:05"

// An interval is the instants in [From, To).
type interval struct{ From, To time.Time }

// longestOffset is more than any zone's clocks are ahead of UTC or behind it.
const longestOffset = 24 * time.Hour

// localTimes returns the instants at which the clocks of a zone show a time in [from, to), which are local
// times as if they were UTC: none where all of them are skipped, and several intervals where clocks go back
// between them.
func localTimes(from, to time.Time, zone *time.Location) (out []interval) {
	for t := from.Add(-longestOffset).In(zone); ; {
		begin, end := t.ZoneBounds()
		i := interval{from.Add(-offset(t)), to.Add(-offset(t))}
		if i.From.Before(begin) {
			i.From = begin
		}
		if !end.IsZero() && end.Before(i.To) {
			i.To = end
		}
		switch last := len(out) - 1; {
		case !i.From.Before(i.To):
		case last >= 0 && out[last].To.Equal(i.From):
			out[last].To = i.To
		default:
			out = append(out, i)
		}
		if end.IsZero() || end.After(to.Add(longestOffset)) {
			return out
		}
		t = end
	}
}

// firstLocal returns the first instant at which the clocks of a zone show a local time, or a later one of the
// same day or the next.
func firstLocal(t time.Time, zone *time.Location) time.Time {
	return localTimes(t, t.Add(2*longestOffset), zone)[0].From
}

// lastLocal returns the end of the last second in which the clocks of a zone show a local time, or an earlier
// one of the same day or the one before.
func lastLocal(t time.Time, zone *time.Location) time.Time {
	all := localTimes(t.Add(-2*longestOffset), t.Add(time.Second), zone)
	return all[len(all)-1].To
}

// localSpan returns the instants at which the clocks of a zone show a time from `from` to `to`: both times
// where they show it twice, and none where they skip it. So a bucket of time has the same events as the range
// of its times.
func localSpan(from, to time.Time, zone *time.Location) span {
	all := localTimes(from, to.Add(time.Second), zone)
	if len(all) == 1 {
		return span{From: all[0].From, To: all[0].To}
	}
	s := span{Local: [2]string{from.Format(localLayout), to.Format(localLayout)}}
	if len(all) == 0 {
		s.From = firstLocal(from, zone)
		s.To = s.From
		return s
	}
	s.From, s.To = all[0].From, all[len(all)-1].To
	for i := range all[1:] {
		s.Holes = append(s.Holes, interval{all[i].To, all[i+1].From})
	}
	return s
}

// pieces returns the instants of a span as intervals.
func (s span) pieces() (out []interval) {
	from := s.From
	for _, h := range s.Holes {
		out, from = append(out, interval{from, h.From}), h.To
	}
	return append(out, interval{from, s.To})
}
