package sealer

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// row is an event of a test.
type row struct {
	site       string
	day        int // since 1970
	at         int64
	offset     int32
	visitor    uint64
	place      uint64 // koff, which is also its id
	kind       string
	action     bool // interactive
	path, name string
	source     string
	country    string
	engaged    uint32
	depth      uint8
}

const firstDay = 20700 // 2026-09-04

// history returns random events of sites on three days, with visits of several events, pauses of about 30
// minutes and equal times.
func history(r *rand.Rand, visitors int) (all []row) {
	sites := []struct {
		name   string
		offset int32
		part   int
	}{{"big.example", 5*3600 + 45*60, 1}, {"west.example", -11 * 3600, 3}, {"old.example", -1, 9}}
	place := uint64(0)
	for _, st := range sites {
		for day := firstDay; day < firstDay+3; day++ {
			midnight := int64(day)*86_400_000 - clock(st.offset)*1000
			for v := range visitors / st.part {
				at := midnight + r.Int64N(20*3_600_000)
				first := row{site: st.name, day: day, offset: st.offset, visitor: uint64(day*1_000_000 + v),
					source:  pick(r, "", "Google", "Reddit"),
					country: pick(r, "DE", "FR", "")}
				for range 1 + r.IntN(6) {
					e := first
					place++
					e.at, e.place, e.kind = at, place, pick(r, "pageview", "pageview", "custom", "engagement")
					e.path, e.name, e.action = fmt.Sprint("/", r.IntN(9)), e.kind, r.IntN(2) == 0
					if e.kind == "custom" {
						e.name = pick(r, "Signup", "Play")
					}
					if e.kind == "engagement" {
						e.engaged, e.depth = r.Uint32N(60_000), uint8(r.IntN(101))
					}
					e.source = pick(r, first.source, "Other")
					if at < midnight+86_400_000 {
						all = append(all, e)
					}
					at += []int64{0, 1000, 60_000, 1_799_999, 1_800_000, 4_000_000}[r.IntN(6)]
				}
			}
		}
	}
	return all
}

// clock returns an offset from UTC; -1 is that of a row of before.
func clock(offset int32) int64 {
	if offset == -1 {
		return 0
	}
	return int64(offset)
}

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// store inserts events as the store lane does: rows, then marks. Some rows are there twice.
func (w *world) store(rows []row) {
	w.t.Helper()
	b, err := w.db.PrepareBatch(w.t.Context(), "INSERT INTO events (site, ts, visitor, id, koff, "+
		"kind, name, "+
		"hostname, path, source, country, interactive, engaged_ms, scroll_depth, day, utc_offset)")
	if err != nil {
		w.t.Fatal(err)
	}
	days := map[unit]bool{}
	for i, e := range rows {
		for range 1 + b2i(i%50 == 0) {
			err := b.Append(e.site, time.UnixMilli(e.at), e.visitor, fmt.Sprintf("%016d", e.place),
				e.place, e.kind,
				e.name, e.site, e.path, e.source, e.country, e.action, e.engaged, e.depth,
				time.Unix(int64(e.day)*86400, 0).UTC(), e.offset)
			if err != nil {
				w.t.Fatal(err)
			}
		}
		days[unit{e.site, uint16(e.day)}] = true
	}
	if err := b.Send(); err != nil {
		w.t.Fatal(err)
	}
	for u := range days {
		w.exec(fmt.Sprintf("INSERT INTO marks VALUES ('%s', toDate(%d), 1)", u.site, u.day))
	}
}

// sums are the counts of a row of rollups.
type sums struct {
	Visitors, Visits, Pageviews, Events, Views, Entries, Bounces, Duration uint64
	Engaged, EngagedVisits, Depth, ScrolledVisits, Exits                   uint64
}

// visit is a visit as the test counts it.
type visit struct {
	hits        []row
	engaged     []uint64 // by hit
	depth       []uint8
	views       uint64
	duration    uint64
	bounced     bool
	entry, exit string
}

