package behaviour_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"nowcast/internal/hits"
)

// mark says that days have changed, as whatever changes rows of events does.
func (w *world) mark(days ...string) {
	w.Helper()
	for _, d := range days {
		w.exec(fmt.Sprintf("INSERT INTO marks (site, day, n) VALUES ('%s', '%s', 1)", w.site, d))
	}
}

// seal stores the hits of days under one seal, in the plainest way.
func (w *world) seal(days ...string) {
	w.Helper()
	const columns = `site, day, who, visit, alone, n, nth, ts, utc_offset, kind, page, next, name, hostname,
		props, revenue_micros, currency, source, channel, referrer, utm_source, utm_medium, utm_campaign,
		utm_content, utm_term, country, region, city, device, screen, browser, browser_version, os,
		os_version, language, user, engaged_ms, scroll_depth, start, pageviews, duration_ms, bounced,
		entry, exit`
	w.mark(days...)
	seal := rand.Uint64() | 1
	where := "site = '" + w.site + "' AND day IN ('" + strings.Join(days, "', '") + "')"
	fold, err := hits.Select(where, "number")
	if err != nil {
		w.Fatal(err)
	}
	w.exec(fmt.Sprintf("INSERT INTO hits (seal, %[1]s) SELECT %[2]d, %[1]s FROM (%[3]s) "+
		"ORDER BY cityHash64(who, n) "+ // hits of the same time are in any order
		"SETTINGS enable_named_columns_in_function_tuple = 1", columns, seal, fold))
	for dim, column := range map[string]string{"page": "path", "referrer": "referrer"} {
		w.exec(fmt.Sprintf("INSERT INTO names (site, dim, key, value) SELECT DISTINCT site, '%s', "+
			"cityHash64(%s), %[2]s FROM events WHERE %s", dim, column, where))
	}
	for _, d := range days {
		w.exec(fmt.Sprintf("INSERT INTO seals (site, day, seal, marks, rules, version) SELECT '%s', '%s', "+
			"%d, sum(n), %d, 1 FROM marks WHERE site = '%[1]s' AND day = '%[2]s'", w.site, d, seal,
			hits.Rules))
	}
}

func (w *world) exec(sql string) {
	w.Helper()
	if err := w.db.Exec(w.Context(), sql); err != nil {
		w.Fatalf("%v: %s", err, sql)
	}
}
