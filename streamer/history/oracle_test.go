package history

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The oracle answers queries one event at a time, in the plainest way there is, and shares no code with
// the engine but the table of names.

type visit struct {
	events      []event // page views and custom events
	start       time.Time
	duration    time.Duration
	views       int
	bounced     bool
	entry, exit string
}

type counted struct {
	event
	visit   *visit
	entry   bool   // event:page is the page on which the visit entered
	deepest uint8  // of the event and the engagement that follows it
	millis  uint32 // of that engagement
}

// A visitor is one on a day of the site: visits end with the day, and visitors of several days are several.
type visitor struct {
	id  uint64
	day string
}

func visitorOf(e event, zone *time.Location) visitor {
	return visitor{e.visitor, e.at.In(zone).Format(time.DateOnly)}
}

func visitsOf(events []event, zone *time.Location) []counted {
	byVisitor := map[visitor][]event{}
	for _, e := range events {
		v := visitorOf(e, zone)
		byVisitor[v] = append(byVisitor[v], e)
	}
	var out []counted
	for _, list := range byVisitor {
		slices.SortFunc(
			list,
			func(a, b event) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.offset, b.offset)) },
		)
		for from := 0; from < len(list); {
			to := from + 1
			for to < len(list) && list[to].at.Sub(list[to-1].at) < 30*time.Minute {
				to++
			}
			v := &visit{}
			interacted := false
			for _, e := range list[from:to] {
				if e.kind == "engagement" {
					continue
				}
				v.events = append(v.events, e)
				if e.kind == "custom" {
					interacted = interacted || e.interactive
					continue
				}
				if v.views++; v.views == 1 {
					v.entry = e.path
				}
				v.exit = e.path
			}
			if len(v.events) > 0 {
				v.start = v.events[0].at
				v.duration = list[to-1].at.Sub(v.start)
				v.bounced = v.views < 2 && !interacted
				for _, e := range list[from:to] {
					last := len(out) - 1
					switch {
					case e.kind != "engagement":
						out = append(out, counted{event: e, visit: v, deepest: e.depth, millis: e.engaged})
					case last >= 0 && out[last].visit == v:
						out[last].deepest = max(out[last].deepest, e.depth)
						out[last].millis += e.engaged
					}
				}
			}
			from = to
		}
	}
	return out
}

func (c counted) value(name string) string {
	first := c.visit.events[0]
	or := func(s, blank string) string {
		if s == "" {
			return blank
		}
		return s
	}
	if key, ok := strings.CutPrefix(name, "event:props:"); ok {
		return or(c.props[key], "(none)")
	}
	switch name {
	case "event:page":
		if c.entry {
			return or(c.visit.entry, "(not set)")
		}
		return or(c.path, "(not set)")
	case "event:name":
		return or(c.name, "(not set)")
	case "event:hostname":
		return or(c.hostname, "(not set)")
	case "visit:entry_page":
		return or(c.visit.entry, "(not set)")
	case "visit:exit_page":
		return or(c.visit.exit, "(not set)")
	case "visit:source":
		return or(first.source, "Direct / None")
	case "visit:referrer":
		return or(first.referrer, "Direct / None")
	}
	return or(map[string]string{
		"visit:utm_source": first.utmSource, "visit:utm_medium": first.utmMedium,
		"visit:utm_campaign": first.utmCampaign, "visit:utm_content": first.utmContent,
		"visit:utm_term": first.utmTerm, "visit:country": first.country, "visit:region": first.region,
		"visit:device": first.device, "visit:browser": first.browser,
		"visit:browser_version": first.browserVersion, "visit:os": first.os,
		"visit:os_version": first.osVersion, "visit:channel": first.channel, "visit:city": first.city,
		"visit:city_name": first.city, "visit:screen": first.screen, "visit:language": first.language,
	}[name], "(not set)")
}

func (c counted) passes(f Filter) bool {
	switch f.Op {
	case And:
		return !slices.ContainsFunc(f.Filters, func(f Filter) bool { return !c.passes(f) })
	case Or:
		return slices.ContainsFunc(f.Filters, c.passes)
	case Not:
		return !c.passes(f.Filters[0])
	}
	v := c.value(f.Dimension)
	some := slices.ContainsFunc(f.Values, func(want string) bool {
		v := v
		if f.IgnoreCase {
			v, want = strings.ToLower(v), strings.ToLower(want)
		}
		switch f.Op {
		case Is, IsNot:
			return v == want
		case Contains, ContainsNot:
			return strings.Contains(v, want)
		case MatchesWildcard, MatchesWildcardNot:
			return glob(want, v)
		}
		return regexp.MustCompile("(?s)" + want).MatchString(v) // ClickHouse's dot takes line ends too
	})
	return some != strings.HasSuffix(string(f.Op), "_not")
}

