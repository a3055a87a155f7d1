package history

import (
	"errors"
	"strings"
	"testing"
	"time"

	"nowcast/internal/site"
)

// No statement reads before the site was created, whatever the query asks for: the domain may have had
// another site.
func TestNothingIsReadBeforeCreation(t *testing.T) {
	created := time.Date(2026, 11, 20, 10, 30, 20, 5e8, time.UTC)
	removed := created.Add(-10 * time.Second)
	made := siteOf(site.Site{Domain: "example.com", Created: created, Previous: removed})
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	const since, minute = "1795170620000", "1795170660" // 10:30:20 in ms, 10:31:00
	for _, row := range []struct{ dates, body string }{
		{`"30d"`, `"metrics":["pageviews"]`},
		{`["2026-11-01","2026-11-22"]`, `"metrics":["visits"]`},
		{`["2026-11-20","2026-11-20"]`,
			`"metrics":["visits","bounce_rate"],"dimensions":["visit:entry_page"]`},
		{`["2026-11-20T10:30:30Z","2026-11-20T11:00:00Z"]`, `"metrics":["visits"]`},
		{`["2026-10-01","2026-10-02"]`, `"metrics":["pageviews"]`},
	} {
		var q Query
		body := `{"site_id":"x","date_range":` + row.dates + `,` + row.body + `}`
		if err := q.UnmarshalJSON([]byte(body)); err != nil {
			t.Fatal(err)
		}
		r := &recorder{fail: errors.New("no more")}
		e := newEngine(t, r, Config{Threads: 1, Now: func() time.Time { return now }})
		_, _ = e.Run(t.Context(), public, made, q)
		bounds := 0
		for line := range strings.Lines(r.sent.String()) {
			name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "-- ")), " = ")
			if ok && (name == "from" || name == "open0") {
				bounds++
				if strings.Trim(value, `"`) < since {
					t.Errorf("%s %s: %s is %s, want at least %s", row.dates, row.body, name, value, since)
				}
			}
		}
		if bounds == 0 {
			t.Errorf("%s: no bound in %s", row.dates, r.sent.String())
		}
	}
	for dates, want := range map[[2]string]string{
		{"2026-11-01", "2026-11-22"}: minute, {"2026-11-22", "2026-11-22"}: "1795305600",
	} {
		r := &recorder{fail: errors.New("no more")}
		e := newEngine(t, r, Config{Threads: 1, Now: func() time.Time { return now }})
		_, _ = e.Ledger(t.Context(), public, made, LedgerRange{From: dates[0], To: dates[1]})
		if !strings.Contains(r.sent.String(), `-- from = "`+want+`"`) {
			t.Errorf("ledger of %s, want from %s:\n%s", dates, want, r.sent.String())
		}
	}
}
