package imports

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write testdata/*.golden.ndjson")

// classifier is a plain stand-in for package enrich.
type classifier struct{}

func (classifier) Classify(p Page) (string, Attributes, bool) {
	path, query, _ := strings.Cut(p.Path, "?")
	var a Attributes
	for _, name := range []string{"utm_source=", "ref="} {
		if v, ok := strings.CutPrefix(query, name); ok {
			a.Source = v
			if name == "utm_source=" {
				a.UTMSource = v
			}
		}
	}
	if host, _, _ := strings.Cut(strings.TrimPrefix(p.Referrer, "https://"), "/"); a.Source == "" &&
		!strings.HasSuffix(host, "example.com") {
		a.Source = strings.TrimPrefix(host, "www.")
	}
	for _, b := range []string{"Firefox", "Chrome"} {
		if strings.Contains(p.UserAgent, b) {
			a.Browser = b
		}
	}
	return path, a, strings.Contains(p.UserAgent, "bot")
}

func openFile(t testing.TB, path string) File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return File{filepath.Base(path), bytes.NewReader(b), int64(len(b))}
}

func filesOf(t testing.TB, dir string) (files []File) {
	t.Helper()
	add := func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, openFile(t, path))
		}
		return err
	}
	err := filepath.WalkDir(filepath.Join("testdata", dir), add)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// imported runs an import and returns its sums, a line each.
func imported(t testing.TB, format Format, zone string, files ...File) (Report, string, error) {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	report, err := Run(t.Context(), Config{Format: format, Site: "example.com", Zone: loc,
		Classify: classifier{}, Emit: func(s Sum) error {
			out = append(s.AppendJSON(out), '\n')
			back, err := ParseSum(s.AppendJSON(nil))
			if err != nil || back != s {
				t.Errorf("%s is read back as %+v: %v", s.AppendJSON(nil), back, err)
			}
			return nil
		}}, files)
	return report, string(out), err
}

var fixtures = []struct {
	dir    string
	format Format
	rows   uint64
	totals string // by day: visitors, visits, page views, events, bounces, milliseconds; -: unknown
	skips  string
}{
	{"plausible", Plausible, 24, `
		2025-01-01 119 134 304 - 77 21070000
		2025-01-02 166 180 325 - 117 21467000`,
		"map[]"},
	{"ga4", GA4, 11, `
		2025-01-01 100 120 300 - 30 7380000
		2025-01-02 80 90 200 - 30 2700000`,
		"map[of a kind that isn't imported:1 without a day:1]"},
	{"umami", Umami, 6, `
		2025-01-01 2 3 4 5 2 60000
		2025-01-02 1 1 1 1 1 0`,
		"map[of a kind that isn't imported:1]"},
	{"umami-postgres", Umami, 6, `
		2025-01-01 2 3 4 5 2 60000
		2025-01-02 1 1 1 1 1 0`,
		"map[of a kind that isn't imported:1 of another website:1]"},
	{"umami-mysql", Umami, 6, `
		2025-01-01 2 3 4 5 2 60000
		2025-01-02 1 1 1 1 1 0`,
		"map[of a kind that isn't imported:1 of another website:1]"},
	{"matomo", Matomo, 15, `
		2025-01-01 50 60 180 - 20 3600000
		2025-01-02 40 41 80 - 15 1800000`,
		"map[of a kind that isn't imported:2]"},
	{"goatcounter", GoatCounter, 5, `
		2025-01-01 2 2 3 4 1 360000
		2025-01-02 1 1 1 1 1 0`,
		"map[sent by a robot:1]"},
	{"log", Log, 6, `
		2025-01-01 2 3 5 5 1 900000
		2025-01-02 1 1 1 1 1 0`,
		"map[not a GET request:2 not answered with 2xx or 304:1 " +
			"of a file that is no page:1 sent by a robot:2]"},
	{"log-json", Log, 3, `
		2025-01-01 2 2 3 3 1 59500`,
		"map[not a GET request:1]"},
	{"log-cloudfront", Log, 1, `
		2025-01-01 1 1 1 1 1 0`,
		"map[of a file that is no page:1]"},
}

// Each fixture gives the sums that were counted by hand, in whatever order its files are named, plain and as
// an archive, and its format is guessed.
func TestFixtures(t *testing.T) {
	for _, f := range fixtures {
		t.Run(f.dir, func(t *testing.T) {
			files := filesOf(t, f.dir)
			zone := "UTC"
			if f.format == Umami {
				zone = "Europe/Berlin" // 23:10 UTC is the next day there
			}
			report, sums, err := imported(t, "", zone, files...)
			if err != nil {
				t.Fatal(err)
			}
			if report.Format != f.format || report.Rows != f.rows || fmt.Sprint(report.Skipped) != f.skips {
				t.Errorf("%+v", report)
			}
			if got, want := totalsOf(sums), strings.Join(strings.Fields(f.totals), " "); got != want {
				t.Errorf("totals\n%s\nwant\n%s", got, want)
			}
			golden := filepath.Join("testdata", f.dir+".golden.ndjson")
			if *update {
				if err := os.WriteFile(golden, []byte(sums), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || string(want) != sums {
				t.Errorf("the sums differ from %s: %v\n%s", golden, err, sums)
			}
			slices.Reverse(files)
			if _, again, err := imported(t, f.format, zone, files...); again != sums || err != nil {
				t.Errorf("in the reverse order: %v\n%s", err, again)
			}
			if _, again, err := imported(t, "", zone, zipped(t, files)); again != sums || err != nil {
				t.Errorf("as an archive: %v\n%s", err, again)
			}
		})
	}
}

// A dump gives the same sums as the CSV file of the same rows.
func TestUmamiDumps(t *testing.T) {
	want, err := os.ReadFile("testdata/umami.golden.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"umami-postgres", "umami-mysql"} {
		_, sums, err := imported(t, "", "Europe/Berlin", filesOf(t, dir)...)
		if err != nil || sums != string(want) {
			t.Errorf("%s: %v\n%s", dir, err, sums)
		}
	}
}

func totalsOf(sums string) string {
	var totals []string
	for line := range strings.Lines(sums) {
		s, _ := ParseSum([]byte(line))
		if s.Dim != "" {
			continue
		}
		totals = append(totals, s.Day.String())
		for m, n := range s.Counts {
			if s.Known.Has(Metric(m)) {
				totals = append(totals, fmt.Sprint(n))
			} else {
				totals = append(totals, "-")
			}
		}
	}
	return strings.Join(totals, " ")
}

func zipped(t *testing.T, files []File) File {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create("export/" + f.Name)
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, f.Size)
		if _, err := f.At.ReadAt(content, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return File{"export.zip", bytes.NewReader(b.Bytes()), int64(b.Len())}
}

func textFile(name, text string) File { return File{name, strings.NewReader(text), int64(len(text))} }

// A wrong row is an error that names its file and line, and nothing is made up for it.
func TestErrors(t *testing.T) {
	const pgDump = "--\n-- PostgreSQL database dump\n\nCOPY public.website (website_id) FROM stdin;\n"
	const umami = "session_id,event_type,created_at,url_path,website_id\n"
	for _, x := range []struct {
		format     Format
		name, text string
		want       string
	}{
		{Plausible, "imported_visitors.csv", "date,visitors\n2025-01-01,1\n2025-13-01,1\n",
			`imported_visitors.csv, line 3: "2025-13-01" is no day`},
		{Plausible, "imported_visitors.csv", "date,visitors\n2025-01-01,-1\n",
			`line 2: "-1" in column visitors`},
		{Plausible, "imported_visitors.csv", "day,visitors\n", "line 1: there is no column date"},
		{Plausible, "imported_visitors.csv", "", "has no line"},
		{Plausible, "imported_visitors.csv", "date,visitors\n\"" + strings.Repeat("x", 2*maxRecord),
			"line 2: a record is over"},
		{GA4, "a.csv", "date,sessions,bounceRate\n2025-01-01,1,7\n", "line 2: a bounce rate of 7"},
		{GA4, "a.csv", "date,sessions\n2025-01-01,lots\n", `line 2: "lots" in column sessions is no count`},
		{Umami, "a.csv", umami + "a,1,now,/,w\n", `line 2: "now" is no time`},
		{Umami, "a.csv", umami + "a,1,0001-01-01 00:00:00,/,w\n", `line 2: its time is in the year 1`},
		{Matomo, "VisitsSummary.get.csv", "nb_visits\n1\n", "line 1: there is no column date"},
		{Matomo, "VisitsSummary.get.csv", "date,x\n2025-01-01,1\n", "line 2: there is no column that counts"},
		{GoatCounter, "a.csv", "3Path,Event,Session,Bot,Date\n",
			"line 1: the header has to begin with 2Path"},
		{GoatCounter, "a.csv", "2Path,Event,Session,Bot,Date\n/,false,a,0,today\n",
			`line 2: "today" is no time`},
		{Log, "a.log", strings.Repeat("no log\n", 99), `line 11: "no log" is no line of a log`},
		{Log, "a.log", strings.Repeat("x", maxLine+1), "line 1: it is over"},
		{Umami, "a.sql", pgDump + "\\.\n", "a.sql has no table website_event"},
		{Umami, "a.sql", pgDump + "a\n", "line 6: the rows of website have no end"},
		{Umami, "a.sql", pgDump + "a\n\\.\nCOPY website_event (website_id) FROM stdin;\na\n",
			`line 8: "" is no time`},
		{Umami, "a.sql", pgDump + "a\nb\n\\.\nCOPY website_event (event_type) FROM stdin;\n1\n",
			"line 9: none of the 2 websites of the dump has the domain example.com"},
		{Umami, "a.sql", "-- MySQL dump\nINSERT INTO `session` VALUES ('a", "line 2: unexpected EOF"},
		{Umami, "a.sql", "-- MySQL dump\nINSERT INTO `session` VALUES ('" + strings.Repeat("x", 2*maxRecord),
			"line 2: a row is over"},
		{Umami, "a.sql", "-- MySQL dump\nINSERT INTO `session` " + strings.Repeat("x", 2*sniffed),
			"line 2: an INSERT has no VALUES"},
		{"", "a.txt", "hello\n", "the format of a.txt can't be told"},
		{"xyz", "a.txt", "hello\n", `"xyz" is no format`},
		{"", "a.zip", "PK\x03\x04", "read the archive a.zip"},
	} {
		_, sums, err := imported(t, x.format, "UTC", textFile(x.name, x.text))
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%.40q: %v, want %s", x.text, err, x.want)
		}
		if err != nil && len(err.Error()) > 300 || strings.Contains(sums, "-") && x.format != Plausible {
			t.Errorf("%.40q: %v %s", x.text, err, sums)
		}
	}
}

// Two files of one dimension and day count once; metrics that only one of them has add up.
func TestRepeatedDimension(t *testing.T) {
	report, sums, err := imported(t, GA4, "UTC",
		textFile("a.csv", "date,pagePath,screenPageViews\n20250101,/,5\n"),
		textFile("b.csv", "date,pagePath,sessionSource,screenPageViews\n20250101,/,x,3\n20250101,/,y,2\n"),
		textFile("c.csv", "date,pagePath,totalUsers\n20250101,/,4\n"))
	want := `{"day":"2025-01-01","dim":"event:page","value":"/","visitors":4,"pageviews":5}
{"day":"2025-01-01","dim":"visit:source","value":"x","pageviews":3}
{"day":"2025-01-01","dim":"visit:source","value":"y","pageviews":2}
`
	if err != nil || sums != want || report.Skipped[skipRepeated] != 2 || len(report.Notes) != 1 {
		t.Errorf("%v %+v\n%s", err, report, sums)
	}
}

// Two columns of one dimension count once.
func TestTwoColumnsOfOneDimension(t *testing.T) {
	_, sums, err := imported(t, GA4, "UTC", textFile("a.csv",
		"date,pagePath,pagePathPlusQueryString,screenPageViews\n20250101,/a,/a?b=1,5\n20250101,/a,/a,2\n"))
	want := `{"day":"2025-01-01","dim":"event:page","value":"/a","pageviews":7}` + "\n"
	if err != nil || sums != want {
		t.Errorf("%v\n%s", err, sums)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	none := func(Sum) error { return nil }
	_, err := Run(ctx, Config{Format: Plausible, Emit: none}, filesOf(t, "plausible"))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	full := errors.New("full")
	_, err = Run(t.Context(), Config{Format: Plausible, Emit: func(Sum) error { return full }},
		filesOf(t, "plausible"))
	if !errors.Is(err, full) {
		t.Error(err)
	}
}

func TestGzip(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte("date,sessions\n20250101,3\n"))
	_ = z.Close()
	_, sums, err := imported(t, "", "UTC", textFile("a.csv.gz", b.String()))
	if err != nil || sums != `{"day":"2025-01-01","visits":3}`+"\n" {
		t.Errorf("%s %v", sums, err)
	}
}

// ParseSum refuses what no import writes.
func TestParseSum(t *testing.T) {
	long := strings.Repeat("x", MaxValue+1)
	for line, want := range map[string]string{
		`{"day":"2025-01-01","visits":1,"extra":2}`:                      "unknown field",
		`{"day":"2025-01-01"}`:                                           "there is no count",
		`{"visits":1}`:                                                   `"day" is missing`,
		`{"day":"1025-01-01","visits":1}`:                                "is no day",
		`{"day":"2025-01-01","dim":"visit:shoe","value":"x","visits":1}`: "is no dimension",
		`{"day":"2025-01-01","value":"x","visits":1}`:                    `needs a "dim"`,
		`{"day":"2025-01-01","visits":-1}`:                               "no sum",
		`{"day":"2025-01-01","visits":9007199254740993}`:                 "over 2^53",
		`{"day":"2025-01-01","visits":1}{"day":"2025-01-01","visits":1}`: "more than one",
		`[]`: "no sum",
		`{"day":"2025-01-01","dim":"event:page","visits":1,"value":"` + long + `"}`: "over",
	} {
		if s, err := ParseSum([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %+v %v, want %s", line, s, err, want)
		}
	}
}
