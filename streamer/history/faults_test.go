package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nowcast/internal/warehouse"
)

func views(from time.Time, n int, path func(i int) string) []event {
	out := make([]event, n)
	for i := range out {
		out[i] = event{
			at: from.Add(time.Duration(i) * time.Second), visitor: uint64(i), offset: uint64(i),
			kind: "pageview", name: "pageview", path: path(i), fresh: true,
		}
	}
	return out
}

// A site without events, and a range without, have zeros and no means.
func TestNothing(t *testing.T) {
	e := newEngine(t, database(t), Config{})
	for _, name := range rangeNames {
		r, err := e.Run(
			t.Context(), public, Site{Domain: "nobody.example", Timezone: "Asia/Tokyo"},
			Query{Metrics: metrics, DateRange: DateRange{Name: name}, Include: Include{TotalRows: true}},
		)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(r)
		want := `{"results":[{"metrics":[0,0,0,0,null,null,null,null],"dimensions":[]}],` +
			`"meta":{"total_rows":1},"query":`
		if err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %s %v", name, b, err)
		}
		r, err = e.Run(
			t.Context(),
			public,
			Site{Domain: "nobody.example", Timezone: ""},
			Query{
				Metrics: metrics, Dimensions: []string{"time"}, DateRange: DateRange{Name: name},
				Include: Include{TotalRows: true},
			},
		)
		if err != nil || len(r.Results) != 0 || *r.Meta.TotalRows != 0 {
			t.Errorf("%s by time: %+v %v", name, r, err)
		}
	}
}

// What a filter says is a value and nothing else, however long and odd.
func TestHostileValues(t *testing.T) {
	from := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	all := append(
		[]string{
			strings.Repeat("x", 10_000), strings.Repeat(`\'"%`, 2_500), strings.Repeat("日", 3_000) + "\n",
			"a\x00", "\x00", "\r\n\t\b\f\v\x1b\x7f", `\x41`, `\0`, "`", "$$", "\u2028",
		},
		hostile[1:]...)
	put(t, t.Name(), views(from, len(all), func(i int) string { return all[i] }), nil)
	e := newEngine(t, database(t), Config{})
	for i, v := range all {
		for _, f := range []Filter{
			{Op: Is, Dimension: "event:page", Values: []string{v}},
			{Op: Is, Dimension: "event:page", Values: []string{"no", v, "'"}},
			{Op: Is, Dimension: "visit:entry_page", Values: []string{v}},
			{Op: Not, Filters: []Filter{{Op: IsNot, Dimension: "event:page", Values: []string{v}}}},
		} {
			q := Query{
				Metrics: []Metric{Events}, DateRange: DateRange{From: "2026-05-04", To: "2026-05-04"},
				Dimensions: []string{"event:page"}, Filters: []Filter{f},
			}
			r, err := e.Run(t.Context(), public, Site{Domain: t.Name()}, q)
			if err != nil || len(r.Results) != 1 || r.Results[0].Dimensions[0] != v ||
				*r.Results[0].Metrics[0] != 1 {
				t.Errorf("%d %.40q %s: %.200v %v", i, v, f.Op, r.Results, err)
			}
		}
		for _, s := range []string{"event:props:" + v, "event:page"} {
			f := Filter{Op: Contains, Dimension: s, Values: []string{v + "!"}}
			if len(v) > maxProp && s != "event:page" {
				continue
			}
			r, err := e.Run(
				t.Context(), public, Site{Domain: t.Name()},
				Query{Metrics: []Metric{Events}, DateRange: DateRange{Name: "all"}, Filters: []Filter{f}},
			)
			if err != nil || *r.Results[0].Metrics[0] != 0 {
				t.Errorf("%d %.40q contained in %.40q: %.200v %v", i, v, s, r.Results, err)
			}
		}
		q := Query{Metrics: metrics, DateRange: DateRange{Name: "all"}}
		r, err := e.Run(t.Context(), public, Site{Domain: v, Timezone: ""}, q)
		if err != nil ||
			*r.Results[0].Metrics[0] != 0 {
			t.Errorf("site %.40q: %v", v, err)
		}
	}
	// The most that the decoder lets through, each byte of it escaped.
	var q Query
	long, _ := json.Marshal(strings.Repeat("\n\\", 5_000))
	in := fmt.Sprintf(
		`{"site_id":"a","metrics":["visits"],"date_range":"all","filters":[["is","event:page",[%s]]]}`,
		strings.TrimSuffix(strings.Repeat(string(long)+",", 10), ","),
	)
	if err := json.Unmarshal([]byte(in), &q); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(t.Context(), public, Site{Domain: t.Name()}, q); err != nil {
		t.Errorf("100 kB of filters: %.300v", err)
	}
}

// A pattern that only ClickHouse refuses is an error of the client.
func TestPatternOnlyClickHouseRefuses(t *testing.T) {
	put(t, t.Name(), views(time.Now(), 3, func(int) string { return "/" }), nil)
	e := newEngine(t, database(t), Config{})
	for _, p := range []string{
		"(", "[a", `\p{Nonsense}`, "(?=x)", strings.Repeat("(a{1,900}){1,900}", 3), `(?<n>a)`, `\Qx`, "x**",
	} {
		q := Query{
			Metrics: []Metric{Events}, DateRange: DateRange{Name: "day"},
			Filters: []Filter{{Op: Matches, Dimension: "event:page", Values: []string{p}}},
		}
		_, err := e.Run(t.Context(), public, Site{Domain: t.Name()}, q)
		var bad *Invalid
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("%.40q: %v", p, err)
		}
	}
}

