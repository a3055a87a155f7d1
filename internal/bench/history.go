package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/warehouse"
)

// historySites have shares of the events that fall by a power law: the first one is large, the second one of
// middle size, the last one small.
var historySites = []string{"large.example.com", "middle.example.com", "small.example.com"}

// benchHistory asks what a page of the dashboard asks, over a past of many events.
func benchHistory(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("history", flag.ContinueOnError)
	events := flags.Int("events", 1_000_000, "stored events")
	peers := flags.Bool("peers", true, "ask tables in the form of Plausible, Umami and Rybbit the same")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	ends, err := s.endpoints()
	if err != nil {
		return err
	}
	for _, domain := range historySites {
		if err := addOldSite(ctx, ends.Kafka, domain, time.Now().AddDate(-1, -1, 0)); err != nil {
			return err
		}
	}
	db, err := warehouse.Open(ends.Clickhouse)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it only reads from here on
	if err := fillPast(ctx, s, db, ends.Clickhouse, *events); err != nil {
		return err
	}
	b := &historyBench{s: s, db: db, client: &http.Client{}}
	if err := b.ask(ctx); err != nil {
		return err
	}
	if *peers {
		if err := b.askPeers(ctx); err != nil {
			return err
		}
	}
	b.summary()
	return nil
}

// fillPast writes a past of a year and waits until all of its days are sealed.
func fillPast(ctx context.Context, s *server, db *warehouse.DB, clickhouse string, events int) error {
	begin := time.Now()
	load := exec.CommandContext(ctx, nowcastBinary, "load", "--history", "12mo", "--events",
		strconv.Itoa(events), "--clickhouse", clickhouse, "--site", strings.Join(historySites, ","))
	load.Stderr = os.Stderr
	if err := load.Run(); err != nil {
		return fmt.Errorf("write the past: %w", err)
	}
	logf("%d events are written after %v", events, time.Since(begin).Round(time.Second))
	begin = time.Now()
	before := s.usages()
	var err error
	wait := waitFor(ctx, 4*time.Hour, func() bool {
		var open uint64
		err = db.QueryRow(
			ctx,
			`SELECT count() FROM (SELECT site, day, sum(n) AS n FROM marks GROUP BY site, day) AS m
			LEFT JOIN (SELECT site, day, marks FROM seals FINAL) AS s USING (site, day) WHERE m.n != s.marks`,
		).Scan(
			&open,
		)
		return err != nil || open == 0
	})
	if err := errors.Join(err, wait); err != nil {
		return fmt.Errorf("wait for the seals: %w", err)
	}
	var cpu time.Duration
	for i, u := range s.usages() {
		if i < len(before) {
			cpu += u.cpu - before[i].cpu
		}
	}
	fmt.Printf("sealed %d events in %v, %v of CPU an event\n", events,
		time.Since(begin).Round(time.Second), (cpu / time.Duration(events)).Round(100*time.Nanosecond))
	return printSizes(ctx, db, events)
}