// visitsOf cuts a visitor's events of a day into visits.
func visitsOf(events []row) (all []visit) {
	slices.SortFunc(events, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place))
	})
	for from := 0; from < len(events); {
		to := from + 1
		for to < len(events) && events[to].at-events[to-1].at < 30*60*1000 {
			to++
		}
		v := visit{bounced: true}
		for _, e := range events[from:to] {
			switch {
			case e.kind != "engagement":
				v.hits, v.engaged, v.depth = append(v.hits, e), append(v.engaged, 0), append(v.depth, 0)
				if e.kind == "pageview" {
					v.views++
					if v.entry == "" {
						v.entry = e.path
					}
					v.exit = e.path
				} else if e.action {
					v.bounced = false
				}
			case len(v.hits) > 0:
				last := len(v.hits) - 1
				v.engaged[last] += uint64(e.engaged)
				v.depth[last] = max(v.depth[last], e.depth)
			}
		}
		if len(v.hits) > 0 {
			v.bounced = v.bounced && v.views <= 1
			v.duration = uint64(events[to-1].at - v.hits[0].at)
			all = append(all, v)
		}
		from = to
	}
	return all
}

// wanted returns the rows of rollups that events have, by site, dimension, span, day, hour and value.
func wanted(rows []row) map[string]sums {
	out := map[string]sums{}
	by := map[string][]row{}
	for _, e := range rows {
		key := fmt.Sprint(e.site, e.day, "/", e.visitor)
		by[key] = append(by[key], e)
	}
	for _, events := range by {
		visitors := map[string]bool{} // groups in which this one has been counted
		for _, v := range visitsOf(events) {
			f := v.hits[0]
			hour := func(e row) string {
				local := e.at/1000 + clock(e.offset)
				return fmt.Sprintf("%s||hour|%d|%d|", e.site, e.day, local%86400/3600)
			}
			day := func(dim, value string) string {
				return fmt.Sprintf("%s|%s|day|%d|0|%s", f.site,
					dim, f.day, value)
			}
			begins := map[string]bool{hour(f): true, day("", ""): true, day("source", f.source): true,
				day("country", f.country): true, day("entry_page", v.entry): true, day("exit_page",
					v.exit): true}
			seen := map[string]sums{} // of the visit
			for i, e := range v.hits {
				for _, key := range []string{hour(e), day("", ""), day("source", f.source),
					day("country", f.country),
					day("entry_page", v.entry), day("exit_page", v.exit), day("page", e.path),
					day("name", e.name),
					day("hostname", e.site)} {
					x := seen[key]
					x.Events++
					if e.kind == "pageview" {
						x.Pageviews++
					}
					if strings.Contains(key, "|page|") || strings.Contains(key,
						"|name|") || strings.Contains(key, "|hostname|") {
						x.Engaged += v.engaged[i]
						x.Depth = max(x.Depth, uint64(v.depth[i]))
						begins[key] = true
					}
					seen[key] = x
				}
			}
			for key, x := range seen {
				if !visitors[key] {
					visitors[key], x.Visitors = true, 1
				}
				if begins[key] {
					x.Visits, x.Views = 1, v.views
					if !strings.Contains(key, "|page|") || strings.HasSuffix(key, "|"+v.entry) {
						x.Entries, x.Duration, x.Bounces = 1, v.duration, uint64(b2i(v.bounced))
					}
					if !strings.Contains(key, "|page|") || strings.HasSuffix(key, "|"+v.exit) {
						x.Exits = 1
					}
				}
				x.EngagedVisits, x.ScrolledVisits = min(1, x.Engaged), min(1, x.Depth)
				out[key] = out[key].plus(x)
			}
		}
	}
	return out
}

func (a sums) plus(b sums) sums {
	return sums{a.Visitors + b.Visitors, a.Visits + b.Visits, a.Pageviews + b.Pageviews, a.Events + b.Events,
		a.Views + b.Views, a.Entries + b.Entries, a.Bounces + b.Bounces, a.Duration + b.Duration,
		a.Engaged + b.Engaged, a.EngagedVisits + b.EngagedVisits, a.Depth + b.Depth,
		a.ScrolledVisits + b.ScrolledVisits, a.Exits + b.Exits}
}

