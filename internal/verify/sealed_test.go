package verify

import (
	"strings"
	"testing"
	"time"

	"nowcast/streamer/streamertest"
)

// Sealed days are compared with their events, as long as they are current.
func TestSealedDays(t *testing.T) {
	db := streamertest.ClickHouse(t)
	for _, s := range []string{
		"INSERT INTO events (site, ts, id, kind, day) SELECT concat('s', toString(number)), " +
			"toDateTime('2026-11-12 10:00:00', 'UTC'), " +
			"leftPad(toString(number), 16, '0'), 'pageview', '2026-11-12' FROM numbers(6)",
		"INSERT INTO events (site, ts, id, kind, day) SELECT site, ts + 1, 'engagement------', " +
			"'engagement', day FROM events",
		"INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events",
		"INSERT INTO seals (site, day, seal, marks, events, digest) SELECT site, day, 7, 1 + (site " +
			"= 's5'), count() + (site = 's1'), " +
			"sum(cityHash64(id)) + (site = 's2') FROM events GROUP BY site, day",
		"INSERT INTO visits (seal, site, day, events) SELECT 7, site, day, 1 + (site = 's4') FROM " +
			"events WHERE kind = 'pageview'",
		"INSERT INTO hits (seal, site, day) SELECT 7, site, day FROM events WHERE kind = 'pageview' " +
			"AND site != 's3'",
	} {
		if err := db.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	day := time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC)
	r := newRun(Config{From: day, To: day.Add(time.Hour)}, nil, nil, db)
	if err := r.compareSealed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range r.report.Differences {
		got = append(got, d.Site+": "+d.What)
	}
	want := []string{"s1: the day was sealed with 3 events, and has 2", "s2: the day was sealed " +
		"with other events than it has",
		"s3: 0 hits are sealed of 1 page views and custom events",
		"s4: the sealed visits have 2 of 1 page views and custom events"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || r.report.SealedDays != 5 {
		t.Errorf("of %d days, differences\n%s\nwant\n%s", r.report.SealedDays, strings.Join(got, "\n"),
			strings.Join(want, "\n"))
	}
	only := newRun(Config{From: day, To: day.Add(time.Hour), Sites: []string{"s0"}}, nil, nil, db)
	if err := only.compareSealed(t.Context()); err != nil || only.report.SealedDays != 1 ||
		only.report.Different != 0 {
		t.Errorf("one site: %d days, %d differences, %v", only.report.SealedDays, only.report.Different, err)
	}
}
