package history

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"nowcast/internal/site"
)

// sumOf is a row of `imported`.
type sumOf struct {
	day, dim, value string
	known           uint8
	// visitors, visits, page views, events, bounces, milliseconds
	counts [6]uint64
}

// putImport stores an import as the importer does.
func putImport(t *testing.T, domain, id string, batch uint64, at time.Time, sums []sumOf) {
	t.Helper()
	db := database(t)
	b, err := db.PrepareBatch(t.Context(), "INSERT INTO imported (batch, site, day, dim, value, known, "+
		"visitors, visits, pageviews, events, bounces, duration_ms, at)")
	if err != nil {
		t.Fatal(err)
	}
	first, last := sums[0].day, sums[0].day
	for _, s := range sums {
		first, last = min(first, s.day), max(last, s.day)
		day, _ := time.Parse(time.DateOnly, s.day)
		c := s.counts
		if err := b.Append(batch, domain, day, s.dim, s.value, s.known, c[0], c[1], c[2], c[3], c[4], c[5],
			at); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(t.Context(), fmt.Sprintf("INSERT INTO imports (site, id, batch, format, name, at, "+
		"first, last, days, sums, skipped, version) VALUES ('%s', '%s', %d, 'other', '', "+
		"fromUnixTimestamp64Milli(%d), '%s', '%s', 1, 1, map(), %d)", domain, id, batch, at.UnixMilli(),
		first, last, batch)); err != nil {
		t.Fatal(err)
	}
}

const allKnown = 63

// importedSums are of three days. The tool gave no page views by source, and of the last day only visitors.
var importedSums = []sumOf{
	{"2026-09-30", "", "", allKnown, [6]uint64{10, 20, 40, 50, 5, 200_000}},
	{"2026-09-30", "visit:source", "Google", 51, [6]uint64{6, 12, 0, 0, 3, 120_000}},
	{"2026-09-30", "visit:source", "", 51, [6]uint64{4, 8, 0, 0, 2, 80_000}},
	{"2026-09-30", "event:page", "/", 15, [6]uint64{9, 18, 30, 40, 0, 0}},
	{"2026-09-30", "event:page", "/b", 15, [6]uint64{2, 2, 10, 10, 0, 0}},
	{"2026-09-30", "visit:entry_page", "/", allKnown, [6]uint64{9, 20, 40, 50, 5, 200_000}},
	{"2026-10-01", "", "", allKnown, [6]uint64{1, 2, 3, 4, 1, 2_000}},
	{"2026-10-01", "event:page", "/c", 15, [6]uint64{1, 1, 3, 3, 0, 0}}, // without pages of entries
	{"2026-10-01", "visit:city", "Köln", 1, [6]uint64{1}},
	{"2026-10-05", "", "", 1, [6]uint64{7}},
	{"2026-10-20", "visit:device", "Tablet", 1, [6]uint64{3}},
}

// ownEvents are two visits: /, /a from Google on October 10th, and /c on October 11th.
func ownEvents() []event {
	at := time.Date(2026, 10, 10, 12, 0, 0, 0, time.UTC)
	e := event{at: at, visitor: 1, kind: "pageview", name: "pageview", path: "/", source: "Google",
		city: "Köln", fresh: true, interactive: true}
	next, other := e, e
	next.at, next.offset, next.path = at.Add(10*time.Second), 1, "/a"
	other.at, other.offset, other.visitor = at.Add(24*time.Hour), 2, 2
	other.path, other.source, other.city = "/c", "", ""
	return []event{e, next, other}
}

type importsWorld struct {
	*testing.T
	e *Engine
	s Site
}

func newImportsWorld(t *testing.T) *importsWorld {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	e := newEngine(t, database(t), Config{Now: func() time.Time { return now }})
	w := &importsWorld{t, e, Site{Domain: strings.ToLower(t.Name()), Timezone: "Europe/Berlin",
		Since: time.Date(2026, 10, 7, 12, 0, 0, 0, time.UTC)}}
	return w
}

// ask returns the rows of a question, and what the answer says of imports.
func (w *importsWorld) ask(question string) (rows string, r Response) {
	w.Helper()
	var q Query
	if !strings.Contains(question, "date_range") {
		question += `,"date_range":["2026-09-01","2026-10-31"]`
	}
	const include = `{"site_id":"x","include":{"imports":true,"total_rows":true},`
	if err := json.Unmarshal([]byte(include+question+"}"), &q); err != nil {
		w.Fatal(question, err)
	}
	r, err := w.e.Run(w.Context(), public, w.s, q)
	if err != nil {
		w.Fatal(question, err)
	}
	return strings.ReplaceAll(strings.TrimSpace(describe(r.Results)), "\n", "; "), r
}

// importAnswers are questions of the range of all imports and events.
var importAnswers = []struct{ question, want string }{
	{`"metrics":["visitors"]`, `[] 20`},
	// One day has visitors alone.
	{`"metrics":["visits","pageviews","events","views_per_visit","bounce_rate","visit_duration"]`,
		`[] null null null null null null`},
	{`"metrics":["visits","pageviews","events","views_per_visit","bounce_rate","visit_duration"],` +
		`"date_range":["2026-09-01","2026-09-30"]`, `[] 20 40 50 2 25 10`},
	{`"metrics":["visitors","visits","bounce_rate"],"dimensions":["time:day"]`,
		`["2026-09-30"] 10 20 25; ["2026-10-01"] 1 2 50; ["2026-10-05"] 7 null null; ` +
			`["2026-10-10"] 1 1 0; ["2026-10-11"] 1 1 100`},
	{`"metrics":["visitors","visits"],"dimensions":["time:month"]`,
		`["2026-09-01"] 10 20; ["2026-10-01"] 10 null`},
	{`"metrics":["visitors"],"dimensions":["time:week"],"date_range":["2026-09-30","2026-10-12"]`,
		`["2026-09-30"] 11; ["2026-10-05"] 9`},
	{`"metrics":["visitors","visits","pageviews","views_per_visit","bounce_rate","percentage"],` +
		`"dimensions":["visit:source"]`,
		`["Google"] 7 13 null null 23 35; ["Direct / None"] 5 9 null null 33 25`},
	{`"metrics":["visitors","pageviews","bounce_rate","visit_duration"],"dimensions":["event:page"]`,
		// Of the import's visits on /c nobody knows whether they entered there.
		`["/"] 10 31 24 10; ["/b"] 2 10 null null; ["/c"] 2 4 null null; ["/a"] 1 1 null null`},
	{`"metrics":["visitors"],"dimensions":["event:page"],"order_by":[["event:page","desc"]],` +
		`"pagination":{"limit":2,"offset":1}`, `["/b"] 2; ["/a"] 1`},
	{`"metrics":["bounce_rate"],"dimensions":["event:page"]`, `["/"] 24; ["/c"] null`},
	{`"metrics":["visits","views_per_visit"],"dimensions":["visit:entry_page"]`, `["/"] 21 2; ["/c"] 1 1`},
	{`"metrics":["visits","scroll_depth","exit_rate"],"dimensions":["event:page"],` +
		`"pagination":{"limit":1}`, `["/"] 19 null null`},
	// Of the day with sums by device is no total.
	{`"metrics":["visitors","percentage"],"dimensions":["visit:device"],` +
		`"date_range":["2026-10-05","2026-10-31"]`, `["Tablet"] 3 null; ["(not set)"] 2 null`},
	{`"metrics":["visitors"],"dimensions":["visit:city_name"]`, `["Köln"] 2; ["(not set)"] 1`},
	{`"metrics":["visitors"],"dimensions":["time:month","visit:source"]`,
		`["2026-09-01" "Google"] 6; ["2026-09-01" "Direct / None"] 4; ` +
			`["2026-10-01" "Direct / None"] 1; ["2026-10-01" "Google"] 1`},
}

// What was imported and what Nowcast counted add up, whether its days are sealed or not. A metric that an
// import doesn't know is null.
func TestImports(t *testing.T) {
	for _, rolled := range []bool{false, true} {
		t.Run(map[bool]string{false: "open", true: "sealed"}[rolled], func(t *testing.T) {
			w := newImportsWorld(t)
			berlin, _ := time.LoadLocation(w.s.Timezone)
			putIn(t, w.s.Domain, berlin, ownEvents(), nil)
			if rolled {
				sealing{site: w.s.Domain, days: daysOf(ownEvents(), berlin), rolled: true}.put(t)
			}
			putImport(t, w.s.Domain, "imp_a", uint64(len(t.Name())), w.e.cfg.Now(), importedSums)
			for _, c := range importAnswers {
				got, r := w.ask(c.question)
				if got != c.want || r.Meta.ImportsIncluded == nil ||
					!*r.Meta.ImportsIncluded || r.Meta.ImportsSkipReason != "" {
					t.Errorf("%s:\ngot  %s, %+v\nwant %s", c.question, got, r.Meta, c.want)
				}
			}
		})
	}
}

// An answer says why it is without imports, and then has what Nowcast counted.
func TestImportsSkipped(t *testing.T) {
	w := newImportsWorld(t)
	putIn(t, w.s.Domain, nil, ownEvents(), nil)
	check := func(question, want, rows string) {
		t.Helper()
		got, r := w.ask(question)
		m := r.Meta
		warns := want == unsupportedQuery || want == unsupportedInterval
		if m.ImportsIncluded == nil || *m.ImportsIncluded != (want == "") || m.ImportsSkipReason != want ||
			(m.ImportsWarning != "") != warns || got != rows {
			t.Errorf("%s: got %s, %+v, want %s %q", question, got, m, rows, want)
		}
	}
	check(`"metrics":["visitors"]`, noImports, "[] 2")
	check(`"metrics":["visitors"],"filters":[["is","event:page",["/"]]]`, noImports, "[] 1")
	check(`"metrics":["visitors"],"date_range":"all","dimensions":["time:month"]`, noImports,
		`["2026-10-01"] 2`)
	putImport(t, w.s.Domain, "imp_a", 11, w.e.cfg.Now(), importedSums)
	check(`"metrics":["visitors"]`, "", "[] 20")
	const sources = `"metrics":["visitors"],"dimensions":["visit:source","visit:city"]`
	for question, rows := range map[string]string{
		sources: `["Direct / None" "(not set)"] 1; ["Google" "Köln"] 1`,
		`"metrics":["visitors"],"filters":[["is","event:page",["/"]]]`:                      "[] 1",
		`"metrics":["visitors"],"dimensions":["event:props:plan"]`:                          `["(none)"] 2`,
		`"metrics":["visitors"],"dimensions":["event:goal"]`:                                "",
		`"metrics":["visitors"],"date_range":["2026-09-30T12:00:00","2026-10-31T12:00:00"]`: "[] 2",
	} {
		check(question, unsupportedQuery, rows)
	}
	check(`"metrics":["visitors"],"dimensions":["time:hour"]`, unsupportedInterval,
		`["2026-10-10 14:00:00"] 1; ["2026-10-11 14:00:00"] 1`)
	check(`"metrics":["visitors"],"dimensions":["time"],"date_range":["2026-10-05","2026-10-06"]`,
		unsupportedInterval, "")
	check(`"metrics":["visitors"],"date_range":["2026-10-21","2026-10-31"]`, importsOutOfRange, "[] 0")
	check(`"metrics":["visitors"],"date_range":["2026-09-01","2026-09-29"]`, importsOutOfRange, "[] 0")
	// Between the days of an import is none of its sums.
	check(`"metrics":["visitors","bounce_rate"],"date_range":["2026-10-02","2026-10-02"]`, "", "[] 0 null")

	var q Query
	if err := json.Unmarshal([]byte(`{"site_id":"x","metrics":["visitors"],`+
		`"date_range":["2026-09-01","2026-10-31"]}`), &q); err != nil {
		t.Fatal(err)
	}
	r, err := w.e.Run(t.Context(), public, w.s, q)
	if err != nil || describe(r.Results) != "[] 2\n" || r.Meta.ImportsIncluded != nil {
		t.Errorf("without include.imports: got %s %+v %v", describe(r.Results), r.Meta, err)
	}
}

// "All" begins on the first imported day if imports are included.
func TestImportsBeginAll(t *testing.T) {
	w := newImportsWorld(t)
	first := func(question string) string {
		t.Helper()
		_, r := w.ask(question + `,"date_range":"all"`)
		return r.Query.DateRange[0][:len(time.DateOnly)]
	}
	putImport(t, w.s.Domain, "imp_a", 21, w.e.cfg.Now(), importedSums)
	const months = `"metrics":["visitors"],"dimensions":["time:month"]`
	if got := first(months); got != "2026-09-30" {
		t.Errorf("without own events: all begins on %s", got)
	}
	putIn(t, w.s.Domain, nil, ownEvents(), nil)
	for question, want := range map[string]string{
		months:                 "2026-09-30",
		`"metrics":["visits"]`: "2026-09-30",
		`"metrics":["visits"],"dimensions":["time:hour"]`:            "2026-10-10",
		`"metrics":["visits"],"filters":[["is","event:page",["/"]]]`: "2026-10-10",
	} {
		if got := first(question); got != want {
			t.Errorf("%s: all begins on %s, want %s", question, got, want)
		}
	}
}

// Imports that were taken back, never arrived whole, or are of a former site count nowhere; several that
// count add up, and an answer with imports is not kept.
func TestImportsThatCount(t *testing.T) {
	w := newImportsWorld(t)
	berlin, _ := time.LoadLocation(w.s.Timezone)
	putIn(t, w.s.Domain, berlin, ownEvents(), nil)
	sealing{site: w.s.Domain, days: []localDate{dateOf(ownEvents()[0].at), dateOf(ownEvents()[2].at)},
		rolled: true}.put(t)
	check := func(what, want string) {
		t.Helper()
		if got, _ := w.ask(`"metrics":["visitors"]`); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	now := w.e.cfg.Now()
	day := []sumOf{{"2026-09-30", "", "", 1, [6]uint64{100}}}
	putImport(t, w.s.Domain, "imp_a", 31, now, importedSums)
	check("one", "[] 20")
	putImport(t, w.s.Domain, "imp_b", 32, now.Add(-time.Hour), day)
	check("two", "[] 120")
	putImport(t, w.s.Domain+".other", "imp_a", 33, now, day)
	check("another site's", "[] 120")
	w.s.ImportsSince = now.Add(-time.Minute)
	check("a former site's", "[] 20")
	w.s.ImportsSince = time.Time{}
	exec := func(sql string) { sealing{}.exec(t, fmt.Sprintf(sql, w.s.Domain)) }
	exec("ALTER TABLE imports DELETE WHERE site = '%s' AND id = 'imp_a' SETTINGS mutations_sync = 2")
	check("taken back, its sums still stored", "[] 102")
	exec("ALTER TABLE imports DELETE WHERE site = '%s' SETTINGS mutations_sync = 2")
	check("all taken back", "[] 2")
	// The rows of sealed days don't change, but imports of them do.
	sealed := func(want string) {
		t.Helper()
		got, _ := w.ask(`"metrics":["visitors"],"date_range":["2026-10-10","2026-10-11"]`)
		if got != want {
			t.Errorf("of sealed days: got %s, want %s", got, want)
		}
	}
	day[0].day = "2026-10-10"
	putImport(t, w.s.Domain, "imp_c", 34, now, day)
	sealed("[] 102")
	day[0].counts[0] = 1000
	putImport(t, w.s.Domain, "imp_d", 35, now, day)
	sealed("[] 1102")
}

// Only imports of a former site of the same name don't count; those of before the site's first event do.
func TestSiteOfImports(t *testing.T) {
	created := time.Date(2026, 10, 7, 12, 0, 0, 500, time.UTC)
	st := site.Site{Created: created}
	if got := siteOf(st).ImportsSince; !got.IsZero() {
		t.Errorf("without a former site: got %s", got)
	}
	st.Previous = created.Add(-time.Hour)
	if got := siteOf(st).ImportsSince; !got.Equal(created.Truncate(time.Second)) {
		t.Errorf("with a former site: got %s", got)
	}
}