// glob reports whether a value matches one with wildcards.
func glob(pattern, v string) bool {
	if pattern == "" {
		return v == ""
	}
	if rest, ok := strings.CutPrefix(pattern, "**"); ok {
		for i := range len(v) + 1 {
			if glob(rest, v[i:]) {
				return true
			}
		}
		return false
	}
	if pattern[0] == '*' {
		for i := range len(v) + 1 {
			if glob(pattern[1:], v[i:]) {
				return true
			}
			if i < len(v) && v[i] == '/' {
				break
			}
		}
		return false
	}
	if len(pattern) > 1 && pattern[0] == '\\' && (pattern[1] == '*' || pattern[1] == '\\') {
		pattern = pattern[1:]
	}
	return v != "" && v[0] == pattern[0] && glob(pattern[1:], v[1:])
}

func bucketOf(at time.Time, name string, s span) string {
	at = at.In(s.Zone)
	switch name {
	case "time:second":
		return at.Format("2006-01-02 15:04:05")
	case "time:minute":
		return at.Format("2006-01-02 15:04:00")
	case "time:hour":
		return at.Format("2006-01-02 15:00:00")
	case "time:month":
		return at.Format("2006-01-01")[:8] + "01"
	case "time:week":
		for at.Weekday() != time.Monday {
			at = time.Date(at.Year(), at.Month(), at.Day()-1, 12, 0, 0, 0, s.Zone)
		}
		return max(at.Format(time.DateOnly), s.From.In(s.Zone).Format(time.DateOnly))
	}
	return at.Format(time.DateOnly)
}

type tally struct {
	key               []string
	visitors          map[visitor]bool
	visits            map[*visit]bool
	entered           map[*visit]bool // those that bounce rate and duration are of
	pageviews, events int
	counts            bool // something but entries
	depths            map[*visit]uint8
	engaged           map[*visit]uint32
	exits             map[*visit]bool
}

// answer returns all rows of a query whose dates, grain and order are settled, in order.
func answer(events []event, p plan) []Row {
	s := p.span
	tallies := map[string]*tally{}
	tallyOf := func(c counted, at time.Time) *tally {
		var key []string
		for _, n := range p.Dimensions {
			if strings.HasPrefix(n, "time:") {
				key = append(key, bucketOf(at, n, s))
			} else {
				key = append(key, c.value(n))
			}
		}
		k := strings.Join(key, "\x01")
		if tallies[k] == nil {
			tallies[k] = &tally{key: key, visitors: map[visitor]bool{}, visits: map[*visit]bool{},
				entered: map[*visit]bool{}, depths: map[*visit]uint8{}, engaged: map[*visit]uint32{},
				exits: map[*visit]bool{}}
		}
		return tallies[k]
	}
	paged := slices.Contains(p.Dimensions, "event:page") ||
		strings.Contains(fmt.Sprint(p.Filters), "event:page")
	ofEvents, ofVisits, ofEntries := false, false, false
	for _, m := range p.Metrics {
		switch {
		case paged && (m == BounceRate || m == VisitDuration):
			ofEntries = true
		case m == ExitRate:
			ofVisits, ofEvents = true, true
		case m == Visits || m == ViewsPerVisit || m == BounceRate || m == VisitDuration ||
			m == ScrollDepth || m == TimeOnPage:
			ofVisits = true
		default:
			ofEvents = true
		}
	}
	in := func(at time.Time) bool {
		const local = "2006-01-02T15:04:05"
		if len(p.DateRange.From) == len(local) && len(p.DateRange.To) == len(local) {
			clock := at.In(s.Zone).Format(local)
			return clock >= p.DateRange.From && clock <= p.DateRange.To
		}
		return !at.Before(s.From) && at.Before(s.To)
	}
	whole := map[visitor]bool{}
	passes := func(c counted) bool {
		return !slices.ContainsFunc(p.Filters, func(f Filter) bool { return !c.passes(f) })
	}
	for _, c := range visitsOf(events, s.Zone) {
		if !in(c.at) {
			continue
		}
		entered := c
		entered.entry = true
		if ofEntries && in(c.visit.start) && passes(entered) {
			tallyOf(entered, c.visit.start).entered[c.visit] = true
		}
		if !passes(c) {
			continue
		}
		whole[visitorOf(c.event, s.Zone)] = true
		if ofEvents {
			t := tallyOf(c, c.at)
			t.counts = true
			t.visitors[visitorOf(c.event, s.Zone)] = true
			t.events++
			if c.kind == "pageview" {
				t.pageviews++
			}
		}
		if ofVisits && in(c.visit.start) {
			t := tallyOf(c, c.visit.start)
			t.counts = true
			t.visits[c.visit] = true
			t.depths[c.visit] = max(t.depths[c.visit], c.deepest)
			t.engaged[c.visit] += c.millis
			if c.visit.views > 0 && c.value("event:page") == c.value("visit:exit_page") {
				t.exits[c.visit] = true
			}
			if !ofEntries {
				t.entered[c.visit] = true
			}
		}
	}
	// Engagement that belongs to no visit, and events of none, count nowhere; but an event that is counted
	// alone does not need its visit, so nothing is lost above: every page view and custom event is in one.
	if len(p.Dimensions) == 0 && len(tallies) == 0 {
		tallies[""] = &tally{}
	}
	rows := []Row{}
	for _, t := range tallies {
		if !t.counts && (ofEvents || ofVisits) && len(p.Dimensions) > 0 {
			continue // only entries, beside other metrics
		}
		row := Row{Dimensions: append([]string{}, t.key...)}
		for _, m := range p.Metrics {
			row.Metrics = append(row.Metrics, t.metric(m, len(whole)))
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return compareRows(a, b, p) })
	return rows
}

