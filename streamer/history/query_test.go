package history

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestQueryRefuses(t *testing.T) {
	with := func(s string) string {
		return `{"site_id":"a","metrics":["visitors"],"date_range":"day",` + s + `}`
	}
	deep := strings.Repeat(`["not",`, 40) + `["is","event:page",["/"]]` + strings.Repeat(`]`, 40)
	many := `["is","event:page",[` + strings.TrimSuffix(strings.Repeat(`"x",`, 1001), ",") + `]]`
	long := `["is","event:page",["` + strings.Repeat("x", 100_001) + `"]]`
	for _, c := range []struct{ in, want string }{
		{`[]`, "want a JSON object"},
		{`null`, "want a JSON object"},
		{`{}`, "site_id: want a string"},
		{`{"site_id":7,"metrics":["visitors"],"date_range":"day"}`, "site_id: want a string"},
		{`{"site_id":"a","date_range":"day"}`, "metrics: want a list of strings"},
		{`{"site_id":"a","metrics":[],"date_range":"day"}`, "metrics: name at least one of visitors,"},
		{`{"site_id":"a","metrics":["clicks"],"date_range":"day"}`,
			`metrics[0]: "clicks" is not known; choose from visitors,`},
		{`{"site_id":"a","metrics":["visits",null],"date_range":"day"}`, "metrics[1]: want a string"},
		{`{"site_id":"a","metrics":["visits","visits"],"date_range":"day"}`,
			"metrics[1]: visits is named twice"},
		{`{"site_id":"a","metrics":["visitors"]}`, "date_range: is missing"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":"yesterday"}`,
			`date_range: "yesterday" is not known; name one of day,`},
		{`{"site_id":"a","metrics":["visitors"],"date_range":7}`, "date_range: want one of day,"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["2026-01-01"]}`, "date_range: want two dates"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["2026-01-02","2026-01-01"]}`,
			"date_range: it ends before it begins"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["2026-01-01T10:00:00Z",` +
			`"2026-01-01T09:59:59Z"]}`,
			"date_range: it ends before it begins"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["2026-02-30","2026-03-01"]}`,
			`date_range[0]: "2026-02-30" is neither a date`},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["2026-01-01","2026-01-01T10:00:00Z"]}`,
			"not one of each"},
		{`{"site_id":"a","metrics":["visitors"],"date_range":["0001-01-01","9999-01-01"]}`,
			"date_range[0]: want a year from"},
		{with(`"dimensions":"event:page"`), "dimensions: want a list of strings"},
		{with(`"dimensions":["event:goals"]`), `dimensions[0]: "event:goals" is not known`},
		{with(`"dimensions":["event:props:"]`), `dimensions[0]: "event:props:" is not known`},
		{with(`"dimensions":["event:page","event:page"]`), "dimensions[1]: \"event:page\" is named twice"},
		{with(`"dimensions":["time:day","time:hour"]`), "dimensions[1]: at most one of time,"},
		{with(`"dimensions":["event:page","event:name","visit:os","visit:device","visit:browser"]`),
			"dimensions: at most 4"},
		{with(`"filters":{}`), "filters: want a list"},
		{with(`"filters":["is","event:page",["/"]]`), `filters[0]: want a filter such as`},
		{with(`"filters":[[]]`), `filters[0]: want a filter such as`},
		{with(`"filters":[["has_done",["is","event:name",["a"]]]]`),
			`filters[0][0]: "has_done" is not known; choose from is,`},
		{with(`"filters":[["is","event:page"]]`), `filters[0]: want ["is", dimension, [value, …]]`},
		{with(`"filters":[["is","event:page","/"]]`), "filters[0][2]: want a list of strings"},
		{with(`"filters":[["is","event:page",[]]]`), "filters[0][2]: want at least one value"},
		{with(`"filters":[["is","event:page",[1]]]`), "filters[0][2][0]: want a string"},
		{with(`"filters":[["is","time:day",["2026-01-01"]]]`),
			`filters[0][1]: "time:day" can't be filtered by`},
		{with(`"filters":[["and",[]]]`), "filters[0][1]: want a list of at least one filter"},
		{with(`"filters":[["or",[["is","event:page",["/"]],["is","x",["/"]]]]]`),
			`filters[0][1][1][1]: "x" can't be filtered by`},
		{with(`"filters":[["not",["is","event:page",["/"]],1]]`), `filters[0]: want ["not", filter]`},
		{with(`"filters":[["is","event:page",["/"],{"case":false}]]`),
			`filters[0][3]: "case" is not known; there are case_sensitive`},
		{with(`"filters":[["is","event:page",["/"],{"case_sensitive":"no"}]]`),
			"filters[0][3].case_sensitive: want true or false"},
		{with(`"filters":[["matches","event:page",["/"],{"case_sensitive":false}]]`), "(?i)"},
		{with(`"filters":[["matches","event:page",["(a"]]]`),
			`filters[0][2][0]: "(a" is no regular expression in RE2 syntax`},
		{with(`"filters":[["matches","event:page",["^/(?=a)"]]]`),
			`"^/(?=a)" is no regular expression in RE2 syntax: invalid or unsupported Perl syntax: (?=`},
		{with(`"filters":[["matches","event:page",["(` + strings.Repeat("b ", 200) + `"]]]`),
			"missing closing ): (b b"},
		{with(`"filters":[["is","event:page",["/","/blog/*"]]]`),
			`filters[0][2][1]: "/blog/*" has a *, and "is" compares the whole value as it is; ` +
				`use "matches_wildcard", where`},
		{with(`"filters":[["not",["is_not","visit:entry_page",["/**"]]]]`),
			`filters[0][1][2][0]: "/**" has a *, and "is_not" compares the whole value as it is; use ` +
				`"matches_wildcard_not"`},
		{with(`"filters":[["is","event:hostname",["*.example.com"]]]`), `use "matches_wildcard"`},
		{with(`"filters":[["matches_not","event:page",["a{1001}"]]]`), "is no regular expression"},
		{with(`"filters":[["matches","event:page",["a\u0000"]]]`), `write a zero byte in a pattern as \x00`},
		{with(`"filters":[` + deep + `]`), "filters are nested more than 10 deep"},
		{with(`"filters":[` + many + `]`), "more than 1000 values or 100000 bytes"},
		{with(`"filters":[` + long + `]`), "more than 1000 values or 100000 bytes"},
		{with(`"filters":[["or",[` + strings.Repeat(`["is","event:page",["/"]],`, 50) +
			`["is","event:page",["/"]]]]]`),
			"more than 50 comparisons"},
		{with(`"order_by":["visitors","desc"]`), "order_by[0]: want a list of strings"},
		{with(`"order_by":[["visitors","down"]]`),
			`order_by[0]: want [metric or dimension, "asc" or "desc"]`},
		{with(`"order_by":[["visits","asc"]]`),
			`order_by[0]: "visits" is neither in metrics nor in dimensions`},
		{with(`"order_by":[["visitors","asc"],["visitors","desc"]]`),
			`order_by[1]: "visitors" is named twice`},
		{with(`"include":{"compare":"x"}`),
			`include: "compare" is not known; there are imports, time_labels, total_rows`},
		{with(`"include":{"total_rows":1}`), "include.total_rows: want true or false"},
		{with(`"include":{"time_labels":true}`), "include.time_labels: needs a time dimension"},
		{with(`"pagination":{"limit":0}`), "pagination.limit: want a whole number from 1 to 10000"},
		{with(`"pagination":{"limit":10001}`), "pagination.limit: want"},
		{with(`"pagination":{"limit":1.5}`), "pagination.limit: want"},
		{with(`"pagination":{"offset":-1}`), "pagination.offset: want a whole number from 0"},
		{with(`"page":1`), `"page" is not known; there are date_range, dimensions,`},
		{with(`"` + strings.Repeat("é", 5000) + `":1`), "… is not known"},
	} {
		var r Query
		err := json.Unmarshal([]byte(c.in), &r)
		var bad *Invalid
		if !errors.As(err, &bad) || !strings.Contains(strings.ReplaceAll(err.Error(), `…"`, "…"), c.want) ||
			len(err.Error()) > 400 {
			t.Errorf("%.200s: got %v, want %s", c.in, err, c.want)
		}
	}
}

