package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestOwnID compares the id that a visitor is shown with the one in the log. Only the sender's own id is
// told, nothing is counted, and no page of another origin can read it.
func TestOwnID(t *testing.T) {
	w := start(t, Config{AddressLimit: Limit{Rate: 1, Burst: 20}})
	ask := func(site, addr, agent string) (string, answer) {
		t.Helper()
		a := w.request(t, "GET /api/visitor?site="+site, "", "User-Agent", agent, "X-Forwarded-For", addr,
			"Origin", "https://evil.example")
		var v struct{ Visitor string }
		if a.status == http.StatusOK {
			if err := json.Unmarshal([]byte(a.body), &v); err != nil {
				t.Fatal(err, a.body)
			}
		}
		return v.Visitor, a
	}
	own, a := ask("example.com", "8.8.8.8", chrome)
	if a.status != 200 || len(own) != 16 || a.header.Get("Cache-Control") != "no-store" ||
		a.header.Get("Access-Control-Allow-Origin") != "" ||
		a.header.Get("Cross-Origin-Resource-Policy") != "same-origin" || len(w.events(t)) != 0 {
		t.Fatalf("%+v, %d events", a, len(w.events(t)))
	}
	w.post(t, `{"n":"pageview","u":"https://www.example.com/a"}`, "User-Agent", chrome, "X-Forwarded-For",
		"8.8.8.8")
	events := w.events(t)
	if len(events) != 1 || fmt.Sprintf("%016x", events[0].Visitor) != own {
		t.Errorf("the log has %+v, and %s was shown", events, own)
	}
	for _, c := range []struct {
		site, addr, agent string
		same              bool
	}{
		{"www.example.com", "8.8.8.8", chrome, true}, // as beacons of the site name it
		{"example.com", "8.8.4.4", chrome, false},
		{"example.com", "8.8.8.8", chrome + "x", false},
		{"other.example", "8.8.8.8", chrome, false},
		{"nobody.example", "8.8.8.8", chrome, false}, // whether a site exists isn't told
	} {
		if id, a := ask(c.site, c.addr, c.agent); a.status != 200 || (id == own) != c.same {
			t.Errorf("%+v: %s, want the same %v: %+v", c, id, c.same, a)
		}
	}
	if _, a := ask("", "8.8.8.8", chrome); a.status != 400 || !strings.Contains(a.body, "site") {
		t.Errorf("no site: %+v", a)
	}
	for range 30 {
		_, a = ask("example.com", "8.8.8.8", chrome)
	}
	if a.status != http.StatusTooManyRequests {
		t.Errorf("the limit of an address doesn't hold: %+v", a)
	}
}
