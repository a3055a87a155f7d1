package history

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func zoneNames(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(b))
	if len(names) < 400 {
		t.Fatalf("only %d zones", len(names))
	}
	return names
}

// The local time that ClickHouse computes is Go's, in every zone, at random seconds and around every change
// of the clocks from 2015 to 2030.
func TestLocalTimes(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	r := rand.New(rand.NewPCG(15, 30))
	first, end := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range zoneNames(t) {
		s := span{From: first, To: end, Zone: load(t, name)}
		var instants []int64
		for range 300 {
			instants = append(instants, first.Unix()+r.Int64N(end.Unix()-first.Unix()))
		}
		for _, at := first.In(s.Zone).ZoneBounds(); !at.IsZero() && at.Before(end); _, at = at.ZoneBounds() {
			instants = append(instants, at.Unix()-1, at.Unix(), at.Unix()+1)
		}
		slices.Sort(instants)
		var wall strings.Builder
		if err := statements.ExecuteTemplate(&wall, "zone offset", "ts"); err != nil {
			t.Fatal(err)
		}
		q := statement{sql: "SELECT groupArray(toString(toDateTime(toInt64(" +
			"toUnixTimestamp(ts)) + " + wall.String() + ", 'UTC'))) FROM (SELECT " +
			"fromUnixTimestamp64Milli(arrayJoin({instants:Array(Int64)}) * 1000 + 999, 'UTC') AS ts)"}
		changes, offsets := s.offsets()
		q.bind("changes", changes)
		q.bind("offsets", offsets)
		q.bind("instants", instants)
		var got []string
		err := e.db.run(t.Context(), q, func(r driver.Rows) error { return r.Scan(&got) })
		if err != nil || len(got) != len(instants) {
			t.Fatalf("%s: %d local times, want %d: %v", name, len(got), len(instants), err)
		}
		for i, at := range instants {
			want := time.Unix(at, 0).In(s.Zone).Format(time.DateTime)
			if got[i] != want {
				t.Errorf("%s at %d: %s, want %s", name, at, got[i], want)
				break
			}
		}
	}
}

// A bucket has the label of its row, also where clocks are a day ahead of or behind those of the zones around
// them, and in the zones whose offset ClickHouse has wrong.
func TestRowsAndLabels(t *testing.T) {
	db := database(t)
	now := time.Date(2026, 11, 30, 10, 40, 0, 0, time.UTC)
	at := time.Date(2026, 11, 30, 10, 36, 50, 0, time.UTC)
	domain := strings.ToLower(t.Name())
	put(t, domain, []event{{at: at, visitor: 1, offset: 1, kind: "pageview", name: "pageview", path: "/",
		fresh: true, interactive: true}}, nil)
	e := newEngine(t, db, Config{Now: func() time.Time { return now }})
	for _, zone := range []string{
		"Pacific/Apia", "Pacific/Kiritimati", "Pacific/Fakaofo", "Pacific/Kanton", "Pacific/Enderbury",
		"Pacific/Kwajalein", "Kwajalein", "Pacific/Tongatapu", "Pacific/Pago_Pago", "Pacific/Chatham",
		"Asia/Kathmandu", "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll", "Asia/Manila",
	} {
		local := at.In(load(t, zone))
		for dimension, layout := range map[string]string{
			"time:minute": "2006-01-02 15:04:00", "time:hour": "2006-01-02 15:00:00",
			"time:day": time.DateOnly, "time:month": "2006-01-",
		} {
			want := local.Format(layout)
			if dimension == "time:month" {
				want += "01"
			}
			q := Query{Metrics: []Metric{Visitors, Visits}, Dimensions: []string{dimension},
				DateRange: DateRange{Name: "day"}, Include: Include{TimeLabels: true}}
			got, err := e.Run(t.Context(), public, Site{Domain: domain, Timezone: zone}, q)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Results) != 1 || got.Results[0].Dimensions[0] != want ||
				*got.Results[0].Metrics[0] != 1 || *got.Results[0].Metrics[1] != 1 ||
				!slices.Contains(got.Meta.TimeLabels, want) {
				t.Errorf("%s by %s: %s labels %q, want %s", zone, dimension, describe(got.Results),
					got.Meta.TimeLabels, want)
			}
		}
	}
}

// A date that a zone skipped has no label.
func TestSkippedDay(t *testing.T) {
	s, err := (&DateRange{From: "2011-12-29", To: "2011-12-31"}).between(load(t, "Pacific/Apia"))
	if l := s.labels(day); err != nil || !slices.Equal(l, []string{"2011-12-29", "2011-12-31"}) {
		t.Errorf("%v %v", l, err)
	}
}
