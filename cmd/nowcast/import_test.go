package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// importStub answers as a server does, and keeps the bodies that arrived whole.
type importStub struct {
	mu     sync.Mutex
	asked  []string
	bodies []string
}

func (s *importStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	if err == nil {
		s.bodies = append(s.bodies, string(body))
	}
	const imported = `{"id":"imp_1","format":"ga4","name":"a.csv","at":"2026-11-30T12:00:00Z",` +
		`"first":"2025-01-01","last":"2025-01-02","days":2,"sums":%d,` +
		`"skipped":[{"reason":"of a day on which the site has events","sums":3}]%s}`
	switch {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost && strings.Contains(r.URL.RawQuery, "refuse"):
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"error":"nothing was imported"}`)
	case r.Method == http.MethodPost:
		more := ""
		if strings.Contains(r.URL.RawQuery, "dry_run=true") {
			more = `,"dry_run":true`
		}
		fmt.Fprintf(w, imported, strings.Count(string(body), "\n"), more)
	case strings.HasSuffix(r.URL.Path, "/imports"):
		fmt.Fprintf(w, `{"imports":[`+imported+`]}`, 2, "")
	default:
		fmt.Fprint(w, `{"domain":"example.com","public":false,"timezone":"Asia/Kathmandu",`+
			`"created":"2026-11-23T12:00:00Z"}`)
	}
}

func TestImport(t *testing.T) {
	var stub importStub
	s := httptest.NewServer(&stub)
	defer s.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("a.csv", "date,sessions\n20250101,3\n20250102,4\n")
	bad := file("bad.csv", "date,sessions\n20250101,3\n20250102,lots\n")
	// 20:00 UTC is the next day in Kathmandu, and the classifier is that of ingest
	log := file("refuse.log", `192.0.2.1 - - [01/Jan/2025:20:00:00 +0000] `+
		`"GET /a?utm_source=newsletter HTTP/1.1" 200 9 "https://www.google.com/" `+
		`"Mozilla/5.0 (X11; Linux x86_64; rv:138.0) Gecko/20100101 Firefox/138.0"`)
	for _, row := range []struct {
		args, out, errs, asked string
		code                   int
	}{
		{"--dry-run " + good, "Would import 2 sums of 2 days, 2025-01-01 to 2025-01-02. Nothing was stored.",
			"", "POST /api/v1/sites/example.com/imports?dry_run=true&format=ga4&name=a.csv", 0},
		{"--overlap " + good, "Imported 2 sums", "",
			"POST /api/v1/sites/example.com/imports?format=ga4&name=a.csv&overlap=true", 0},
		{good, "  not imported: 3 sums, of a day on which the site has events\n", "",
			"POST /api/v1/sites/example.com/imports?format=ga4&name=a.csv", 0},
		// Its body breaks off: perhaps before the request is sent.
		{bad, "", `bad.csv, line 3: "lots" in column sessions is no count`, "", 1},
		{log, "", "nothing was imported",
			"POST /api/v1/sites/example.com/imports?format=log&name=refuse.log", 1},
		{filepath.Join(dir, "none"), "", "no such file", "GET /api/v1/sites/example.com", 1},
		{dir, "", "is no regular file", "GET /api/v1/sites/example.com", 1},
	} {
		code, out, errs := nowcast(t, append([]string{"import", "--site", "example.com", "--server", s.URL,
			"--key", "nck_secret"}, strings.Fields(row.args)...)...)
		stub.mu.Lock()
		asked := stub.asked[len(stub.asked)-1]
		stub.mu.Unlock()
		if code != row.code || !strings.Contains(out, row.out) || !strings.Contains(errs, row.errs) ||
			!strings.HasPrefix(asked, row.asked) {
			t.Errorf("%s: %d, asked %s\n%s%s", row.args, code, asked, out, errs)
		}
	}
	bodies := strings.Join(stub.bodies, "")
	if n := strings.Count(bodies, `{"day":"2025-01-01","visits":3}`+"\n"); n != 3 {
		t.Errorf("%d whole bodies have the sums of the first day, want 3 and not that of the wrong file", n)
	}
	for _, want := range []string{`{"day":"2025-01-02","dim":"visit:browser","value":"Firefox","visitors":1,`,
		`"dim":"visit:source","value":"Newsletter"`, `"dim":"event:page","value":"/a","visitors":1`,
		`"dim":"visit:channel","value":"`} {
		if !strings.Contains(bodies, want) {
			t.Errorf("there is no %s in\n%s", want, bodies)
		}
	}
	if strings.Contains(bodies, "192.0.2.1") {
		t.Errorf("an address is sent: %s", bodies)
	}
	for args, want := range map[string]string{
		"list example.com":         "imp_1  ga4",
		"remove example.com imp_1": "imp_1 is taken back",
	} {
		all := append(strings.Fields("import "+args), "--server", s.URL, "--key", "k")
		code, out, errs := nowcast(t, all...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("import %s: %d\n%s%s", args, code, out, errs)
		}
	}
}
