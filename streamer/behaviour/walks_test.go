package behaviour_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// counted is a row of a list: how often, and in which visits.
type counted struct {
	pages  []string // nil: an entry or exit
	times  int
	visits map[int]bool
}

type counts map[string]*counted

func (c counts) add(pages []string, visit int) {
	key := fmt.Sprintf("%q", pages)
	if pages == nil {
		key = "end"
	}
	if c[key] == nil {
		c[key] = &counted{pages: pages, visits: map[int]bool{}}
	}
	c[key].times++
	c[key].visits[visit] = true
}

// top returns the rows with the highest counts, of those with the same counts the ones with the least keys.
func (c counts) top(byVisits bool, limit int, keys map[string]uint64) (out []*counted) {
	for _, x := range c {
		out = append(out, x)
	}
	sortRows(out, byVisits, func(a, b []string) int {
		if keys == nil {
			return slices.Compare(a, b)
		}
		return slices.CompareFunc(a, b, func(x, y string) int { return cmp.Compare(keys[x], keys[y]) })
	})
	out = out[:min(limit, len(out))]
	sortRows(out, byVisits, slices.Compare)
	return out
}

func sortRows(list []*counted, byVisits bool, byPages func(a, b []string) int) {
	slices.SortStableFunc(list, func(a, b *counted) int {
		byTimes, visits := cmp.Compare(b.times, a.times), 0
		if byVisits {
			visits = cmp.Compare(len(b.visits), len(a.visits))
		}
		end := func(x *counted) int { return map[bool]int{true: 1}[x.pages == nil] }
		return cmp.Or(visits, byTimes, cmp.Compare(end(a), end(b)), byPages(a.pages, b.pages))
	})
}

// walkOf returns the pages of a visit, where consecutive views of one page are one.
func walkOf(v visit) []string { return slices.Compact(v.views()) }

// around counts what is before or after the pages of a pattern.
func around(visits []visit, before bool, is func(string) bool) (c counts, times int, in map[int]bool) {
	c, in = counts{}, map[int]bool{}
	for i, v := range visits {
		walk := walkOf(v)
		for k, p := range walk {
			if !is(p) {
				continue
			}
			times++
			in[i] = true
			at := k + 1
			if before {
				at = k - 1
			}
			if at < 0 || at >= len(walk) {
				c.add(nil, i)
			} else {
				c.add([]string{walk[at]}, i)
			}
		}
	}
	return c, times, in
}

func neighbourRows(rows []*counted, before bool, times int) []any {
	list := []any{}
	for _, x := range rows {
		row := m{"kind": "page", "page": nil, "count": x.times, "visits": len(x.visits),
			"share": share(x.times, times, 2)}
		switch {
		case x.pages != nil:
			row["page"] = x.pages[0]
		case before:
			row["kind"] = "entry"
		default:
			row["kind"] = "exit"
		}
		list = append(list, row)
	}
	return list
}

func (w *world) neighbours(r *rand.Rand) (string, any) {
	text, visits := w.question(r)
	pattern, is := randomPattern(r)
	before, limit := r.IntN(2) == 0, 1+r.IntN(8)
	c, times, in := around(visits, before, is)
	text += fmt.Sprintf(`,"page":%s,"limit":%d,"direction":%q}`, must(json.Marshal(pattern)), limit,
		map[bool]string{true: "before", false: "after"}[before])
	return text, m{"count": times, "visits": len(in), "total_rows": len(c),
		"neighbours": neighbourRows(c.top(false, limit, w.keys), before, times)}
}

func (w *world) paths(r *rand.Rand) (string, any) {
	text, visits := w.question(r)
	n, limit, before, paged := 2+r.IntN(3), 1+r.IntN(8), r.IntN(2) == 0, r.IntN(2) == 0
	pattern, is := randomPattern(r)
	text += fmt.Sprintf(`,"paths":%d,"limit":%d`, n, limit)
	if paged {
		text += fmt.Sprintf(`,"page":%s,"direction":%q`, must(json.Marshal(pattern)),
			map[bool]string{true: "before", false: "after"}[before])
	}
	c, times, in := counts{}, 0, map[int]bool{}
	for i, v := range visits {
		walk := walkOf(v)
		for k := 0; k+n <= len(walk); k++ {
			path := walk[k : k+n]
			if paged && (before && !is(path[n-1]) || !before && !is(path[0])) {
				continue
			}
			c.add(path, i)
			times++
			in[i] = true
		}
	}
	list := []any{}
	for _, x := range c.top(true, limit, w.keys) {
		list = append(list, m{"pages": x.pages, "count": x.times, "visits": len(x.visits),
			"share": share(len(x.visits), len(in), 2)})
	}
	return text + "}", m{"count": times, "visits": len(in), "total_rows": len(c), "paths": list}
}

// values counts the visits by a value, the highest counts first.
func values(visits []visit, limit int, of func(v visit) string) any {
	c := counts{}
	for i, v := range visits {
		c.add([]string{of(v)}, i)
	}
	list := []any{}
	for _, x := range c.top(false, limit, nil) {
		list = append(list, m{"value": x.pages[0], "visits": x.times})
	}
	return list
}