func TestQueryReads(t *testing.T) {
	in := `{"site_id":"example.com","metrics":["visitors","bounce_rate"],
		"date_range":["2026-01-01","2026-01-31"],"dimensions":["visit:source","time"],
		"filters":[["and",[["is","event:page",["/","/a"]],
			["not",["contains","event:props:plan",["PRO"],{"case_sensitive":false}]]]],
			["matches_not","visit:country",["^D."]]],
		"order_by":[["visitors","desc"],["visit:source","asc"]],
		"include":{"imports":true,"time_labels":true,"total_rows":true},
		"pagination":{"limit":10,"offset":20}}`
	var r Query
	if err := json.Unmarshal([]byte(in), &r); err != nil {
		t.Fatal(err)
	}
	berlin, _ := time.LoadLocation("Europe/Berlin")
	s, err := r.DateRange.between(berlin)
	if err != nil {
		t.Fatal(err)
	}
	e, err := json.Marshal(plan{Query: r, span: s}.echo())
	want := `{"site_id":"example.com","metrics":["visitors","bounce_rate"],` +
		`"date_range":["2026-01-01T00:00:00+01:00","2026-01-31T23:59:59+01:00"],` +
		`"dimensions":["visit:source","time"],"filters":[["and",[["is","event:page",["/","/a"]],["not",` +
		`["contains","event:props:plan",["PRO"],{"case_sensitive":false}]]]],` +
		`["matches_not","visit:country",["^D."]]],"order_by":[["visitors","desc"],["visit:source",` +
		`"asc"]],"include":{"imports":true,"time_labels":true,"total_rows":true},` +
		`"pagination":{"limit":10,"offset":20}}`
	if err != nil || string(e) != want {
		t.Errorf("got %s %v\nwant %s", e, err, want)
	}
}

