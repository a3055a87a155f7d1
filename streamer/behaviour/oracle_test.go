package behaviour_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nowcast/streamer/history"
)

type m = map[string]any

// A condition is a filter and what it says of a hit, or a pattern and what it says of a page.
type condition struct {
	text  string
	holds func(v visit, h hit) bool
}

// labelled is a value as rows name it.
func labelled(value, empty string) string { return cmp.Or(value, empty) }

var dimensions = map[string]func(v visit, h hit) string{
	"event:page":       func(_ visit, h hit) string { return labelled(h.path, "(not set)") },
	"event:name":       func(_ visit, h hit) string { return h.name },
	"event:props:plan": func(_ visit, h hit) string { return labelled(h.props["plan"], "(none)") },
	"visit:source":     func(v visit, _ hit) string { return labelled(v.hits[0].source, "Direct / None") },
	"visit:country":    func(v visit, _ hit) string { return labelled(v.hits[0].country, "(not set)") },
	"visit:entry_page": func(v visit, _ hit) string {
		return labelled(append(v.views(), "")[0], "(not set)")
	},
	"visit:exit_page": func(v visit, _ hit) string {
		return labelled(slices.Concat([]string{""}, v.views())[len(v.views())], "(not set)")
	},
}

func randomFilter(r *rand.Rand) condition {
	values := map[string][]string{"event:page": pages, "event:name": names,
		"event:props:plan": {"pro", "(none)", "nothing"}, "visit:source": {"Google", "Direct / None"},
		"visit:country": {"DE", "(not set)"}, "visit:entry_page": pages, "visit:exit_page": pages}
	name := one(r, slices.Sorted(maps.Keys(values))...)
	value := cmp.Or(one(r, values[name]...), "(not set)")
	if strings.Contains(value, "*") {
		value = "/"
	}
	get := dimensions[name]
	is := func(v visit, h hit) bool { return get(v, h) == value }
	quoted := string(must(json.Marshal(value)))
	switch r.IntN(4) {
	case 0:
		return condition{`["is_not","` + name + `",[` + quoted + `]]`,
			func(v visit, h hit) bool { return !is(v, h) }}
	case 1:
		return condition{`["contains","` + name + `",["a"]]`,
			func(v visit, h hit) bool { return strings.Contains(get(v, h), "a") }}
	case 2:
		other := randomFilter(r)
		return condition{`["or",[["is","` + name + `",[` + quoted + `]],` + other.text + `]]`,
			func(v visit, h hit) bool { return is(v, h) || other.holds(v, h) }}
	}
	return condition{`["is","` + name + `",[` + quoted + `]]`, is}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// patterns are pages with wildcards, with the regular expression that says the same.
var patterns = map[string]string{
	"/": `^/$`, "/a": `^/a$`, "/a/*": `^/a/[^/]*$`, "/a/**": `^/a/.*$`, `/b\*`: `^/b\*$`, "**": `^.*$`,
	`/c\\d`: `^/c\\d$`, "/nothing": `^/nothing$`, "/*": `^/[^/]*$`,
}

func randomPattern(r *rand.Rand) (text string, is func(page string) bool) {
	keys := []string{"/", "/a", "/a/*", "/a/**", `/b\*`, "**", `/c\\d`, "/nothing", "/*"}
	text = one(r, keys...)
	return text, regexp.MustCompile(patterns[text]).MatchString
}

// randomRange returns a range and which visits began in it.
func (w *world) randomRange(r *rand.Rand) (text string, visits []visit) {
	first := time.Date(2026, 3, 27+r.IntN(4), 0, 0, 0, 0, w.zone) // clocks go forward on the 29th
	last := first.AddDate(0, 0, r.IntN(3))
	from, to := first, last.AddDate(0, 0, 1)
	text = `["` + first.Format(time.DateOnly) + `","` + last.Format(time.DateOnly) + `"]`
	if r.IntN(4) == 0 { // times
		from = first.Add(time.Duration(r.IntN(86400)) * time.Second)
		to = from.Add(time.Duration(1+r.IntN(50000)) * time.Second)
		text = `["` + from.Format(time.RFC3339) + `","` + to.Add(-time.Second).Format(time.RFC3339) + `"]`
	}
	for _, v := range w.visits {
		if at := v.hits[0].at; !at.Before(from) && at.Before(to) {
			visits = append(visits, v)
		}
	}
	return text, visits
}

// question is the begin of a body, and the visits that it is about.
func (w *world) question(r *rand.Rand) (text string, visits []visit) {
	text, visits = w.randomRange(r)
	text = `{"site_id":"` + w.site + `","date_range":` + text
	var filters []condition
	for range r.IntN(3) {
		filters = append(filters, randomFilter(r))
	}
	if len(filters) == 0 {
		return text, visits
	}
	var texts []string
	for _, f := range filters {
		texts = append(texts, f.text)
	}
	visits = slices.DeleteFunc(visits, func(v visit) bool {
		return !slices.ContainsFunc(v.hits, func(h hit) bool {
			return !slices.ContainsFunc(filters, func(f condition) bool { return !f.holds(v, h) })
		})
	})
	return text + `,"filters":[` + strings.Join(texts, ",") + `]`, visits
}

func share(part, whole, decimals int) any {
	if whole == 0 {
		return nil
	}
	scale := math.Pow10(decimals)
	return math.Round(100*float64(part)/float64(whole)*scale) / scale
}

// Every question about random rows has the answer of a count by hand.
func TestOracle(t *testing.T) {
	w := newWorld(t, history.Config{})
	const seed = 20261130
	r := rand.New(rand.NewPCG(seed, 1))
	n := 15
	if s := os.Getenv("BEHAVIOUR_QUESTIONS"); s != "" {
		n = must(strconv.Atoi(s))
	}
	all := people(r, 4000, time.Date(2026, 3, 26, 12, 0, 0, 0, time.UTC), 6, w.zone)
	var soon, late []event // late: some events of two days
	for _, e := range all {
		if d := e.at.In(w.zone).Day(); (d == 28 || d == 29) && r.IntN(10) == 0 {
			late = append(late, e)
		} else {
			soon = append(soon, e)
		}
	}
	for _, state := range []struct {
		name string
		make func()
	}{
		{"no day is sealed", func() { w.put(soon) }},
		{"some days are sealed", func() { w.seal("2026-03-27", "2026-03-29"); w.seal("2026-03-30") }},
		{"all days are sealed", func() { w.seal("2026-03-26", "2026-03-28", "2026-03-31", "2026-04-01") }},
		{"sealed days have late rows", func() { w.put(late); w.mark("2026-03-28", "2026-03-29") }},
	} {
		if state.make(); t.Failed() {
			return
		}
		t.Run(state.name, func(t *testing.T) { w.TB = t; w.compare(r, n) })
		w.TB = t
	}
}

// compare compares n random questions of each kind.
func (w *world) compare(r *rand.Rand, n int) {
	w.Helper()
	for _, q := range []struct {
		path string
		ask  func(r *rand.Rand) (body string, want any)
	}{
		{"/api/v2/funnel", w.funnel}, {"/api/v2/journeys", w.neighbours}, {"/api/v2/journeys", w.paths},
		{"/api/v2/page", w.page}, {"/api/v2/retention", w.retention},
	} {
		empty := 0
		for i := range n {
			body, want := q.ask(r)
			status, got, text := w.post(q.path, body)
			if status != 200 {
				w.Fatalf("%s %s: %d %s", q.path, body, status, text)
			}
			if d := same(asJSON(want), got, 1e-9); d != "" {
				w.Fatalf("question %d, %s %s:\n%s\n%s", i, q.path, body, d, text)
			}
			if !strings.ContainsAny(text[:strings.Index(text, `"meta"`)], "123456789") {
				empty++
			}
		}
		if empty > 2*n/3 {
			w.Errorf("%s: %d of %d answers are of nothing", q.path, empty, n)
		}
	}
}

// A unit is what a funnel counts.
type unit struct {
	hits   []hit
	visits []visit // of each hit
}

func unitsOf(visits []visit, day bool) (out []unit) {
	at := map[string]int{}
	for i, v := range visits {
		key := fmt.Sprint(v.day, v.visitor)
		if !day {
			key = strconv.Itoa(i)
		}
		j, ok := at[key]
		if !ok {
			j = len(out)
			at[key] = j
			out = append(out, unit{})
		}
		for _, h := range v.hits {
			out[j].hits, out[j].visits = append(out[j].hits, h), append(out[j].visits, v)
		}
	}
	return out
}

// walk returns the hits that reach the steps, by trying all ways: the longest chain, and of these the one
// whose hits are first.
func (u unit) walk(steps []condition, strict bool) (best []int) {
	var try func(chain []int)
	try = func(chain []int) {
		if len(chain) > len(best) {
			best = slices.Clone(chain)
		}
		if len(chain) == len(steps) {
			return
		}
		from := 0
		if len(chain) > 0 {
			from = chain[len(chain)-1] + 1
		}
		for i := from; i < len(u.hits); i++ {
			if strict && len(chain) > 0 && i > from {
				break
			}
			if steps[len(chain)].holds(u.visits[i], u.hits[i]) {
				try(append(slices.Clone(chain), i))
			}
		}
	}
	try(nil)
	if strict || len(best) == 0 {
		return best
	}
	// each step at the first hit behind the step before
	chain, next := []int{}, 0
	for _, s := range steps {
		i := slices.IndexFunc(u.hits[next:], func(h hit) bool { next++; return s.holds(u.visits[next-1], h) })
		if i < 0 {
			break
		}
		chain = append(chain, next-1)
	}
	if len(chain) != len(best) {
		panic("the first hits reach less than the best ones")
	}
	return chain
}

func randomStep(r *rand.Rand) condition {
	var text string
	var fits func(v visit, h hit) bool
	if r.IntN(3) > 0 {
		pattern, is := randomPattern(r)
		text = `{"page":` + string(must(json.Marshal(pattern)))
		fits = func(_ visit, h hit) bool { return h.kind == "pageview" && is(h.path) }
	} else {
		name := one(r, append(names, "*u*")...)
		text = `{"event":` + string(must(json.Marshal(name)))
		fits = func(_ visit, h hit) bool {
			return h.kind == "custom" && (h.name == name || name == "*u*" && strings.Contains(h.name, "u"))
		}
	}
	if r.IntN(4) > 0 {
		return condition{text + "}", fits}
	}
	f := randomFilter(r)
	return condition{text + `,"filters":[` + f.text + `]}`,
		func(v visit, h hit) bool { return fits(v, h) && f.holds(v, h) }}
}

func quantile(sorted []float64, level float64) float64 {
	at := level * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func countWalks(units []unit, walks [][]int, steps int) m {
	reached, pauses := make([]int, steps), make([][]float64, steps)
	for i, chain := range walks {
		for k, at := range chain {
			reached[k]++
			if k > 0 {
				before := units[i].hits[chain[k-1]].at
				pauses[k] = append(pauses[k], units[i].hits[at].at.Sub(before).Seconds())
			}
		}
	}
	var list []any
	for k, n := range reached {
		s := m{"count": n, "rate": share(n, reached[0], 2), "rate_of_previous": nil, "dropped": nil,
			"seconds": nil}
		if k > 0 {
			s["rate_of_previous"] = share(n, reached[k-1], 2)
		}
		if k+1 < steps {
			s["dropped"] = n - reached[k+1]
		}
		if slices.Sort(pauses[k]); k > 0 && n > 0 {
			s["seconds"] = m{"median": quantile(pauses[k], .5), "p90": quantile(pauses[k], .9)}
		}
		list = append(list, s)
	}
	return m{"conversion_rate": share(reached[steps-1], reached[0], 2), "steps": list}
}

func (w *world) funnel(r *rand.Rand) (string, any) {
	text, visits := w.question(r)
	day, strict, breakdown := r.IntN(2) == 0, r.IntN(3) == 0, r.IntN(2) == 0
	var steps []condition
	var texts []string
	for range 2 + r.IntN(one(r, 1, 2, 7)) {
		s := randomStep(r)
		steps, texts = append(steps, s), append(texts, s.text)
	}
	units := unitsOf(visits, day)
	var walks [][]int
	for _, u := range units {
		walks = append(walks, u.walk(steps, strict))
	}
	text += `,"steps":[` + strings.Join(texts, ",") + `],"strict":` + strconv.FormatBool(strict)
	want := countWalks(units, walks, len(steps))
	want["unit"] = "visits"
	if day {
		text, want["unit"] = text+`,"scope":"day"`, "visitor_days"
	}
	if !breakdown {
		return text + "}", want
	}
	name := one(r, "visit:source", "event:page", "event:props:plan", "visit:exit_page", "event:name")
	limit := 1 + r.IntN(5)
	text += fmt.Sprintf(`,"breakdown":%q,"limit":%d}`, name, limit)
	parts := map[string][]int{}
	for i, chain := range walks {
		if len(chain) > 0 {
			value := dimensions[name](units[i].visits[chain[0]], units[i].hits[chain[0]])
			parts[value] = append(parts[value], i)
		}
	}
	rows := []m{}
	for value, list := range parts {
		var us []unit
		var ws [][]int
		for _, i := range list {
			us, ws = append(us, units[i]), append(ws, walks[i])
		}
		row := countWalks(us, ws, len(steps))
		row["value"] = value
		rows = append(rows, row)
	}
	order := func(rows []m, name func(m) string) []m {
		slices.SortFunc(rows, func(a, b m) int {
			return cmp.Or(cmp.Compare(len(parts[b["value"].(string)]), len(parts[a["value"].(string)])),
				strings.Compare(name(a), name(b)))
		})
		return rows[:min(limit, len(rows))]
	}
	value := func(row m) string { return row["value"].(string) }
	key := value
	if strings.HasSuffix(name, "page") {
		key = func(row m) string { return strconv.FormatUint(w.keys[value(row)], 10) }
	}
	want["total_values"] = len(rows)
	want["breakdown"] = order(order(rows, key), value)
	return text, want
}
