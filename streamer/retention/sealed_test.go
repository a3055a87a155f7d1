package retention

import (
	"fmt"
	"testing"
	"time"

	"nowcast/streamer/streamertest"
)

// Sealed copies of days of which every event has expired are deleted, and days that lose a part are marked.
func TestSealed(t *testing.T) {
	db := streamertest.ClickHouse(t)
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{
		"INSERT INTO events (site, ts, day) SELECT 'a', toDateTime('2026-10-01 00:30:00', 'UTC') + " +
			"number * 3600 AS ts, " +
			"toDate(ts) FROM numbers(58 * 24)",
		"INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events",
		"INSERT INTO seals (site, day, seal, marks) SELECT DISTINCT site, day, 7, 1 FROM events",
		"INSERT INTO visits (seal, site, day) SELECT 7, site, day FROM events",
		"INSERT INTO hits (seal, site, day) SELECT 7, site, day FROM events",
		"INSERT INTO rollups (seal, site, span, day) SELECT 7, site, 'day', day FROM events",
		"INSERT INTO rollups (seal, site, span, day) VALUES (7, 'a', 'month', '2026-10-01'), (7, " +
			"'a', 'month', '2026-09-01')",
	} {
		if err := db.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newWorker(db, Policy{Default: 41}).Delete(t.Context(), now); err != nil {
		// from 2026-10-20 12:00
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"SELECT toString(min(day)) FROM marks":                               "2026-10-19",
		"SELECT toString(min(day)) FROM seals":                               "2026-10-19",
		"SELECT toString(min(day)) FROM visits":                              "2026-10-19",
		"SELECT toString(min(day)) FROM hits":                                "2026-10-19",
		"SELECT toString(min(day)) FROM rollups WHERE span = 'day'":          "2026-10-19",
		"SELECT toString(groupArray(day)) FROM rollups WHERE span = 'month'": "['2026-10-01']",
		"SELECT toString(sum(n)) FROM marks WHERE day = '2026-10-20'":        "3",
		// its events before noon are deleted
		"SELECT toString(sum(n)) FROM marks WHERE day = '2026-10-21'": "1",
		"SELECT toString(min(ts)) FROM events":                        "2026-10-20 12:30:00.000",
	} {
		var got string
		if err := db.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Error(fmt.Sprintf("%s: %s, want %s:", query, got, want), err)
		}
	}
}
