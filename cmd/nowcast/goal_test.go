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

// partsStub answers the commands for goals, funnels, segments and annotations, and keeps the last request
// that changes something.
type partsStub struct {
	mu    sync.Mutex
	asked string
}

const (
	goalJSON = `{"id":"g1","name":"Sale","event":"Purchase","currency":"EUR","properties":[{"key":"plan",` +
		`"operator":"is_not","values":["a","b"]}],"created":"2026-11-23T12:00:00Z","revision":4}`
	funnelJSON = `{"id":"f1","name":"Buy","steps":[{"page":"/a","scroll_depth":75},{"goal":"g1"}],` +
		`"scope":"day","strict":false,"created":"2026-11-23T12:00:00Z","revision":2}`
	segmentJSON = `{"id":"s1","name":"German","filters":[["is","visit:country",["DE"]]],"shared":true,` +
		`"by":"k1","created":"2026-11-23T12:00:00Z","revision":3}`
	annotationJSON = `{"id":"a1","at":"2026-11-30","text":"Launch","by":"k1",` +
		`"created":"2026-11-23T12:00:00Z","revision":1}`
)

func (p *partsStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v1/sites/example.com/")
	kind, _, _ := strings.Cut(path, "/")
	one := map[string]string{"goals": goalJSON, "funnels": funnelJSON, "segments": segmentJSON,
		"annotations": annotationJSON}[kind]
	switch r.Method {
	case http.MethodGet:
		if kind == "segments" {
			one += "," + strings.Replace(one, "s1", "s2", 1)
		}
		fmt.Fprintf(w, `{%q:[%s]}`, kind, one)
		return
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		fmt.Fprint(w, one)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = fmt.Sprintf("%s %s %s", r.Method, path, body)
}

func (p *partsStub) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = ""
	return asked
}

func TestGoalsOfASite(t *testing.T) {
	var p partsStub
	s := httptest.NewServer(&p)
	defer s.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, adminKeyFile), []byte("nck_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const stays = `"properties":[{"key":"plan","operator":"is_not","values":["a","b"]}]`
	for _, row := range []struct{ args, asked, out string }{
		{"goal add example.com Sale --event Purchase --currency EUR --property plan=a|b --property t!~x,y",
			`POST goals {"name":"Sale","event":"Purchase","currency":"EUR","properties":[{"key":"plan",` +
				`"operator":"is","values":["a","b"]},{"key":"t","operator":"contains_not",` +
				`"values":["x,y"]}]}`,
			"g1  Sale  event Purchase, plan!=a|b  EUR"},
		{"goal add example.com Deep --page /a/** --scroll-depth 75",
			`POST goals {"name":"Deep","page":"/a/**","scroll_depth":75}`, "g1"},
		{"goal add example.com Long --page /a --engaged-seconds 30",
			`POST goals {"name":"Long","page":"/a","engaged_seconds":30}`, "g1"},
		{"goal list example.com", ``, "g1  Sale"},
		{"goal set example.com Sale --name Sold",
			`PUT goals/g1 {"name":"Sold","event":"Purchase","currency":"EUR","revision":4,` + stays + `}`,
			"g1"},
		{"goal set example.com g1 --page /b --currency none",
			`PUT goals/g1 {"name":"Sale","page":"/b","revision":4}`,
			"g1"},
		{"goal remove example.com Sale", `DELETE goals/g1 `, "Sale is removed"},
		{"funnel add example.com Buy --step page:/a --step goal:Sale --within day",
			`POST funnels {"name":"Buy","steps":[{"page":"/a"},{"goal":"g1"}],"scope":"day","strict":false}`,
			"f1  Buy   day     no      page /a, 75 % of it → goal Sale"},
		{"funnel list example.com", ``, "page /a, 75 % of it → goal Sale"},
		{"funnel set example.com Buy --strict", `PUT funnels/f1 {"name":"Buy","steps":[{"page":"/a",` +
			`"scroll_depth":75},{"goal":"g1"}],"scope":"day","strict":true,"revision":2}`, "f1"},
		{"funnel set example.com f1 --step event:x --step page:/y:z --within visit --name N",
			`PUT funnels/f1 {"name":"N","steps":[{"event":"x"},{"page":"/y:z"}],"scope":"visit",` +
				`"strict":false,"revision":2}`, "f1"},
		{"funnel remove example.com Buy", `DELETE funnels/f1 `, "Buy is removed"},
		{`segment add example.com German --filters [["is","visit:country",["DE"]]] --shared`,
			`POST segments {"name":"German","filters":[["is","visit:country",["DE"]]],"shared":true}`,
			`s1  German  yes     [["is","visit:country",["DE"]]]`},
		{"segment list example.com", ``, "s2  German"},
		{"segment set example.com s1 --no-shared --name X", `PUT segments/s1 {"name":"X","shared":false,` +
			`"filters":[["is","visit:country",["DE"]]],"revision":3}`, "s1"},
		{"segment remove example.com s2", `DELETE segments/s2 `, "German is removed"},
		{"annotation add example.com 2026-11-30 Launch",
			`POST annotations {"at":"2026-11-30","text":"Launch"}`,
			"a1  2026-11-30  Launch  k1"},
		{"annotation list example.com", ``, "Launch"},
		{"annotation set example.com a1 --text Start",
			`PUT annotations/a1 {"at":"2026-11-30","text":"Start","revision":1}`, "a1"},
		{"annotation remove example.com a/1", `DELETE annotations/a%2F1 `, "a/1 is removed"},
	} {
		args := append([]string{"site"}, strings.Fields(row.args)...)
		code, out, errs := nowcast(t, append(args, "--server", s.URL, "--data-dir", dir)...)
		if asked := p.take(); code != 0 || !sameRequest(asked, row.asked) || !strings.Contains(out, row.out) {
			t.Errorf("%s: %d\nasked %s\nprinted %s%s", row.args, code, asked, out, errs)
		}
	}
	for _, row := range []struct{ args, want string }{
		{"goal set example.com nothing --name x", `there is no goal "nothing"`},
		{"segment remove example.com German", `2 segments have the name "German"; give the id of one`},
		{"annotation set example.com a2 --text x", `there is no annotation "a2"`},
		{"funnel add example.com Buy --step page:/a --step goal:nothing", `there is no goal "nothing"`},
	} {
		args := append([]string{"site"}, strings.Fields(row.args)...)
		code, _, errs := nowcast(t, append(args, "--server", s.URL, "--data-dir", dir)...)
		if asked := p.take(); code != 1 || asked != "" || !strings.Contains(errs, row.want) {
			t.Errorf("%s: %d %s asked %s", row.args, code, errs, asked)
		}
	}
}