// rollups returns what readers see: the rows of current seals, of the dimensions that the test counts.
func (w *world) rollups() map[string]sums {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), `
WITH current AS (SELECT site, day, seal FROM seals FINAL WHERE (site, day, marks) IN (SELECT site,
    day, sum(n) FROM marks GROUP BY site, day))
SELECT r.site, r.dim, toString(r.span), toUInt16(r.day), r.hour, n.value, r.visitors, r.visits,
    r.pageviews, r.events, r.views, r.entries,
    r.bounces, r.duration_ms, r.engaged_ms, r.engaged_visits, r.scroll_depth, r.scrolled_visits, r.exits
FROM (SELECT *, if(dim IN ('entry_page', 'exit_page'), 'page', dim) AS names_dim FROM rollups WHERE
    segment = 0
    AND ((site, day, seal) IN current OR span = 'month' AND (site, seal) IN (SELECT site, seal FROM
    current))) AS r
LEFT JOIN (SELECT * FROM names FINAL) AS n ON n.site = r.site AND n.dim = r.names_dim AND n.key = r.key
WHERE r.dim IN ('', 'source', 'country', 'entry_page', 'exit_page', 'page', 'name', 'hostname')`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]sums{}
	for rows.Next() {
		var site, dim, span, value string
		var day uint16
		var hour uint8
		var x sums
		if err := rows.Scan(&site, &dim, &span, &day, &hour, &value, &x.Visitors, &x.Visits,
			&x.Pageviews, &x.Events,
			&x.Views, &x.Entries, &x.Bounces, &x.Duration, &x.Engaged, &x.EngagedVisits, &x.Depth,
			&x.ScrolledVisits, &x.Exits); err != nil {
			w.t.Fatal(err)
		}
		key := fmt.Sprintf("%s|%s|%s|%d|%d|%s", site, dim, span, day, hour, value)
		if _, has := out[key]; has {
			w.t.Errorf("two rows of %s", key)
		}
		out[key] = x
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// days returns rollups without the rows of months.
func (w *world) days() map[string]sums {
	out := w.rollups()
	maps.DeleteFunc(out, func(key string, _ sums) bool { return strings.Contains(key, "|month|") })
	return out
}

// agree compares rollups, visits and hits with the events.
func (w *world) agree(what string, rows []row) {
	w.t.Helper()
	want, got := wanted(rows), w.days()
	n := 0
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			if n++; n < 5 {
				w.t.Errorf("%s: %s is\n%+v, want\n%+v", what, key, got[key], want[key])
			}
		}
	}
	if len(got) != len(want) || n > 0 {
		w.t.Errorf("%s: %d of %d rows differ, %d are there", what, n, len(want), len(got))
	}
	hits, visits := uint64(0), uint64(0)
	by := map[string][]row{}
	for _, e := range rows {
		hits += uint64(b2i(e.kind != "engagement"))
		key := fmt.Sprint(e.site, e.day, "/", e.visitor)
		by[key] = append(by[key], e)
	}
	for _, events := range by {
		visits += uint64(len(visitsOf(events)))
	}
	const named = " WHERE seal IN (SELECT seal FROM seals FINAL) AND (site, day, seal) IN (SELECT " +
		"site, day, seal FROM seals FINAL)"
	if h, v := w.number("SELECT count() FROM hits"+named), w.number("SELECT count() FROM "+
		"visits"+named); h != hits ||
		v != visits {
		w.t.Errorf("%s: %d hits and %d visits, want %d and %d", what, h, v, hits, visits)
	}
	if n := w.number("SELECT sum(events) FROM seals FINAL"); n != uint64(len(rows)) {
		w.t.Errorf("%s: seals have %d events, want %d", what, n, len(rows))
	}
}

// TestSeal compares what is sealed with counts by brute force: at first, with late rows, and from slices.
func TestSeal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows := history(rand.New(rand.NewPCG(1, 2)), 300)
	half := rows[:len(rows)-400]
	w.store(half)
	s := w.sealer(Config{Rolled: 1}, w.db)
	w.seal(s)
	w.agree("sealed", half)
	seals := w.number("SELECT uniqExact(seal) FROM seals FINAL")
	w.seal(s)
	if n := w.number("SELECT uniqExact(seal) FROM seals FINAL"); n != seals {
		t.Errorf("built again: %d seals, then %d", seals, n)
	}
	w.store(rows[len(rows)-400:]) // also rows of days that are sealed
	w.seal(s)
	w.agree("with late rows", rows)
	w.exec("INSERT INTO marks SELECT DISTINCT site, day, 1 FROM events")
	w.seal(w.sealer(Config{Rolled: 1, Slice: 200}, w.db))
	w.agree("in slices", rows)
	w.settle(s)
}

// settle waits, by the clock of a sealer, until what no seal names is dropped.
func (w *world) settle(s *Sealer) {
	w.t.Helper()
	w.seal(s)
	for _, table := range []string{"visits", "hits", "rollups"} {
		n := w.number("SELECT uniqExact(partition_id) FROM system.parts WHERE active AND table = " +
			"'" + table + "' AND partition_id NOT IN (SELECT toString(seal) FROM seals FINAL)")
		if n != 0 {
			w.t.Errorf("%d partitions of %s are garbage", n, table)
		}
	}
}