func (t *tally) metric(m Metric, whole int) *float64 {
	f := func(x float64) *float64 { return &x }
	views, bounced, took := 0, 0, time.Duration(0)
	for v := range t.visits {
		views += v.views
	}
	for v := range t.entered {
		took += v.duration
		if v.bounced {
			bounced++
		}
	}
	n := float64(len(t.visits))
	if m == BounceRate || m == VisitDuration {
		n = float64(len(t.entered))
	}
	switch m {
	case Visitors:
		return f(float64(len(t.visitors)))
	case Visits:
		return f(n)
	case Pageviews:
		return f(float64(t.pageviews))
	case Events:
		return f(float64(t.events))
	case Percentage:
		if whole == 0 {
			return nil
		}
		return f(math.Round(float64(len(t.visitors))/float64(whole)*1000) / 10)
	}
	switch m {
	case ScrollDepth:
		return meanOf(t.depths, 1)
	case TimeOnPage:
		return meanOf(t.engaged, 1000)
	case ExitRate:
		if t.pageviews == 0 {
			return nil
		}
		return f(math.RoundToEven(1000*float64(len(t.exits))/float64(t.pageviews)) / 10)
	}
	if n == 0 {
		return nil
	}
	switch m {
	case ViewsPerVisit:
		return f(math.RoundToEven(float64(views)/n*100) / 100)
	case BounceRate:
		return f(math.RoundToEven(100 * float64(bounced) / n))
	}
	return f(math.RoundToEven(float64(took.Milliseconds()) / n / 1000))
}

// meanOf returns the mean of what is known of visits, in a unit; nil where nothing is.
func meanOf[N uint8 | uint32](of map[*visit]N, unit float64) *float64 {
	sum, n := 0.0, 0.0
	for _, x := range of {
		if x > 0 {
			sum, n = sum+float64(x), n+1
		}
	}
	if n == 0 {
		return nil
	}
	mean := math.RoundToEven(sum / n / unit)
	return &mean
}

func compareRows(a, b Row, p plan) int {
	for _, o := range p.OrderBy {
		c := 0
		if i := slices.Index(p.Metrics, Metric(o.By)); i >= 0 {
			switch x, y := a.Metrics[i], b.Metrics[i]; {
			case x == nil && y == nil:
				continue
			case x == nil: // last, up or down
				return 1
			case y == nil:
				return -1
			default:
				c = cmp.Compare(*x, *y)
			}
		} else {
			i := slices.Index(p.Dimensions, o.By)
			c = cmp.Compare(a.Dimensions[i], b.Dimensions[i])
		}
		if o.Desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return slices.Compare(a.Dimensions, b.Dimensions)
}
