package history

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"text/template"
	"time"

	"nowcast/internal/hits"
)

// sealing stores days of a site as the sealer does.
type sealing struct {
	site string
	days []localDate
	// rolled stores sums; monthly also those of the months of the days
	rolled, monthly bool
}

var sealedColumns = strings.Fields("source channel referrer utm_source utm_medium utm_campaign utm_content " +
	"utm_term country region city device screen browser browser_version os os_version language")

const sealedHits = "site, day, who, visit, alone, n, nth, ts, utc_offset, kind, name, hostname, page, " +
	"next, props, engaged_ms, scroll_depth, revenue_micros, currency, start, pageviews, duration_ms, " +
	"bounced, entry, exit"

// put writes marks, rows and the seal of the days.
func (s sealing) put(t testing.TB) {
	t.Helper()
	if len(s.days) == 0 {
		return
	}
	var list []string
	for _, d := range s.days {
		list = append(list, fmt.Sprintf("'%s'", d))
	}
	days := strings.Join(list, ", ")
	fold, err := hits.Select(fmt.Sprintf("site = '%s' AND events.day IN (%s)", s.site, days), "number")
	if err != nil {
		t.Fatal(err)
	}
	var spans []string
	if s.rolled {
		spans = append(spans, "day")
	}
	if s.monthly {
		spans = append(spans, "month")
	}
	statements, err := template.ParseFiles("testdata/sealing.sql")
	if err != nil {
		t.Fatal(err)
	}
	var sql strings.Builder
	err = statements.Execute(&sql, map[string]any{
		"Site": s.site, "Seal": rand.Uint64() | 1, "Days": days, "Fold": fold, "Hits": sealedHits,
		"OfVisits": strings.Join(sealedColumns, ", "), "Columns": sealedColumns, "Spans": spans,
		"Rules": hits.Rules, "Rolled": s.rolled, "Monthly": s.monthly,
	})
	if err != nil {
		t.Fatal(err)
	}
	for one := range strings.SplitSeq(sql.String(), ";\n") {
		s.exec(t, one)
	}
}

func (s sealing) exec(t testing.TB, sql string) {
	t.Helper()
	if err := database(t).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
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
