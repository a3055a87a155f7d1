package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
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
	// A site's day is the one on its clocks.
	_, a = ask(farSite, "8.8.8.8", chrome)
	var v struct{ From, Until time.Time }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatal(err, a.body)
	}
	zone := time.FixedZone("", 14*3600)
	y, m, d := time.Now().In(zone).Date()
	if midnight := time.Date(y, m, d, 0, 0, 0, 0, zone); !v.From.Equal(midnight) ||
		!v.Until.Equal(midnight.AddDate(0, 0, 1)) {
		t.Errorf("the day of %s is %s, want it to begin at %s", farSite, a.body, midnight)
	}
	w.post(t, `{"n":"pageview","u":"https://`+farSite+`/a"}`, "X-Forwarded-For", "8.8.8.8")
	events = w.events(t)
	if far := events[len(events)-1]; far.UTCOffset != 14*3600 || int64(far.Day) != v.From.Unix()/86_400+1 {
		t.Errorf("%+v isn't of the day from %s", far, v.From)
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
