package fold

import (
	"fmt"
	"maps"
	"slices"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// counted is an event that counts in a window, by the oracle.
type counted struct {
	second, time    int64
	site, who, path string
	pageview        bool
}

// oracle recounts a log from the list of its events, following the rules literally and slowly. It shares no
// code with the stages. It returns the rows of every final second, and of each envelope the watermark and
// the outcome.
func oracle(rules Rules, log []Envelope) (rows map[string]window.Second, watermarks []int64,
	outcomes []Outcome, all []counted) {
	type seen struct {
		low, last int64
		sequence  uint64
	}
	nodes := map[uint64]seen{}
	occurrences := map[string][]int64{}
	watermark, now := int64(None), int64(None)
	var waiting []int64 // seconds of counted events
	for _, e := range log {
		n, known := nodes[e.Header.Node]
		if known && e.Header.Sequence <= n.sequence {
			watermarks, outcomes = append(watermarks, watermark), append(outcomes, Outcome{Retried: true})
			continue
		}
		stale := watermark != None && e.Time <= watermark-rules.NodeMemory
		now = max(now, e.Time)
		low := min(e.Header.Low, e.Time)
		if e.Header.CloseMarker {
			low = None
		}
		nodes[e.Header.Node] = seen{low, max(e.Time, n.last), e.Header.Sequence}
		least, any := now, false
		for _, n := range nodes {
			if n.low >= now-rules.MaxNodeLag {
				least, any = min(least, n.low), true
			}
		}
		if any {
			watermark = max(watermark, least)
		}
		gone := func() {
			maps.DeleteFunc(nodes, func(_ uint64, n seen) bool {
				return watermark != None &&
					watermark >= n.last+rules.NodeMemory
			})
		}
		gone()
		var o Outcome
		for _, x := range e.Events {
			t := min(x.Time, e.Time)
			duplicate := false
			for _, id := range idsOf(&x) {
				duplicate = duplicate || slices.ContainsFunc(occurrences[id],
					func(at int64) bool { return at > watermark-rules.IDMemory && at > t-rules.IDMemory })
				occurrences[id] = append(occurrences[id], t)
			}
			if duplicate {
				o.Duplicate++
				continue
			}
			switch {
			case stale:
				o.Stale++
			case watermark != None && (t/1000+1)*1000 <= watermark:
				o.Late++
			default:
				o.Counted++
				waiting = append(waiting, t/1000)
				if x.Kind != event.Engagement {
					all = append(all, counted{t / 1000, t, x.Site, x.Language, x.Path,
						x.Kind == event.Pageview})
				}
			}
		}
		over := func(second int64) bool { return watermark != None && (second+1)*1000 <= watermark }
		for waiting = slices.DeleteFunc(waiting,
			over); len(waiting) > rules.MaxOpenEvents; waiting = slices.DeleteFunc(waiting, over) {
			watermark = (slices.Min(waiting) + 1) * 1000
		}
		gone()
		watermarks, outcomes = append(watermarks, watermark), append(outcomes, o)
	}
	return finals(rules, all, watermark), watermarks, outcomes, all
}

// finals returns the rows of all seconds that the watermark has passed.
func finals(rules Rules, all []counted, watermark int64) map[string]window.Second {
	rows := map[string]window.Second{}
	active := func(site string, second int64) int {
		who := map[string]bool{}
		for _, c := range all {
			if c.site == site && c.second <= second && c.second > second-rules.Active {
				who[c.who] = true
			}
		}
		return len(who)
	}
	seconds := map[string]map[int64]bool{}
	for _, c := range all {
		if seconds[c.site] == nil {
			seconds[c.site] = map[int64]bool{}
		}
		seconds[c.site][c.second], seconds[c.site][c.second+rules.Active] = true, true
	}
	for site, seconds := range seconds {
		for second := range seconds {
			if (second+1)*1000 > watermark {
				continue
			}
			row := window.Second{Site: site, At: second, Active: uint32(active(site, second)), Final: true}
			who := map[string]bool{}
			for _, c := range all {
				if c.site == site && c.second == second {
					row.Events++
					if c.pageview {
						row.Pageviews++
					}
					who[c.who] = true
				}
			}
			row.Visitors, row.Revision = uint32(len(who)), row.Events+1
			// a visitor left: the number may be the same if another came, and there is a row anyway
			left := false
			for _, c := range all {
				if c.site == site && c.second == second-rules.Active &&
					!slices.ContainsFunc(all, func(d counted) bool {
						return d.site == site && d.who == c.who && d.second > c.second && d.second <= second
					}) {
					left = true
				}
			}
			if row.Events > 0 || left {
				rows[fmt.Sprint(site, second)] = row
			}
		}
	}
	return rows
}

// idsOf returns the ids by which an event may be a duplicate.
func idsOf(e *event.Event) (ids []string) {
	if e.HasID {
		ids = append(ids, fmt.Sprint(e.Site, e.ID))
	}
	if e.HasPreviousID {
		ids = append(ids, fmt.Sprint(e.Site, e.PreviousID))
	}
	return ids
}
