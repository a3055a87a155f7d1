package history

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"nowcast/internal/hits"
)

// sealing stores days of a site as the sealer does, in the plainest way.
type sealing struct {
	site string
	seal uint64
	days []localDate
	// rolled stores sums; monthly also those of the months of the days
	rolled, monthly bool
}

var visitSums = []string{"source", "channel", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_content",
	"utm_term", "country", "region", "city", "device", "screen", "browser", "browser_version", "os", "os_version",
	"language"}

const sealedColumns = `source, channel, referrer, utm_source, utm_medium, utm_campaign, utm_content, utm_term,
	country, region, city, device, screen, browser, browser_version, os, os_version, language, user`

// put writes marks, rows and the seal of the days.
func (s sealing) put(t testing.TB) {
	t.Helper()
	if s.seal = rand.Uint64() | 1; len(s.days) == 0 {
		return
	}
	var list []string
	for _, d := range s.days {
		list = append(list, fmt.Sprintf("'%s'", d))
	}
	days := strings.Join(list, ", ")
	own := fmt.Sprintf("site = '%s' AND seal = %d", s.site, s.seal)
	fold, err := hits.Select(fmt.Sprintf("site = '%s' AND events.day IN (%s)", s.site, days), "number")
	if err != nil {
		t.Fatal(err)
	}
	const settings = " SETTINGS enable_named_columns_in_function_tuple = 1"
	for _, sql := range []string{
		fmt.Sprintf("INSERT INTO marks (site, day, n) SELECT '%s', toDate(arrayJoin([%s])), 1", s.site, days),
		fmt.Sprintf("INSERT INTO hits (seal, site, day, who, visit, alone, n, nth, ts, utc_offset, kind, "+
			"name, hostname, page, next, props, engaged_ms, scroll_depth, revenue_micros, currency, start, "+
			"pageviews, duration_ms, bounced, entry, exit, %s) SELECT %d, site, day, who, visit, alone, n, nth, "+
			"ts, utc_offset, kind, name, hostname, page, next, props, engaged_ms, scroll_depth, revenue_micros, "+
			"currency, start, pageviews, duration_ms, bounced, entry, exit, %s FROM (%s)",
			sealedColumns, s.seal, sealedColumns, fold) + settings,
		fmt.Sprintf("INSERT INTO visits (seal, site, day, who, visit, alone, start, utc_offset, pageviews, "+
			"events, duration_ms, bounced, entry, exit, %s) SELECT seal, site, day, who, visit, any(alone), "+
			"any(start), argMin(utc_offset, n), any(pageviews), count(), any(duration_ms), any(bounced), "+
			"any(entry), any(exit), %s FROM hits WHERE %s GROUP BY seal, site, day, who, visit",
			sealedColumns, "any("+strings.ReplaceAll(strings.ReplaceAll(sealedColumns, "\n\t", " "), ", ",
				"), any(")+")", own),
		fmt.Sprintf("INSERT INTO names (site, dim, key, value) SELECT DISTINCT site, v.1, cityHash64(v.2), v.2 "+
			"FROM (SELECT site, arrayJoin([('page', path), ('referrer', referrer), ('name', toString(name)), "+
			"('hostname', toString(hostname)), %s]) AS v FROM events WHERE site = '%s' AND day IN (%s))",
			s.pairs(visitSums), s.site, days),
	} {
		s.exec(t, sql)
	}
	if s.rolled {
		s.roll(t, "day", "day", own)
		s.hours(t, own)
	}
	if s.monthly {
		s.roll(t, "month", "toStartOfMonth(day)", own)
	}
	for _, d := range s.days {
		s.exec(t, fmt.Sprintf("INSERT INTO seals (site, day, seal, marks, rules, rolled, monthly, version) "+
			"SELECT '%s', '%s', %d, sum(n), %d, %t, %t, toUnixTimestamp64Micro(now64(6)) FROM marks "+
			"WHERE site = '%[1]s' AND day = '%[2]s'", s.site, d, s.seal, hits.Rules, s.rolled, s.monthly))
	}
}

