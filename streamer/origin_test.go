package streamer

import (
	"net/http"
	"strings"
	"testing"

	"nowcast/internal/site"
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
		{"own.example.com", "https://own.example.com", nothing, 401, "https://own.example.com"},
		// as if it were there
		{"nobody.example", "https://nobody.example", nothing, 401, "https://nobody.example"},
		{"own.example.com", "https://own.example.com", byCookie, 401, "https://own.example.com"},
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
		{"own.example.com", "https://evil.example", byCookie, 401, ""},
		{"own.example.com", "https://evil.example", nothing, 401, ""},
		{"listed.example.com", "https://app.example.net", byListed, 200, "https://app.example.net"},
		{"listed.example.com", "https://a.example.org", byListed, 200, "https://a.example.org"},
		{"listed.example.com", "https://listed.example.com", byListed, 403, ""},
		{"listed.example.com", "https://own.example.com", byListed, 403, ""},
	} {
		row.v.origin = row.origin
		for _, route := range []string{
			"GET /api/v1/stats/realtime/visitors?site_id=" + row.site, "GET /api/events?site=" + row.site,
			"POST /api/v2/query",
		} {
			method, path, _ := strings.Cut(route, " ")
			want, body := row.status, ""
			if method == "POST" {
				body = `{"site_id":"` + row.site + `","metrics":["visitors"],"date_range":"day"}`
				if want == 200 {
					want = 503 // there is no ClickHouse here
				}
			}
			status, h, _ := w.ask(method, path, body, row.v)
			vary := strings.Contains(h.Get("Vary"), "Origin")
			if status != want || h.Get("Access-Control-Allow-Origin") != row.allow ||
				vary != (row.allow != "*") ||
				h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf(
					"%s of %s from %q by %+v: %d %q %q, want %d %q", route, row.site, row.origin, row.v,
					status, h.Get("Access-Control-Allow-Origin"), h.Get("Vary"), want, row.allow,
				)
			}
		}
	}
	for _, row := range []struct{ path, origin, allow string }{
		{"/api/events?site=own.example.com", "https://own.example.com", "https://own.example.com"},
		{"/api/events?site=own.example.com", "https://evil.example", ""},
		{"/api/events?site=open.example.com", "https://evil.example", "https://evil.example"},
		{"/api/events", "https://evil.example", "https://evil.example"}, // the default site, which is public
		{"/api/events?site=own.example.com", "", ""},
		{"/api/v1/stats/realtime/visitors?site_id=listed.example.com", "https://app.example.net",
			"https://app.example.net"},
		{"/api/v1/stats/realtime/visitors?site_id=listed.example.com", "https://listed.example.com", ""},
		{"/api/v2/query", "https://app.example.net", "https://app.example.net"},
		{"/api/v2/query", "https://evil.example", "https://evil.example"}, // there is a public site
	} {
		status, h, _ := w.ask("OPTIONS", row.path, "", shown{origin: row.origin})
		if status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != row.allow ||
			h.Get("Access-Control-Allow-Credentials") != "" ||
			!strings.Contains(h.Get("Vary"), "Origin") ||
			row.allow != "" && h.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, "+
				"Last-Event-ID" {
			t.Errorf("preflight of %s from %s: %d %v", row.path, row.origin, status, h)
		}
	}
	if err := w.sites.Put(t.Context(), site.Site{Domain: "open.example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, h, _ := w.ask("OPTIONS", "/api/v2/query", "", shown{origin: "https://evil.example"}); h.Get(
		"Access-Control-Allow-Origin",
	) != "" {
		t.Error("a page that may read no site gets through a preflight")
	}
}
