package history

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	eventAndVisitNames = []string{
		"event:page", "event:name", "event:hostname", "visit:entry_page", "visit:exit_page", "visit:source",
		"visit:referrer", "visit:utm_source", "visit:utm_medium", "visit:utm_campaign", "visit:utm_content",
		"visit:utm_term", "visit:country", "visit:region", "visit:device", "visit:browser",
		"visit:browser_version", "visit:os", "visit:os_version", "visit:channel", "visit:city",
		"visit:city_name", "visit:screen", "visit:language", "event:props:plan", "event:props:it's",
		`event:props:\`,
	}
	timeNames = []string{"time", "time:minute", "time:hour", "time:day", "time:week", "time:month"}
)

// sample is a site with a history in some time zone, around a day on which its clocks change.
type sample struct {
	site   Site
	from   time.Time
	events []event
	state  int
}

func samples(t testing.TB) []sample {
	t.Helper()
	var out []sample
	for i, p := range []struct{ zone, from string }{
		{"", "2026-05-31T20:00:00Z"},
		{"Europe/Berlin", "2026-03-28T20:00:00Z"},       // an hour is skipped
		{"America/New_York", "2026-10-31T22:00:00Z"},    // an hour comes twice
		{"Asia/Kathmandu", "2026-12-31T12:00:00Z"},      // a quarter off
		{"Australia/Lord_Howe", "2026-04-03T20:00:00Z"}, // changes by half an hour
		{"Africa/Cairo", "2026-04-23T12:00:00Z"},        // a day begins at 01:00
		{"America/Havana", "2026-10-31T20:00:00Z"},      // midnight comes twice
		{"Antarctica/Troll", "2026-10-24T20:00:00Z"},    // two hours come twice
	} {
		from, err := time.Parse(time.RFC3339, p.from)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(uint64(i), 1))
		for _, state := range []int{i % sealStates, (i + 3) % sealStates} {
			x := sample{
				Site{Domain: fmt.Sprintf("%d.%d.%s", i, state, t.Name()), Timezone: p.zone}, from,
				history(r, 200, from, 30*time.Hour), state,
			}
			x.put(t, r)
			out = append(out, x)
		}
	}
	return out
}

// How much of a sample is sealed.
const (
	beforeSeals  = iota // ingest didn't know the sites' days
	nothing             // but ingest knew them
	some                // the first day, with sums, and another
	everything          // with the sums of days
	wholeMonths         // with the sums of months
	changedAgain        // everything, and then some days again
	sealStates
)

func (x sample) put(t testing.TB, r *rand.Rand) {
	t.Helper()
	again := func(int) bool { return r.IntN(4) == 0 }
	loc := load(t, x.site.Timezone)
	if x.state == beforeSeals {
		put(t, x.site.Domain, x.events, again)
		return
	}
	all := daysOf(x.events, loc)
	s := sealing{site: x.site.Domain, days: all, rolled: true}
	switch x.state {
	case some:
		putIn(t, x.site.Domain, loc, x.events, again)
		s.days = all[:1]
		s.put(t)
		s.days, s.rolled = all[len(all)-1:], false
		s.put(t)
	case changedAgain:
		var early, late []event
		for i, e := range x.events {
			if i%4 == 0 {
				late = append(late, e)
			} else {
				early = append(early, e)
			}
		}
		putIn(t, x.site.Domain, loc, early, again)
		s.put(t)
		putIn(t, x.site.Domain, loc, late, again)
		for i, d := range daysOf(late, loc) {
			s.exec(t, fmt.Sprintf("INSERT INTO marks (site, day, n) VALUES ('%s', '%s', 1)", s.site, d))
			if s.days = []localDate{d}; i%2 == 0 {
				s.put(t) // the others are open again
			}
		}
	case everything, wholeMonths:
		putIn(t, x.site.Domain, loc, x.events, again)
		s.monthly = x.state == wholeMonths
		s.put(t)
	default:
		putIn(t, x.site.Domain, loc, x.events, again)
	}
}

func same(a, b *float64) bool {
	return a == nil && b == nil || a != nil && b != nil && math.Abs(*a-*b) < 1e-9
}

func describe(rows []Row) string {
	s := ""
	for _, r := range rows {
		s += fmt.Sprintf("%q", r.Dimensions)
		for _, m := range r.Metrics {
			if m == nil {
				s += " null"
			} else {
				s += fmt.Sprint(" ", *m)
			}
		}
		s += "\n"
	}
	return s
}

// agree compares the answers of engine and oracle.
func agree(t rapid.TB, e *Engine, x sample, q Query) {
	t.Helper()
	got, err := e.Run(context.Background(), public, x.site, q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	p, err := e.plan(context.Background(), x.site, q)
	if err == nil {
		p.calendar, err = e.sealed(context.Background(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := answer(x.events, p)
	want := all[min(p.Offset, len(all)):min(p.Offset+p.Limit, len(all))]
	equal := slices.EqualFunc(got.Results, want, func(a, b Row) bool {
		return slices.Equal(a.Dimensions, b.Dimensions) && slices.EqualFunc(a.Metrics, b.Metrics, same)
	})
	if !equal {
		s, _ := p.build()
		t.Fatalf(
			"%s %+v\ngot:\n%.3000s\nwant:\n%.3000s\n%.9000s\n%v", x.site.Timezone, q,
			describe(got.Results), describe(want), s.sql, s.args,
		)
	}
	// The echo is the same query.
	var again Query
	if b, err := json.Marshal(got.Query); err != nil {
		t.Fatal(err)
	} else if err := json.Unmarshal(b, &again); err != nil {
		t.Fatalf("echo %s: %v", b, err)
	}
	p2, err := e.plan(context.Background(), x.site, again)
	if err != nil {
		t.Fatal(err)
	}
	p2.calendar = p.calendar
	first, _ := p.build()
	second, _ := p2.build()
	if !reflect.DeepEqual(first, second) {
		t.Fatalf("the echo of %+v is another query:\n%v\n%v", q, first, second)
	}
	if q.Include.TotalRows && *got.Meta.TotalRows != uint64(len(all)) {
		t.Fatalf("%+v: total_rows %d, want %d", q, *got.Meta.TotalRows, len(all))
	}
	for i, d := range p.Dimensions {
		if !isTime(d) || !q.Include.TimeLabels {
			continue
		}
		for _, r := range got.Results {
			if !slices.Contains(got.Meta.TimeLabels, r.Dimensions[i]) {
				t.Fatalf(
					"%s %+v: bucket %s isn't in time_labels %v", x.site.Timezone, q, r.Dimensions[i],
					got.Meta.TimeLabels,
				)
			}
		}
	}
}

func wholeRange(x sample) DateRange {
	if x.state == wholeMonths {
		first := time.Date(x.from.Year(), x.from.Month(), 1, 0, 0, 0, 0, time.UTC)
		return DateRange{From: first.Format(time.DateOnly),
			To: first.AddDate(0, 2, -1).Format(time.DateOnly)}
	}
	return DateRange{
		From: x.from.AddDate(0, 0, -1).Format(time.DateOnly),
		To:   x.from.AddDate(0, 0, 3).Format(time.DateOnly),
	}
}

// Every metric by every dimension, in every zone.
func TestMetricsByDimension(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	for _, x := range samples(t) {
		for _, d := range append(slices.Concat(eventAndVisitNames, timeNames[:1], timeNames[2:]), "") {
			q := Query{Metrics: metrics, DateRange: wholeRange(x), Include: Include{TotalRows: true}}
			if d == page {
				q.Metrics = slices.Concat(metrics, pageMetrics)
			}
			if d != "" {
				q.Dimensions = []string{d}
				q.Include.TimeLabels = isTime(d)
			}
			agree(t, e, x, q)
			for _, m := range q.Metrics {
				q.Metrics = []Metric{m}
				if x.site.Timezone == "Europe/Berlin" && x.state == wholeMonths {
					agree(t, e, x, q)
				}
			}
		}
	}
}

// Bounce rate and duration by page are those by entry page, as rows and by a filter, beside other metrics and
// alone. Of a page on which nobody entered they aren't known.
func TestPagesAreEntries(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	at := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	var events []event
	for i, v := range []struct {
		visitor uint64
		path    string
	}{{1, "/"}, {1, "/pricing"}, {2, "/pricing"}, {3, "/"}, {3, "/about"}} {
		events = append(events, event{at: at.Add(time.Duration(i) * time.Minute), visitor: v.visitor,
			path: v.path, offset: uint64(i), kind: "pageview", name: "pageview", fresh: true,
			interactive: true})
	}
	s := Site{Domain: strings.ToLower(t.Name())}
	put(t, s.Domain, events, nil)
	ask := func(dimension, filter, value string, m ...Metric) string {
		t.Helper()
		q := Query{Metrics: m, DateRange: DateRange{From: "2026-11-02", To: "2026-11-02"}}
		if dimension != "" {
			q.Dimensions = []string{dimension}
			q.OrderBy = []Order{{By: dimension}}
		}
		if filter != "" {
			q.Filters = []Filter{{Op: Is, Dimension: filter, Values: []string{value}}}
		}
		got, err := e.Run(t.Context(), public, s, q)
		if err != nil {
			t.Fatal(err)
		}
		return describe(got.Results)
	}
	for got, want := range map[string]string{
		ask(page, "", "", Visitors, Visits, BounceRate, VisitDuration): "[\"/\"] 2 2 0 60\n" +
			"[\"/about\"] 1 1 null null\n[\"/pricing\"] 2 2 100 0\n",
		ask(page, "", "", BounceRate):                      ask(entryPage, "", "", BounceRate),
		ask("", page, "/pricing", BounceRate):              "[] 100\n",
		ask("", page, "/pricing", BounceRate, Visits):      "[] 100 2\n",
		ask("", page, "/about", BounceRate):                "[] null\n",
		ask("", page, "/", VisitDuration):                  ask("", entryPage, "/", VisitDuration),
		ask("", page, "/none", Visitors, BounceRate):       "[] 0 null\n",
		ask(page, page, "/pricing", BounceRate, Pageviews): "[\"/pricing\"] 100 2\n",
	} {
		if got != want {
			t.Errorf("got %s want %s", got, want)
		}
	}
}

func TestAnyQuery(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	all := samples(t)
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SampledFrom(all).Draw(t, "site")
		agree(t, e, x, drawQuery(t, x))
	})
}

func drawQuery(t *rapid.T, x sample) Query {
	q := Query{
		Metrics: rapid.SliceOfNDistinct(rapid.SampledFrom(metrics), 1, 4, rapid.ID).Draw(t, "metrics"),
		Limit:   rapid.SampledFrom([]int{0, 0, 1, 3, 10_000}).Draw(t, "limit"),
		Offset:  rapid.SampledFrom([]int{0, 0, 0, 2, 1000}).Draw(t, "offset"),
		Include: Include{TotalRows: rapid.Bool().Draw(t, "total_rows")},
	}
	// Ends of ranges fall on and beside events: rapid's numbers would stay near the first one.
	near := func(label string) time.Time {
		e := rapid.SampledFrom(x.events).Draw(t, label)
		return e.at.Add(
			rapid.SampledFrom(
				[]time.Duration{0, -time.Second, time.Second, -10 * time.Minute, time.Hour},
			).Draw(
				t, "beside",
			),
		)
	}
	from, to := near("from"), near("to")
	if to.Before(from) {
		from, to = to, from
	}
	names := rapid.SliceOfNDistinct(
		rapid.SampledFrom(append(eventAndVisitNames, page, page, page)), 0, 2, rapid.ID,
	).Draw(
		t, "dimensions",
	)
	grain := rapid.SampledFrom(append(timeNames, "time:second", "", "", "")).Draw(t, "grain")
	if grain != "" {
		names = append(names, grain)
		q.Include.TimeLabels = true
		if grain == "time:second" {
			to = from.Add(to.Sub(from) % (59 * time.Minute))
		}
	}
	q.Dimensions = names
	q.DateRange = DateRange{From: from.Format(time.RFC3339), To: to.Format(time.RFC3339)}
	loc, err := zone(x.site.Timezone)
	if err == nil && grain != "time:second" && rapid.Bool().Draw(t, "days") {
		from, to := from.In(loc).Format(time.DateOnly), to.In(loc).Format(time.DateOnly)
		q.DateRange = DateRange{From: from, To: to}
		if rapid.Bool().Draw(t, "all days") {
			q.DateRange = wholeRange(x)
		}
		if grain == "time:minute" {
			q.DateRange.To = q.DateRange.From
		}
		drawRest(t, &q, names)
		return q
	}
	if err == nil && grain != "time:second" && rapid.Bool().Draw(t, "local") {
		const local = "2006-01-02T15:04:05"
		a, b := from.In(loc).Format(local), to.In(loc).Format(local)
		q.DateRange = DateRange{From: min(a, b), To: max(a, b)}
	}
	drawRest(t, &q, names)
	return q
}

// drawRest draws filters, metrics of pages and the order.
func drawRest(t *rapid.T, q *Query, names []string) {
	q.Filters = rapid.SliceOfN(drawFilter(2), 0, 2).Draw(t, "filters")
	paged := slices.Contains(names, page) ||
		slices.ContainsFunc(q.Filters, func(f Filter) bool { return f.any(ofPage) })
	if paged && rapid.Bool().Draw(t, "of pages") {
		q.Metrics = append(q.Metrics, rapid.SampledFrom(pageMetrics).Draw(t, "metric of pages"))
	}
	keys := append([]string{}, names...)
	for _, m := range q.Metrics {
		keys = append(keys, string(m))
	}
	for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 3, rapid.ID).Draw(t, "order_by") {
		q.OrderBy = append(q.OrderBy, Order{k, rapid.Bool().Draw(t, "desc")})
	}
}

func drawFilter(depth int) *rapid.Generator[Filter] {
	return rapid.Custom(func(t *rapid.T) Filter {
		ops := []Op{
			Is, IsNot, Contains, ContainsNot, Matches, MatchesNot, MatchesWildcard, MatchesWildcardNot,
		}
		if depth > 0 {
			ops = append(ops, And, Or, Not)
		}
		f := Filter{Op: rapid.SampledFrom(ops).Draw(t, "op")}
		switch f.Op {
		case And, Or:
			f.Filters = rapid.SliceOfN(drawFilter(depth-1), 1, 3).Draw(t, "filters")
			return f
		case Not:
			f.Filters = []Filter{drawFilter(depth-1).Draw(t, "filter")}
			return f
		}
		f.Dimension = rapid.SampledFrom(append(eventAndVisitNames, page, page, page)).Draw(t, "dimension")
		values := append(
			[]string{"Google", "DE", "Desktop", "Chrome", "pro", "pageview", "example", "10"},
			hostile...)
		if f.Op == Matches || f.Op == MatchesNot {
			values = []string{
				"^/", "a|b", "(?i)GOOGLE", "[0-9]+$", ".", "", `\.com`, "ü", "^/.$", `\\`, "e.b", `\x00`,
				"[^/]+/[^/]+",
			}
		}
		switch f.Op {
		case MatchesWildcard, MatchesWildcardNot:
			values = append(values, "/*", "/**", "*", "**", "/*/*", "*/b", "/a*", `\*`, `/\*`, `\\`, `\\*`,
				"/日*", "*.com", "*\x00*", "/*\n**", "/Ü*")
		case Is, IsNot:
			values = slices.DeleteFunc(values, func(v string) bool { return strings.Contains(v, "*") })
		}
		f.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
		f.IgnoreCase = f.Op != Matches && f.Op != MatchesNot && rapid.Bool().Draw(t, "ignore case")
		return f
	})
}
