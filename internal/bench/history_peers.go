package main

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The tables of other programs, in the form of their public schemas, filled from the same events.
//
//go:embed sql/*.sql
var peerFiles embed.FS

// peer is another program: how its tables are asked. Its statements name the table's columns.
type peer struct {
	name           string
	visits, events string // tables of visits and of events
	site, at       string // columns of events
	start          string // column of visits
	visitor        string // exact or approximate, as the program counts
	totals         string // of the table of visits
	columns        map[string]string
	join           string // column by which visits are found by their events
}

var peerList = []peer{
	{
		name:    "plausible",
		visits:  "plausible_sessions",
		events:  "plausible_events",
		site:    "site_id",
		at:      "timestamp",
		start:   "start",
		visitor: "uniq(user_id)",
		join:    "session_id",
		totals: `uniq(user_id), sum(sign), sum(sign * pageviews), sum(sign * pageviews) / sum(sign),
			100 * sum(sign * is_bounce) / sum(sign), sum(sign * duration) / sum(sign)`,
		columns: map[string]string{"event:page": "pathname", "event:name": "name",
			"event:props:plan": "`meta.value`[indexOf(`meta.key`, 'plan')]", "visit:entry_page": "entry_page",
			"visit:exit_page": "exit_page", "visit:source": "referrer_source",
			"visit:channel":  "acquisition_channel",
			"visit:referrer": "referrer", "visit:utm_campaign": "utm_campaign",
			"visit:country": "country_code",
			"visit:city":    "city", "visit:device": "screen_size", "visit:browser": "browser",
			"visit:os": "operating_system"},
	},
	{name: "umami", events: "umami_event", site: "website_id", at: "created_at", visitor: "uniq(session_id)",
		totals: `uniq(session_id), uniq(visit_id), sum(c), sum(c) / uniq(visit_id),
			100 * countIf(c = 1) / count(),
			sum(last - first) / count() FROM (SELECT session_id, visit_id, countIf(event_type = 1) AS c,
			min(created_at) AS first, max(created_at) AS last`,
		columns: map[string]string{
			"event:page":         "url_path",
			"event:name":         "event_name",
			"event:props:plan":   "plan",
			"visit:source":       "referrer_domain",
			"visit:utm_campaign": "utm_campaign",
			"visit:country":      "country",
			"visit:city":         "city",
			"visit:device":       "device",
			"visit:browser":      "browser",
			"visit:os":           "os",
		}},
	{name: "rybbit", events: "rybbit_events", site: "site_id", at: "timestamp",
		visitor: "count(DISTINCT session_id)",
		totals: `count(DISTINCT user_id), count(DISTINCT session_id), sum(c),
			sum(c) / count(DISTINCT session_id),
			100 * countIf(c = 1) / count(), sum(last - first) / count() FROM (SELECT any(user_id) AS user_id,
			session_id, countIf(type = 'pageview') AS c, min(timestamp) AS first, max(timestamp) AS last`,
		columns: map[string]string{"event:page": "pathname", "event:name": "event_name",
			"event:props:plan": "props['plan']", "visit:source": "referrer", "visit:channel": "channel",
			"visit:utm_campaign": "url_parameters['utm_campaign']", "visit:country": "country",
			"visit:city": "city", "visit:device": "device_type", "visit:browser": "browser",
			"visit:os": "operating_system"}},
}