// Whatever is sent, the decoder says what is wrong or gives a request that can be written as a statement and
// echoed.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		`{"site_id":"a","metrics":["visitors"],"date_range":"day"}`,
		`{"site_id":"a","metrics":["visits","percentage"],"date_range":["2026-01-01","2026-01-02"],` +
			`"dimensions":["time","event:props:a"],"include":{"time_labels":true}}`,
		`{"site_id":"a","metrics":["events"],"date_range":["2026-01-01T00:00:00",` +
			`"2026-01-01T01:00:00+02:00"],"dimensions":["time:second"],"filters":[["not",["is",` +
			`"visit:source",["x"],{"case_sensitive":false}]]]}`,
		`{"site_id":"a","metrics":["events"],"date_range":"12mo","filters":[["or",[["matches",` +
			`"event:page",["^/a"]],["contains_not","visit:os",["\\","'"]]]]],"order_by":[["events",` +
			`"asc"]],"pagination":{"limit":1}}`,
	} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Query
		var bad *Invalid
		if err := json.Unmarshal(in, &r); err != nil {
			var syntax *json.SyntaxError
			if !errors.As(err, &bad) && !errors.As(err, &syntax) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		e := newEngine(t, nil, Config{Now: func() time.Time { return now }})
		if r.DateRange.Name == "all" {
			return // asks ClickHouse
		}
		p, err := e.plan(t.Context(), Site{Domain: "a"}, r)
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatal(err)
			}
			return
		}
		if _, err := p.build(); err != nil {
			t.Fatal(err)
		}
		var again Query
		if b, err := json.Marshal(p.echo()); err != nil {
			t.Fatal(err)
		} else if err := json.Unmarshal(b, &again); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