func (w *world) page(r *rand.Rand) (string, any) {
	text, all := w.question(r)
	pattern, is := randomPattern(r)
	limit := 1 + r.IntN(8)
	text += fmt.Sprintf(`,"page":%s,"limit":%d}`, must(json.Marshal(pattern)), limit)
	visits := slices.DeleteFunc(all, func(v visit) bool { return !slices.ContainsFunc(v.views(), is) })
	visitors, events := map[string]bool{}, counts{}
	var views, entries, exits, bounces, engagedVisits, scrolledVisits, scrolled int
	engaged := 0.0
	for i, v := range visits {
		visitors[fmt.Sprint(v.day, v.visitor)] = true
		pages := v.views()
		if is(pages[0]) {
			entries++
			if v.bounced() {
				bounces++
			}
		}
		if is(pages[len(pages)-1]) {
			exits++
		}
		ms, deepest := 0, 0
		for _, h := range v.hits {
			if !is(h.path) {
				continue
			}
			switch h.kind {
			case "pageview":
				views++
			case "custom":
				events.add([]string{h.name}, i)
			}
			ms += h.engagedMS
			deepest = max(deepest, h.deepest)
		}
		if ms > 0 {
			engaged += float64(ms) / 1000
			engagedVisits++
		}
		if deepest > 0 {
			scrolled += deepest
			scrolledVisits++
		}
	}
	want := m{"visitors": len(visitors), "visits": len(visits), "pageviews": views, "entries": entries,
		"exits": exits, "bounce_rate": share(bounces, entries, 0), "time_on_page": nil, "scroll_depth": nil,
		"sources": values(visits, limit, func(v visit) string {
			return dimensions["visit:source"](v, hit{})
		}),
		"countries": values(visits, limit, func(v visit) string {
			return dimensions["visit:country"](v, hit{})
		}),
	}
	if engagedVisits > 0 {
		want["time_on_page"] = math.Round(engaged/float64(engagedVisits)*10) / 10
	}
	if scrolledVisits > 0 {
		want["scroll_depth"] = math.Round(float64(scrolled) / float64(scrolledVisits))
	}
	list := []any{}
	for _, x := range events.top(false, limit, nil) {
		list = append(list, m{"name": x.pages[0], "count": x.times, "visits": len(x.visits)})
	}
	want["events"] = list
	for name, before := range map[string]bool{"before": true, "after": false} {
		c, times, _ := around(visits, before, is)
		want[name] = neighbourRows(c.top(false, limit, w.keys), before, times)
	}
	return text, want
}

func (w *world) retention(r *rand.Rand) (string, any) {
	text, visits := w.question(r)
	period := one(r, "day", "week", "month")
	text += `,"period":"` + period + `"}`
	perDay := map[string]int{}
	for _, v := range visits {
		perDay[fmt.Sprint(v.day, v.visitor)]++
	}
	distribution := make([]int, 4)
	for _, n := range perDay {
		distribution[min(n, 4)-1]++
	}
	list := []any{}
	for i, n := range distribution {
		list = append(list, m{"visits": []string{"1", "2", "3", "4+"}[i], "visitor_days": n,
			"share": share(n, len(perDay), 2)})
	}
	want := m{"visitor_days": len(perDay), "visits": len(visits), "visits_per_visitor_day": nil,
		"visits_a_day": list, "cohorts": nil}
	if len(perDay) > 0 {
		want["visits_per_visitor_day"] = math.Round(float64(len(visits))/float64(len(perDay))*100) / 100
	}
	start := func(d time.Time) time.Time {
		switch period {
		case "week":
			for d.Weekday() != time.Monday {
				d = d.AddDate(0, 0, -1)
			}
		case "month":
			d = time.Date(d.Year(), d.Month(), 1, 0, 0, 0, 0, time.UTC)
		}
		return d
	}
	dates := strings.Split(text[strings.Index(text, `"date_range":["`)+len(`"date_range":["`):], `"`)
	first := must(time.Parse(time.DateOnly, dates[0][:10]))
	last := must(time.Parse(time.DateOnly, dates[2][:10]))
	users := map[uint64]map[time.Time]bool{}
	for _, v := range visits {
		if u := v.hits[0].user; u != 0 {
			if users[u] == nil {
				users[u] = map[time.Time]bool{}
			}
			users[u][start(v.day)] = true
		}
	}
	if len(users) == 0 {
		return text, want
	}
	next := map[string]func(d time.Time) time.Time{
		"day":   func(d time.Time) time.Time { return d.AddDate(0, 0, 1) },
		"week":  func(d time.Time) time.Time { return d.AddDate(0, 0, 7) },
		"month": func(d time.Time) time.Time { return d.AddDate(0, 1, 0) },
	}[period]
	cohorts := []any{}
	for c := start(first); !c.After(last); c = next(c) {
		returned := []any{}
		for p := c; !p.After(last); p = next(p) {
			n := 0
			for _, periods := range users {
				earlier := false
				for q := range periods {
					earlier = earlier || q.Before(c)
				}
				if !earlier && periods[c] && periods[p] {
					n++
				}
			}
			returned = append(returned, n)
		}
		cohorts = append(cohorts, m{"period": c.Format(time.DateOnly), "users": returned[0],
			"returned": returned})
	}
	want["cohorts"] = cohorts
	return text, want
}