// printSizes prints the bytes an event of each table.
func printSizes(ctx context.Context, db *warehouse.DB, events int) error {
	rows, err := db.Query(ctx, `SELECT table, sum(bytes_on_disk) FROM system.parts
		WHERE active AND table IN ('events', 'visits', 'hits', 'rollups', 'names', 'seals', 'marks')
		GROUP BY table ORDER BY table`)
	if err != nil {
		return fmt.Errorf("read the sizes of tables: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var table string
		var size uint64
		if err := rows.Scan(&table, &size); err != nil {
			return fmt.Errorf("read the sizes of tables: %w", err)
		}
		fmt.Printf("%-8s %5.1f bytes an event\n", table, float64(size)/float64(events))
	}
	return rows.Err()
}

// historyBench has the times of answers.
type historyBench struct {
	s       *server
	db      *warehouse.DB
	client  *http.Client
	all     []time.Duration // of every question when it was asked first
	page    []time.Duration // of the page of the range and filter asked last, in one request
	refused int
	ours    map[string]time.Duration // median by range and filter, of the large site
}

// cards are the dimensions of a page's cards.
var cards = []string{"event:page", "visit:entry_page", "visit:exit_page", "visit:source", "visit:channel",
	"visit:referrer", "visit:utm_campaign", "visit:country", "visit:city", "visit:device", "visit:browser",
	"visit:os"}

var historyRanges = []string{"1d", "7d", "30d", "12mo"}

// comparison is a filter: a dimension has a value.
type comparison struct{ dimension, value string }

// historyFilter is a kind of filter, with values that nobody has asked for before.
type historyFilter struct {
	name string
	sets [][]comparison // each a page's filters
}

// filtersOf finds values of a site to filter by: some of many rows, some of few.
func (b *historyBench) filtersOf(ctx context.Context, site string) ([]historyFilter, error) {
	some := func(column, condition string) ([]string, error) {
		var all []string
		q := "SELECT groupArray(v) FROM (SELECT toString(" + column + ") AS v FROM events WHERE site = '" +
			site +
			"' AND " + condition + " GROUP BY v ORDER BY count() DESC LIMIT 5)"
		err := b.db.QueryRow(ctx, q).Scan(&all)
		return all, err
	}
	pages, err := some("path", "kind = 'pageview'")
	sources, err2 := some("source", "source != ''")
	countries, err3 := some("country", "country != ''")
	names, err4 := some("name", "kind = 'custom'")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("find values to filter by: %w", err)
	}
	of := func(dimension string, values ...string) (out [][]comparison) {
		for _, v := range values {
			out = append(out, []comparison{{dimension, v}})
		}
		return out
	}
	two := historyFilter{name: "two"}
	for i := range min(len(sources), len(countries)) {
		two.sets = append(
			two.sets,
			[]comparison{{"visit:source", sources[i]}, {"visit:country", countries[i]}},
		)
	}
	return []historyFilter{{"none", [][]comparison{nil}}, {"page", of("event:page", pages...)},
		{"source", of("visit:source", sources...)}, {"country", of("visit:country", countries...)}, two,
		{"goal", of("event:name", names...)}, {"prop", of("event:props:plan", "free", "pro", "team")}}, nil
}

// filterJSON writes filters as a query has them.
func filterJSON(set []comparison) string {
	var all []string
	for _, c := range set {
		all = append(all, fmt.Sprintf(`["is",%q,[%q]]`, c.dimension, c.value))
	}
	return strings.Join(all, ",")
}

// questions are those of a page: totals, their comparison, a line and the cards.
func questions(site, dates, before, filter string) (all []string) {
	q := func(rest, dates string) string {
		return fmt.Sprintf(`{"site_id":%q,"date_range":%s,"filters":[%s],%s}`, site, dates, filter, rest)
	}
	const tiles = `"metrics":["visitors","visits","pageviews","views_per_visit","bounce_rate",
		"visit_duration"]`
	all = append(all, q(tiles, dates), q(tiles, before),
		q(`"metrics":["visitors"],"dimensions":["time"],"include":{"time_labels":true}`, dates))
	for _, c := range cards {
		all = append(
			all,
			q(fmt.Sprintf(`"metrics":["visitors"],"dimensions":[%q],"pagination":{"limit":10}`, c),
				dates),
		)
	}
	return all
}

// daysOf returns a range of local days that ends before today, and the one before it: the first days of
// three, each the end of the range before.
func daysOf(name string) (before, from, to time.Time) {
	to = time.Now().UTC().Truncate(24 * time.Hour)
	if name == "12mo" {
		to = time.Date(to.Year(), to.Month(), 1, 0, 0, 0, 0, time.UTC)
		return to.AddDate(-2, 0, 0), to.AddDate(-1, 0, 0), to
	}
	days := map[string]int{"1d": 1, "7d": 7, "30d": 30}[name]
	return to.AddDate(0, 0, -2*days), to.AddDate(0, 0, -days), to
}

