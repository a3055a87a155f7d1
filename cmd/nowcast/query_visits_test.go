package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// askVisits runs a command against a stub that has one answer.
func askVisits(t *testing.T, answer string, args ...string) (code int, out, errs, asked string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(r.URL.Path, "/api/v1/sites/") {
			fmt.Fprint(w, `{"domain":"example.com","timezone":"Europe/Berlin"}`)
			return
		}
		asked = r.URL.Path + " " + string(b)
		fmt.Fprint(w, answer)
	}))
	defer s.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var o bytes.Buffer
	args = append(args, "--server", s.URL, "--key", "nck_secret", "--site", "example.com")
	code = report(f, run(t.Context(), args, &stdio{strings.NewReader(""), &o, f}))
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, o.String(), string(b), asked
}

const about = `"meta":{"warnings":[{"code":"log_cut","warning":"The server lost its power."}]},"query":` +
	`{"site_id":"example.com","date_range":["2026-11-23T00:00:00+01:00","2026-11-29T23:59:59+01:00"]}}`

const steps = `"conversion_rate":40.12,"steps":[` +
	`{"count":1204,"rate":100,"rate_of_previous":null,"dropped":721,"seconds":null},` +
	`{"count":483,"rate":40.12,"rate_of_previous":40.12,"dropped":null,` +
	`"seconds":{"median":7.25,"p90":754.6}}]`

// Questions are sent as the API takes them, and their answers are printed as tables.
func TestVisitQuestions(t *testing.T) {
	for _, row := range []struct {
		name, args, answer, asked, out string
	}{
		{"funnel", "funnel --step page:/a --step event:Buy,now --range 30d --strict --filter country=x",
			"", "", "give a dimension, an operator and values"},
		{"funnel", "funnel --step page:/a --step event:Buy --range 30d --strict --within day",
			`{"unit":"visitor_days",` + steps + `,` + about,
			`/api/v2/funnel {"site_id":"example.com","date_range":"30d","strict":true,"scope":"day",` +
				`"steps":[{"page":"/a"},{"event":"Buy"}]}`,
			`example.com, 2026-11-23 to 2026-11-29, Europe/Berlin

step       visitor days  of step 1  of the one before  dropped  median     p90
page:/a            1204       100%                         721
event:Buy           483     40.12%             40.12%             7.3s  12m35s

Warning: The server lost its power.
`},
		{"breakdown", "funnel --step page:/a --step page:/b --by source --limit 1",
			`{"unit":"visits",` + steps + `,"total_values":7,"breakdown":[{"value":"\u001b[31m",` +
				steps + `}],` + about,
			`/api/v2/funnel {"site_id":"example.com","date_range":"7d","strict":false,"scope":"visit",` +
				`"steps":[{"page":"/a"},{"page":"/b"}],"breakdown":"visit:source","limit":1}`,
			`example.com, 2026-11-23 to 2026-11-29, Europe/Berlin

visit:source  step     visits  of step 1  of the one before  dropped  median     p90
all           page:/a    1204       100%                         721
              page:/b     483     40.12%             40.12%             7.3s  12m35s
\x1b[31m      page:/a    1204       100%                         721
              page:/b     483     40.12%             40.12%             7.3s  12m35s

1 of 7 values

Warning: The server lost its power.
`},
		{"one step", "funnel --step page:/a", "", "", "a funnel has 2 to 8 steps"},
		{"no step", "funnel --step page:/a --step goal:x", "", "", "give page:PATH or event:NAME"},
		{"after", "journey --after /a",
			`{"count":9,"visits":8,"total_rows":2,"neighbours":[` +
				`{"kind":"exit","page":null,"count":6,"visits":6,"share":66.67},` +
				`{"kind":"page","page":"/b","count":3,"visits":2,"share":33.33}],` + about,
			`/api/v2/journeys {"site_id":"example.com","date_range":"7d","page":"/a","direction":"after"}`,
			`example.com, 2026-11-23 to 2026-11-29, Europe/Berlin

after /a  times  visits   share
(exit)        6       6  66.67%
/b            3       2  33.33%

9 times in 8 visits

Warning: The server lost its power.
`},
		{"paths", "journey --paths 2 --before /b",
			`{"count":9,"visits":8,"total_rows":3,"paths":[` +
				`{"pages":["/a","/b"],"count":6,"visits":5,"share":62.5}],` + about,
			`/api/v2/journeys {"site_id":"example.com","date_range":"7d","page":"/b","direction":"before",` +
				`"paths":2}`,
			`example.com, 2026-11-23 to 2026-11-29, Europe/Berlin

path     times  visits  share
/a → /b      6       5  62.5%

9 times in 8 visits; 1 of 3 rows

Warning: The server lost its power.
`},
		{"nothing", "journey", "", "", "give --after or --before a page"},
		{"long paths", "journey --paths 7", "", "", "--paths is 7: give 2 to 6"},
	} {
		code, out, errs, asked := askVisits(t, row.answer, strings.Fields(row.args)...)
		if row.asked == "" {
			if code != 2 || !strings.Contains(errs, row.out) || asked != "" {
				t.Errorf("%s: %d %q, want %q", row.args, code, errs, row.out)
			}
			continue
		}
		if code != 0 || out != row.out || !sameQuestion(t, row.asked, asked) {
			t.Errorf("%s: %d %s\n%s\nwant\n%s\nasked %s", row.args, code, errs, out, row.out, asked)
		}
	}
	code, out, errs, _ := askVisits(t, `{"count":9}`, "journey", "--after", "/", "--json",
		"--filter", "country is DE")
	if code != 0 || out != "{\n  \"count\": 9\n}\n" {
		t.Errorf("--json: %d %s %s", code, out, errs)
	}
}

func sameQuestion(t *testing.T, want, got string) bool {
	t.Helper()
	wantPath, wantBody, _ := strings.Cut(want, " ")
	gotPath, gotBody, _ := strings.Cut(got, " ")
	var a, b any
	if json.Unmarshal([]byte(wantBody), &a) != nil || json.Unmarshal([]byte(gotBody), &b) != nil {
		return false
	}
	return wantPath == gotPath && reflect.DeepEqual(a, b)
}
