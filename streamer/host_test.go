package streamer

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"nowcast/streamer/access"
)

// Requests for a host name that isn't the cluster's are refused (DNS rebinding), whatever they ask for.
func TestHosts(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{
		Access: access.Config{
			PublicURL: "https://stats.example.com", AllowedHosts: []string{"*.internal.example"},
		},
		Dashboard: fstest.MapFS{"index.html": {Data: []byte("the page")}},
	})
	ask := func(host, path string) *http.Response {
		req := httptest.NewRequest(http.MethodGet, base+path, nil)
		req.RequestURI, req.Host = "", host
		res, err := http.DefaultTransport.RoundTrip(req.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	for _, path := range []string{"/", "/login", "/example.com", "/api/v1/sites", "/api/v1/session",
		"/robots.txt",
		"/api/openapi.yaml", "/api/events?site=open.example.com", "/share/x", "/nothing", "/assets/x"} {
		for _, host := range []string{"evil.example", "evil.example:8080", "stats.example.com.evil.example",
			"internal.example"} {
			if res := ask(host, path); res.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%s of %s: %s", path, host, res.Status)
			}
		}
		for _, host := range []string{"stats.example.com", "STATS.example.com:443", "localhost:1",
			"127.0.0.1",
			"[::1]:8080", "a.internal.example"} {
			if res := ask(host, path); res.StatusCode == http.StatusMisdirectedRequest {
				t.Errorf("%s of %s: %s", path, host, res.Status)
			}
		}
	}
}

// Every answer in JSON says that it is JSON and not to be kept; where browsers come by https they keep to it.
func TestSecureHeaders(t *testing.T) {
	w := newWorld(t)
	secure := w.streamer(Config{Access: access.Config{PublicURL: "https://stats.example.com"}})
	plain := w.streamer(Config{Access: access.Config{PublicURL: "http://stats.example.com"}})
	for _, base := range []string{secure, plain} {
		for _, row := range []struct{ method, path, key, body string }{
			{"GET", "/api/v1/session", "", ""}, {"GET", "/api/v1/sites", "", ""},
			{"GET", "/api/v1/keys", "", ""},
			{"GET", "/api/v1/keys", adminSecret, ""}, {"GET", "/api/v1/sites/open.example.com", "", ""},
			{"POST", "/api/v1/keys", adminSecret, `{"name":"x","admin":true}`},
			{"GET", "/api/v1/erasures", adminSecret, ""},
			{"GET", "/api/v1/stats/realtime/visitors?site_id=open.example.com", "", ""},
			{"GET", "/api/v1/stats/realtime/visitors?site_id=own.example.com", "", ""},
			{"POST", "/api/v2/query", "", "{"},
			{"POST", "/api/v1/tickets", adminSecret, `{"sites":["own.example.com"]}`},
			{"POST", "/api/v1/codes", adminSecret, ""}, {"GET", "/api/events?rate=7s", "", ""},
			{"GET", "/wp-login.php", "", ""}, {"POST", "/nothing", "", ""}, {"POST", "/login", "", ""},
		} {
			res, body := w.get(row.method, base+row.path, row.key, row.body)
			hsts := res.Header.Get("Strict-Transport-Security")
			if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") ||
				res.Header.Get("Cache-Control") != "no-store" ||
				res.Header.Get("X-Content-Type-Options") != "nosniff" || (base == secure) != (hsts != "") {
				t.Errorf("%s %s: %s %v %.80s", row.method, row.path, res.Status, res.Header, body)
			}
		}
	}
}

// Below a path everything works with the path and without it, as proxies pass it on or strip it.
func TestBasePath(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{
		Access: access.Config{PublicURL: "https://example.com/stats"},
		Dashboard: fstest.MapFS{
			"index.html": {Data: []byte(`<base href="/" />`)}, "assets/a.js": {Data: []byte("x")},
		},
	})
	_, secret, err := w.sites.NewLink(t.Context(), "own.example.com", "press")
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "/stats"} {
		for _, row := range []struct {
			path, says string
			status     int
		}{
			{"/", `<base href="/stats/" />`, 200}, {"/example.com/history", `<base href="/stats/" />`, 200},
			{"/assets/a.js", "x", 200}, {"/login", `action="/stats/login"`, 200},
			{"/api/openapi.yaml", "\n  - url: /stats\n", 200},
			{"/api/v1/session", `"authenticated":false`, 200},
			{"/nothing", "/stats/api/openapi.yaml", 404}, {"/robots.txt", "Disallow", 200},
		} {
			if res, body := w.get("GET", base+prefix+row.path, "", ""); res.StatusCode != row.status ||
				!strings.Contains(body, row.says) {
				t.Errorf("%s%s: %s %s", prefix, row.path, res.Status, body)
			}
		}
		res, _ := w.get("GET", base+prefix+"/share/"+secret, "", "")
		if to := res.Header.Get("Location"); to != "/stats/own.example.com" ||
			res.Cookies()[0].Path != "/stats/" {
			t.Errorf("a link leads to %q with %v", to, res.Cookies())
		}
		res, _ = postLogin(t, base+prefix, map[string][]string{"key": {adminSecret}})
		if to := res.Header.Get("Location"); to != "/stats/" || res.Cookies()[0].Path != "/" {
			t.Errorf("a login leads to %q with %v", to, res.Cookies())
		}
	}
	if res, body := w.get("GET", base+"/stats", "", ""); res.StatusCode != 200 ||
		!strings.Contains(body, "base") {
		t.Errorf("without a slash: %s %s", res.Status, body)
	}
}

// A session is renewed on use, at most once a day, and the browser is told.
func TestSessionIsRenewed(t *testing.T) {
	w := newAccessWorld(t)
	key, _ := w.key("own.example.com")
	fresh, old := w.world.session(key, soonAfter(6, 1)), w.world.session(key, soonAfter(5, 23))
	for cookie, renewed := range map[string]bool{fresh: false, old: true} {
		var res *http.Response
		for range 2 { // the second request has nothing to renew
			r, body := w.do("GET", "/api/v1/session", "", "Cookie", cookie)
			if r.StatusCode != http.StatusOK || !strings.Contains(body, `"authenticated":true`) {
				t.Fatal(r.Status, body)
			}
			if res == nil {
				res = r
			} else if len(r.Cookies()) > 0 {
				t.Error("renewed twice")
			}
		}
		if c := res.Cookies(); (len(c) == 1) != renewed ||
			renewed && (c[0].Name+"="+c[0].Value != cookie || c[0].MaxAge < 7*24*60*60-60) {
			t.Errorf("renewal %v: %v", renewed, c)
		}
	}
}