// datesOf writes a range of days as a query has it.
func datesOf(from, to time.Time) string {
	return fmt.Sprintf(`["%s","%s"]`, from.Format(time.DateOnly), to.AddDate(0, 0, -1).Format(time.DateOnly))
}

// ask asks every question of every page once, and then the whole page again.
func (b *historyBench) ask(ctx context.Context) error {
	b.ours = map[string]time.Duration{}
	const line = "%-20s %-5s %-8s %27s %27s %27s\n"
	fmt.Printf("\n"+line, "ms: p50 p95 worst", "", "", "a question, first", "the same again",
		"a page in one request")
	for i, site := range historySites {
		filters, err := b.filtersOf(ctx, site)
		if err != nil {
			return err
		}
		for _, r := range historyRanges {
			for _, f := range filters {
				first, again, err := b.askPages(ctx, site, r, f)
				if err != nil {
					return err
				}
				fmt.Printf(line, site, r, f.name, threeQuantiles(first), threeQuantiles(again),
					threeQuantiles(b.page))
				b.all = append(b.all, first...)
				if i == 0 && len(first) > 0 {
					b.ours[r+" "+f.name] = quantile(first, .5)
				}
			}
		}
	}
	return nil
}

// askPages asks for pages with each value of a filter.
func (b *historyBench) askPages(ctx context.Context, site, r string, f historyFilter) (
	first, again []time.Duration, err error) {
	earlier, from, end := daysOf(r)
	dates, before := datesOf(from, end), datesOf(earlier, from)
	b.page = nil
	for _, set := range f.sets {
		filter := filterJSON(set)
		took, err := b.post(ctx, "/api/v2/dashboard", page(site, dates, before, filter))
		if err != nil {
			return nil, nil, err
		}
		b.page = append(b.page, took)
		for _, to := range []*[]time.Duration{&first, &again} {
			for _, q := range questions(site, dates, before, filter) {
				took, err := b.post(ctx, "/api/v2/query", q)
				if err != nil {
					return nil, nil, err
				}
				*to = append(*to, took)
			}
		}
	}
	slices.Sort(first)
	slices.Sort(again)
	slices.Sort(b.page)
	return first, again, nil
}

// post asks a question and returns how long the answer took.
func (b *historyBench) post(ctx context.Context, path, body string) (time.Duration, error) {
	begin := time.Now()
	status, err := b.s.post(ctx, b.client, path, body, b.s.key)
	if err == nil && status != http.StatusOK {
		b.refused++
		logf("%d: %s", status, body)
	}
	return time.Since(begin), err
}

// page is all of a page in one request. Its cards have more metrics than the single questions, so that their
// answers aren't known already.
func page(site, dates, before, filter string) string {
	var all []string
	for _, c := range cards {
		all = append(all, fmt.Sprintf(`{"dimension":%q,"metrics":["visitors","visits"],"limit":10}`, c))
	}
	return fmt.Sprintf(`{"site_id":%q,"date_range":%s,"filters":[%s],"cards":[%s],
		"comparison":{"mode":"custom","date_range":%s}}`, site, dates, filter, strings.Join(all, ","), before)
}

// threeQuantiles are p50, p95 and the maximum of sorted times, in ms.
func threeQuantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "no values"
	}
	ms := func(q float64) float64 { return float64(quantile(d, q)) / 1e6 }
	return fmt.Sprintf("%8.1f %8.1f %8.1f", ms(.5), ms(.95), ms(1))
}

func (b *historyBench) summary() {
	slices.Sort(b.all)
	fmt.Printf("\np95_ms=%.1f worst_ms=%.1f refused=%d\n", float64(quantile(b.all, .95))/1e6,
		float64(quantile(b.all, 1))/1e6, b.refused)
}
