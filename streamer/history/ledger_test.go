package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLedgerStatements(t *testing.T) {
	for golden, minutes := range map[string]bool{"ledger_minutes": true, "ledger_total": false} {
		r := &recorder{fail: errors.New("no more")}
		_, err := newEngine(
			t, r, Config{Threads: 1},
		).Ledger(
			t.Context(), public, Site{Domain: "'; DROP TABLE ledger", Timezone: "Europe/Berlin"},
			LedgerRange{"2026-10-20", "2026-10-26", minutes},
		)
		var away *Unavailable
		if !errors.As(err, &away) {
			t.Errorf("%s: %v", golden, err)
		}
		file := filepath.Join("testdata", golden+".golden.sql")
		if *update {
			if err := os.WriteFile(file, []byte(r.sent.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(file); err != nil || r.sent.String() != string(want) {
			t.Errorf("%s differs (go test -update writes it): %v; sent:\n%s", file, err, r.sent.String())
		}
	}
}

func TestLedgerRanges(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 30, 5e8, time.UTC)
	for _, c := range []struct {
		from, to string
		minutes  bool
		want     string // from and to in UTC, or the error
	}{
		{"", "", true, "2026-11-23T11:00:31Z 2026-11-23T12:00:31Z"},
		{"2026-11-01", "2026-11-01", true, "2026-10-31T23:00:00Z 2026-11-01T23:00:00Z"},
		// a week of 169 hours
		{"2026-10-20", "2026-10-26", true, "2026-10-19T22:00:00Z 2026-10-26T23:00:00Z"},
		{"2026-11-01T10:00:00Z", "2026-11-01T10:59:59Z", true, "2026-11-01T10:00:00Z 2026-11-01T11:00:00Z"},
		{"2026-01-01", "2026-12-31", false, "2025-12-31T23:00:00Z 2026-12-31T23:00:00Z"},
		{"2026-11-01", "2026-11-08", true,
			"from: minutes are given for at most 7 days; ask for a shorter time, or for the total with " +
				"by=total"},
		{"2026-11-01", "", true, "to: give it with from, or neither for the last hour"},
		{"", "2026-11-01", true, "from: give it with to, or neither for the last hour"},
		{"2026-11-02", "2026-11-01", true, "to: it is before from"},
		{"2026-11-02", "2026-11-03T10:00:00Z", true,
			"to: give from and to as two dates or as two times, not one of each"},
		{"yesterday", "2026-11-01", true,
			`from: "yesterday" is neither a date such as 2026-11-01 nor a time such as 2026-11-01T12:00:00Z`},
	} {
		berlin, _ := zone("Europe/Berlin")
		s, err := (LedgerRange{c.from, c.to, c.minutes}).span(now, berlin)
		got := s.From.UTC().Format(time.RFC3339) + " " + s.To.UTC().Format(time.RFC3339)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s to %s: got %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// Of rows that were written again the highest version counts; other sites and other times don't.
func TestLedgerOfRows(t *testing.T) {
	db := database(t)
	now := time.Date(2026, 11, 23, 12, 0, 30, 0, time.UTC)
	b, err := db.PrepareBatch(
		t.Context(),
		"INSERT INTO ledger (site, minute, kpart, koff, received, counted, late, stale, duplicate, "+
			"dropped, version)",
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		site    string
		minute  int // before now
		part    int
		koff    uint64
		n       [5]uint64
		dropped map[string]uint64
		version uint64
	}{
		{"ledger.example", 0, 0, 7, [5]uint64{1, 1, 0, 0, 0}, nil, 7},
		{"ledger.example", 0, 0, 7, [5]uint64{9, 5, 1, 0, 1}, map[string]uint64{"bot": 2}, 9},
		{"ledger.example", 0, 0, 7, [5]uint64{4, 4, 0, 0, 0}, nil, 8}, // a zombie's, that landed late
		{"ledger.example", 0, 1, 3, [5]uint64{3, 0, 0, 0, 0}, map[string]uint64{"bot": 1, "prefetch": 2}, 3},
		{"ledger.example", 1, 0, 1, [5]uint64{2, 2, 0, 0, 0}, nil, 1},
		{"ledger.example", 2, 0, 1, [5]uint64{3, 1, 1, 1, 0}, nil, 1},
		{"ledger.example", 90, 0, 0, [5]uint64{100, 100, 0, 0, 0}, nil, 1},
		{"other.example", 0, 0, 7, [5]uint64{1, 1, 0, 0, 0}, nil, 7},
	} {
		minute := now.Add(-time.Duration(x.minute) * time.Minute).Truncate(time.Minute)
		err := b.Append(x.site, minute, uint16(x.part), x.koff,
			x.n[0], x.n[1], x.n[2], x.n[3], x.n[4], x.dropped, x.version)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, db, Config{Now: func() time.Time { return now }})
	for r, want := range map[LedgerRange]string{
		{Minutes: true}: `{"from":"2026-11-23T11:00:00Z","to":"2026-11-23T12:00:31Z",` +
			`"total":{"received":17,"counted":8,"late":2,"stale":1,"duplicate":1,"dropped":{"bot":3,` +
			`"prefetch":2}},` +
			`"minutes":[{"at":"2026-11-23T11:58:00Z","received":3,"counted":1,"late":1,"stale":1,` +
			`"duplicate":0,"dropped":{},"settled":true},` +
			`{"at":"2026-11-23T11:59:00Z","received":2,"counted":2,"late":0,"stale":0,"duplicate":0,` +
			`"dropped":{},"settled":false},` +
			`{"at":"2026-11-23T12:00:00Z","received":12,"counted":5,"late":1,"stale":0,"duplicate":1,` +
			`"dropped":{"bot":3,"prefetch":2},"settled":false}]}`,
		{From: "2026-11-23T12:00:10Z", To: "2026-11-23T12:00:20Z"}: `{"from":"2026-11-23T12:00:00Z",` +
			`"to":"2026-11-23T12:00:21Z","total":{"received":12,"counted":5,"late":1,"stale":0,` +
			`"duplicate":1,"dropped":{"bot":3,"prefetch":2}},"minutes":[]}`,
		{From: "2026-11-22", To: "2026-11-22"}: `{"from":"2026-11-22T00:00:00Z",` +
			`"to":"2026-11-23T00:00:00Z","total":{"received":0,"counted":0,"late":0,"stale":0,` +
			`"duplicate":0,"dropped":{}},"minutes":[]}`,
	} {
		l, err := e.Ledger(t.Context(), public, Site{Domain: "ledger.example", Timezone: ""}, r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(l)
		if s := string(got); err != nil || s != want {
			t.Errorf("%+v: got %s\nwant %s", r, s, want)
		}
		if strings.Contains(fmt.Sprint(l.Total.Dropped), ":0") {
			t.Errorf("%v", l.Total.Dropped)
		}
	}
}

// A minute that is rolled up is read from the roll-up alone, from the time on that its record says.
func TestLedgerOfRolledUpMinutes(t *testing.T) {
	db := database(t)
	for _, s := range []string{
		"INSERT INTO ledger (site, minute, kpart, koff, received, counted, dropped) " +
			"SELECT 'rolled.example', '2020-01-01 00:00:00' + INTERVAL number DAY, 1, 1, 2, 1, " +
			"map('bot', 1) FROM numbers(3)",
		"INSERT INTO ledger_rollup (site, minute, received, counted, dropped, segments) " +
			"SELECT 'rolled.example', '2020-01-01 00:00:00' + INTERVAL number DAY, 20 + number, 5, " +
			"map('bot', 15 + number), 3 FROM numbers(3)",
		"INSERT INTO ledger_rollup (site, minute, received, segments) " + // of fewer segments
			"VALUES ('rolled.example', '2020-01-01 00:00:00', 999, 2)",
		"INSERT INTO rolled_up VALUES ('2020-01-02 00:00:00', now() - 1), " +
			"('2020-01-01 00:00:00', now() - 9), ('2020-01-03 00:00:00', now() + 3600)",
	} {
		if err := db.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	e := newEngine(t, db, Config{})
	l, err := e.Ledger(t.Context(), public, Site{Domain: "rolled.example"},
		LedgerRange{From: "2020-01-01", To: "2020-01-05", Minutes: true})
	if err != nil || len(l.Minutes) != 3 {
		t.Fatal(l, err)
	}
	var got []uint64
	for _, m := range l.Minutes {
		got = append(got, m.Received, m.Dropped["bot"])
	}
	if fmt.Sprint(got, l.Total.Received) != "[20 15 2 1 2 1] 24" {
		t.Error(got, l.Total)
	}
}