func TestTooBig(t *testing.T) {
	from := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	put(t, t.Name(), views(from, 20_000, func(i int) string { return fmt.Sprint("/", i) }), nil)
	q := Query{
		Metrics: []Metric{Visits, Visitors}, DateRange: DateRange{From: "2026-05-04", To: "2026-05-05"},
		Dimensions: []string{"event:page"},
	}
	for _, cfg := range []Config{{Rows: 1000}, {Memory: 1 << 20}} {
		_, err := newEngine(t, database(t), cfg).Run(t.Context(), public, Site{Domain: t.Name()}, q)
		var big *TooBig
		if !errors.As(err, &big) {
			t.Errorf("%+v: got %v, want *TooBig", cfg, err)
		}
	}
	// The next one is not worse off for it.
	r, err := newEngine(t, database(t), Config{}).Run(t.Context(), public, Site{Domain: t.Name()}, q)
	if err != nil ||
		len(r.Results) != maxLimit {
		t.Errorf("%d rows, %v", len(r.Results), err)
	}
}

func TestAway(t *testing.T) {
	db, err := warehouse.Open("unix://" + filepath.Join(t.TempDir(), "nobody.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = newEngine(
		t, db, Config{},
	).Run(
		t.Context(), public, Site{Domain: "a", Timezone: ""},
		Query{Metrics: []Metric{Events}, DateRange: DateRange{Name: "all"}},
	)
	var away *Unavailable
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "try again") ||
		strings.Contains(err.Error(), "sock") {
		t.Errorf("got %v, want *Unavailable", err)
	}
}

func TestUnknownZone(t *testing.T) {
	_, err := newEngine(
		t, &recorder{}, Config{},
	).Run(
		t.Context(), public, Site{Domain: "a", Timezone: "Mars/Olympus"},
		Query{Metrics: []Metric{Events}, DateRange: DateRange{Name: "day"}},
	)
	if err == nil || !strings.Contains(err.Error(), `the site's time zone "Mars/Olympus" is not known`) {
		t.Errorf("got %v", err)
	}
}

// History agrees with the live view: by the second, it is the sum of the windows of all partitions and of
// the late events, which no window has.
func TestHistoryIsWhatWasLive(t *testing.T) {
	type numbers struct {
		pageviews, events int
		visitors          map[uint64]bool
	}
	add := func(to map[int64]*numbers, e event) {
		n := to[e.at.Unix()]
		if n == nil {
			n = &numbers{visitors: map[uint64]bool{}}
			to[e.at.Unix()] = n
		}
		n.events++
		n.visitors[e.visitor] = true
		if e.kind == "pageview" {
			n.pageviews++
		}
	}
	from := time.Date(2026, 5, 4, 23, 40, 0, 0, time.UTC) // over midnight, when ids change
	r := rand.New(rand.NewPCG(3, 4))
	var events []event
	windows, late := map[int64]*numbers{}, map[int64]*numbers{}
	for i := range 4000 {
		at := from.Add(time.Duration(r.Int64N(int64(40 * time.Minute)))).Truncate(time.Millisecond)
		e := event{
			at: at, visitor: visitorID(r.IntN(300), at), offset: uint64(i), path: "/",
			kind: "pageview", name: "pageview", fresh: r.IntN(9) > 0, late: r.IntN(20) == 0,
		}
		switch r.IntN(5) {
		case 0:
			e.kind, e.name, e.interactive = "custom", "Signup", true
		case 1:
			e.kind, e.name = "engagement", "engagement"
		}
		events = append(events, e)
		switch {
		case e.kind == "engagement":
		case e.late:
			add(late, e)
		default:
			add(windows, e)
		}
	}
	put(t, t.Name(), events, func(i int) bool { return i%3 == 0 })
	q := Query{
		Metrics: []Metric{Pageviews, Visitors, Events}, Dimensions: []string{"time:second"},
		DateRange: DateRange{From: "2026-05-04T23:40:00Z", To: "2026-05-05T00:19:59Z"},
	}
	got, err := newEngine(t, database(t), Config{}).Run(t.Context(), public, Site{Domain: t.Name()}, q)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range got.Results {
		at, err := time.Parse(time.DateTime, row.Dimensions[0])
		if err != nil {
			t.Fatal(err)
		}
		want := numbers{visitors: map[uint64]bool{}}
		for _, n := range []*numbers{windows[at.Unix()], late[at.Unix()]} {
			if n != nil {
				want.pageviews += n.pageviews
				want.events += n.events
				maps.Copy(want.visitors, n.visitors)
			}
		}
		if history := [3]float64{*row.Metrics[0], *row.Metrics[1], *row.Metrics[2]}; history != [3]float64{
			float64(want.pageviews), float64(len(want.visitors)), float64(want.events),
		} {
			t.Errorf("%s: history says %v, live and late %+v", row.Dimensions[0], history, want)
		}
		delete(windows, at.Unix())
		delete(late, at.Unix())
	}
	if len(windows)+len(late) > 0 {
		t.Errorf("history lacks %d seconds", len(windows)+len(late))
	}
}