func (s sealing) pairs(columns []string) string {
	var out []string
	for _, c := range columns {
		out = append(out, fmt.Sprintf("('%s', toString(%[1]s))", c))
	}
	return strings.Join(out, ", ")
}

func (s sealing) exec(t testing.TB, sql string) {
	t.Helper()
	if err := database(t).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
}

// roll stores the sums of spans.
func (s sealing) roll(t testing.TB, span, day, own string) {
	t.Helper()
	dims := []string{"('', toUInt64(0))", "('entry_page', entry)", "('exit_page', exit)",
		"('referrer', referrer)"}
	for _, c := range visitSums {
		if c != "referrer" {
			dims = append(dims, fmt.Sprintf("('%s', cityHash64(%[1]s))", c))
		}
	}
	const columns = "INSERT INTO rollups (seal, site, segment, dim, span, day, key, visitors, visits, pageviews, " +
		"events, views, entries, bounces, duration_ms, engaged_ms, engaged_visits, scroll_depth, " +
		"scrolled_visits, exits) "
	s.exec(t, fmt.Sprintf(columns+"SELECT %d, site, 0, d.1 AS dim, '%s', %s AS of, d.2 AS key, "+
		"uniqExact((day, who)), count(), sum(v.pageviews), sum(v.events), sum(v.pageviews), count(), "+
		"countIf(bounced), sum(v.duration_ms), 0, 0, 0, 0, 0 FROM (SELECT *, arrayJoin([%s]) AS d FROM visits "+
		"WHERE %s) AS v GROUP BY site, dim, of, key", s.seal, span, day, strings.Join(dims, ", "), own))
	s.exec(t, fmt.Sprintf(columns+"SELECT %d, site, 0, dim, '%s', %s AS of, key, uniqExact((day, who)), "+
		"count(), sum(p), sum(e), sum(all), countIf(at), countIf(at AND b), "+
		"sumIf(ms, at), sum(engaged), countIf(engaged > 0), sum(depth), countIf(depth > 0), "+
		"countIf(key = exit) FROM (SELECT site, day, d.1 AS dim, d.2 AS key, who, visit, "+
		"countIf(kind = 'pageview') AS p, count() AS e, any(pageviews) AS all, dim != 'page' OR key = any(entry) AS at, "+
		"any(exit) AS exit, any(bounced) AS b, any(duration_ms) AS ms, sum(engaged_ms) AS engaged, "+
		"max(scroll_depth) AS depth FROM (SELECT *, arrayJoin([('page', page), ('name', cityHash64(name)), "+
		"('hostname', cityHash64(hostname))]) AS d FROM hits WHERE %s) GROUP BY site, day, dim, key, who, visit) "+
		"GROUP BY site, dim, of, key", s.seal, span, day, own))
}

// hours stores the sums of the local hours of days.
func (s sealing) hours(t testing.TB, own string) {
	t.Helper()
	s.exec(t, fmt.Sprintf("INSERT INTO rollups (seal, site, dim, span, day, hour, visitors, visits, pageviews, "+
		"events, views, entries, bounces, duration_ms) SELECT %d, site, '', 'hour', day, hour, sum(a), sum(b), "+
		"sum(c), sum(d), sum(e), sum(b), sum(f), sum(g) FROM (SELECT site, day, toHour(ts + "+
		"toIntervalSecond(utc_offset)) AS hour, uniqExact(who) AS a, 0 AS b, countIf(kind = 'pageview') AS c, "+
		"count() AS d, 0 AS e, 0 AS f, 0 AS g FROM hits WHERE %s GROUP BY site, day, hour UNION ALL "+
		"SELECT site, day, toHour(start + toIntervalSecond(utc_offset)) AS hour, 0, count(), 0, 0, "+
		"sum(pageviews), countIf(bounced), sum(duration_ms) FROM visits WHERE %s GROUP BY site, day, hour) "+
		"GROUP BY site, day, hour", s.seal, own, own))
}

// daysOf returns the local dates of events.
func daysOf(events []event, zone *time.Location) (out []localDate) {
	seen := map[localDate]bool{}
	for _, e := range events {
		if d := dateOf(e.at.In(zone)); !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}
