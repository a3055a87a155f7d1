package streamer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Which origins' pages may read what, and what browsers are told.
func TestOrigins(t *testing.T) {
	w := newAccessWorld(t)
	for _, row := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "", `{"domain":"listed.example.com","origins":["https://App.example.net/"]}`, 201,
			`"origins":["https://app.example.net"]`},
		{"PATCH", "/listed.example.com", `{"origins":["https://app.example.net","https://*.example.org"]}`,
			200, `"https://*.example.org"`},
		{"PATCH", "/listed.example.com", `{"timezone":"Europe/Berlin"}`, 200, `"https://*.example.org"`},
		{"PATCH", "/listed.example.com", `{"origins":["example.net"]}`, 400,
			"is no origin; give it as https://app.example.com"},
		{"PATCH", "/own.example.com", `{"origins":["https://x.example"]}`, 200, "x.example"},
		{"PATCH", "/own.example.com", `{"origins":[]}`, 200, `"origins":[]`},
	} {
		status, _, body := w.ask(row.method, "/api/v1/sites"+row.path, row.body, shown{bearer: adminSecret})
		if status != row.status ||
			!strings.Contains(body, row.says) {
			t.Errorf("%s %s: %d %s", row.method, row.body, status, body)
		}
	}
	_, share := w.link("own.example.com")
	_, listedShare := w.link("listed.example.com")
	shareCookie := w.cookie("/share/" + share)
	byTicket := shown{
		query: "ticket=" + w.ticket(`{"sites":["own.example.com"]}`, shown{bearer: adminSecret}),
	}
	byShare, byListed := shown{query: "share=" + share}, shown{query: "share=" + listedShare}
	byKey, nothing, byCookie := shown{bearer: adminSecret}, shown{}, shown{cookie: shareCookie}
	for _, row := range []struct {
		site, origin string
		v            shown
		status       int
		allow        string
	}{
		{"open.example.com", "", nothing, 200, "*"},
		{"open.example.com", "https://anywhere.example", nothing, 200, "*"},
		{"open.example.com", "null", byTicket, 200, "*"},
		{"own.example.com", "", byTicket, 200, ""},
		{"own.example.com", "https://own.example.com", byTicket, 200, "https://own.example.com"},
		{"own.example.com", "http://www.own.example.com:8080", byShare, 200,
			"http://www.own.example.com:8080"},
		{"own.example.com", "https://own.example.com", byKey, 200, "https://own.example.com"},
		// a refusal has the same headers for every site, there or not
		{"own.example.com", "https://own.example.com", nothing, 401, "*"},
		{"nobody.example", "https://nobody.example", nothing, 401, "*"},
		{"listed.example.com", "https://app.example.net", nothing, 401, "*"},
		{"own.example.com", "https://own.example.com", byCookie, 401, "*"},
		{"own.example.com", w.base, byCookie, 200, ""},                     // by Host
		{"own.example.com", "http://stats.example.com", byCookie, 200, ""}, // by the public URL
		// a proxy took the port out of Host
		{"own.example.com", "http://127.0.0.1:1", byCookie, 200, ""},
		{"own.example.com", "http://127.0.0.1:1", byTicket, 403, ""}, // but it is another origin
		{"own.example.com", "https://evil.example", byTicket, 403, ""},
		{"own.example.com", "https://evil.example", byShare, 403, ""},
		{"own.example.com", "null", byShare, 403, ""},
		{"own.example.com", "https://evilown.example.com", byShare, 403, ""},
		{"own.example.com", "https://evil.example", byKey, 200, ""}, // no browser sends it without being let
		{"own.example.com", "https://evil.example", byCookie, 401, "*"},
		{"own.example.com", "https://evil.example", nothing, 401, "*"},
		{"listed.example.com", "https://app.example.net", byListed, 200, "https://app.example.net"},
		{"listed.example.com", "https://a.example.org", byListed, 200, "https://a.example.org"},
		{"listed.example.com", "https://listed.example.com", byListed, 403, ""},
		{"listed.example.com", "https://own.example.com", byListed, 403, ""},
	} {
		row.v.origin = row.origin
		for _, route := range []string{
			"GET /api/v1/stats/realtime/visitors?site_id=" + row.site, "GET /api/events?site=" + row.site,
			"POST /api/v2/query", "POST /api/v2/retention",
		} {
			method, path, _ := strings.Cut(route, " ")
			want, body := row.status, ""
			if method == "POST" {
				body = `{"site_id":"` + row.site + `","metrics":["visitors"],"date_range":"day"}`
				if path == "/api/v2/retention" {
					body = `{"site_id":"` + row.site + `","date_range":"day"}`
				}
				if want == 200 {
					want = 503 // there is no ClickHouse here
				}
			}
			status, h, _ := w.ask(method, path, body, row.v)
			vary := strings.Contains(h.Get("Vary"), "Origin")
			if status != want || h.Get("Access-Control-Allow-Origin") != row.allow ||
				vary != (row.site != "open.example.com") ||
				h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf(
					"%s of %s from %q by %+v: %d %q %q, want %d %q", route, row.site, row.origin, row.v,
					status, h.Get("Access-Control-Allow-Origin"), h.Get("Vary"), want, row.allow,
				)
			}
		}
	}
	// A preflight tells nothing: neither which sites there are nor whose pages may read them.
	answers := map[string]bool{}
	for _, path := range []string{
		"/api/events", "/api/events?site=own.example.com", "/api/events?site=open.example.com",
		"/api/events?site=nobody.example", "/api/v1/stats/realtime/visitors?site_id=listed.example.com",
		"/api/v1/stats/realtime/visitors?site_id=nobody.example", "/api/v2/query",
		"/api/v2/funnel", "/api/v2/journeys", "/api/v2/page", "/api/v2/retention",
	} {
		for _, origin := range []string{"", "null", "https://own.example.com", "https://app.example.net",
			"https://evil.example"} {
			status, h, _ := w.ask("OPTIONS", path, "", shown{origin: origin})
			h.Del("Date")
			answers[fmt.Sprint(status, h)] = true
			allowed := strings.Split(h.Get("Access-Control-Allow-Headers"), ", ")
			for _, name := range []string{"Authorization", "Cache-Control", "Content-Type", "Last-Event-ID",
				"X-Requested-With"} {
				if !slices.Contains(allowed, name) {
					t.Errorf("preflight of %s: %s is not allowed", path, name)
				}
			}
			if status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" ||
				h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight of %s from %s: %d %v", path, origin, status, h)
			}
		}
	}
	if len(answers) != 1 {
		t.Errorf("preflights differ: %v", answers)
	}
}