// statements are the questions of a page that the program can answer. Where it has no table of visits it
// counts them from events at each question.
func (p peer) statements(site string, from, to time.Time, set []comparison) (all []string) {
	between := func(column string) string {
		return fmt.Sprintf(
			"%s = '%s' AND %s >= '%s' AND %s < '%s'",
			p.site,
			site,
			column,
			from.Format(time.DateTime),
			column,
			to.Format(time.DateTime),
		)
	}
	events, ofEvents := between(p.at), false
	visits := between(p.start)
	for _, c := range set {
		condition := fmt.Sprintf(
			" AND %s = '%s'",
			p.columns[c.dimension],
			strings.ReplaceAll(c.value, "'", "''"),
		)
		events += condition
		if p.visits != "" && strings.HasPrefix(c.dimension, "event:") {
			ofEvents = true
			continue
		}
		visits += condition
	}
	if ofEvents {
		visits += fmt.Sprintf(" AND %s IN (SELECT %s FROM %s WHERE %s)", p.join, p.join, p.events, events)
	}
	if p.visits != "" {
		all = append(all, "SELECT "+p.totals+" FROM "+p.visits+" WHERE "+visits)
	} else {
		group := map[string]string{"umami": "session_id, visit_id", "rybbit": "session_id"}[p.name]
		all = append(all, "SELECT "+p.totals+" FROM "+p.events+" WHERE "+events+" GROUP BY "+group+")")
	}
	all = append(
		all,
		fmt.Sprintf("SELECT toDate(%s) AS d, %s FROM %s WHERE %s GROUP BY d ORDER BY d", p.at, p.visitor,
			p.events, events),
	)
	for _, c := range cards {
		column, ok := p.columns[c]
		if !ok {
			continue
		}
		table, where := p.events, events
		if p.visits != "" && !strings.HasPrefix(c, "event:") {
			table, where = p.visits, visits
		}
		all = append(
			all,
			fmt.Sprintf("SELECT %s AS v, %s AS n FROM %s WHERE %s GROUP BY v ORDER BY n DESC, v LIMIT 10",
				column, p.visitor, table, where),
		)
	}
	return all
}

// askPeers fills the tables of other programs, and prints how long their answers take beside ours.
func (b *historyBench) askPeers(ctx context.Context) error {
	for _, file := range []string{"peer_events", "plausible", "umami", "rybbit"} {
		begin := time.Now()
		sql, err := peerFiles.ReadFile("sql/" + file + ".sql")
		if err != nil {
			return err
		}
		for _, statement := range strings.Split(string(sql), ";\n") {
			if err := b.db.Exec(ctx, statement); err != nil {
				return fmt.Errorf("fill the tables of %s: %w", file, err)
			}
		}
		logf("tables of %s are filled after %v", file, time.Since(begin).Round(time.Second))
	}
	site := historySites[0]
	filters, err := b.filtersOf(ctx, site)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: p50 in ms, and as a multiple of ours\n%-5s %-8s %10s", site, "", "", "nowcast")
	for _, p := range peerList {
		fmt.Printf(" %20s", p.name)
	}
	fmt.Println()
	for _, r := range historyRanges {
		_, from, to := daysOf(r)
		for _, f := range filters {
			ours := b.ours[r+" "+f.name]
			fmt.Printf("%-5s %-8s %10.1f", r, f.name, float64(ours)/1e6)
			for _, p := range peerList {
				took, err := b.askPeer(ctx, p, site, from, to, f)
				if err != nil {
					return err
				}
				fmt.Printf(" %10.1f %8.1fx", float64(took)/1e6, float64(took)/float64(max(1, ours)))
			}
			fmt.Println()
		}
	}
	return nil
}

// askPeer returns the median of a program's answers.
func (b *historyBench) askPeer(
	ctx context.Context,
	p peer,
	site string,
	from, to time.Time,
	f historyFilter,
) (
	time.Duration, error) {
	var all []time.Duration
	for _, set := range f.sets {
		for _, statement := range p.statements(site, from, to, set) {
			begin := time.Now()
			rows, err := b.db.Query(ctx, statement)
			if err == nil {
				err = drain(rows)
			}
			if err != nil {
				return 0, fmt.Errorf("ask %s: %w", p.name, err)
			}
			all = append(all, time.Since(begin))
		}
	}
	slices.Sort(all)
	return quantile(all, .5), nil
}

func drain(rows driver.Rows) error {
	for rows.Next() {
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return rows.Err()
}
