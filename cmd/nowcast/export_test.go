package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A whole export is written; of one that breaks off no file is left.
func TestExport(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL.RequestURI())
		if strings.Contains(r.URL.Path, "broken") {
			_ = http.NewResponseController(w).Flush()
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "events.csv")
	run := func(args string) (code int, out, errs string) {
		return nowcast(t, append(strings.Fields("export "+args), "--server", s.URL, "--key", "k")...)
	}
	const uri = "/api/v1/sites/example.com/export?format=csv&from=2026-11-01&to=2026-11-30\n"
	code, out, errs := run("--site example.com --format csv --from 2026-11-01 --to 2026-11-30")
	if code != 0 || out != uri {
		t.Errorf("%d %s%s", code, out, errs)
	}
	code, out, errs = run("--site broken -o " + file)
	if code != 1 || !strings.Contains(errs, "isn't whole") {
		t.Errorf("broken off: %d %s%s", code, out, errs)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a part of an export is left: %v", err)
	}
	for want := range 2 { // a file that is there already is not replaced
		if code, out, errs = run("--site example.com -o " + file); code != want {
			t.Errorf("into a file: %d, want %d: %s%s", code, want, out, errs)
		}
	}
	const all = "/api/v1/sites/example.com/export?format=ndjson\n"
	if b, err := os.ReadFile(file); err != nil || string(b) != all {
		t.Errorf("%s %v", b, err)
	}
}
