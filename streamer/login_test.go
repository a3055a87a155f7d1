package streamer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/access"
	"nowcast/streamer/streamertest"
)

const browser = "text/html,application/xhtml+xml,*/*"

// The page is a form without a script; nothing in an address logs in or uses a code up.
func TestLoginPage(t *testing.T) {
	w := newAccessWorld(t)
	key, _ := w.key()
	_, code, err := w.sites.NewCode(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path          string
		status        int
		says, without string
	}{
		{"/login", 200, `name="key" type="password"`, "role=\"alert\""},
		{"/login?code=" + code, 200, `name="code" value="` + code + `"`, `type="password"`},
		{"/login?code=%22%3E%3Cscript%3E", 200, `value="&#34;&gt;&lt;script&gt;"`, "<script>"},
		{"/login?key=" + adminSecret, 400, "Enter it below", adminSecret},
		{"/login?next=/own.example.com", 200, `name="next" value="/own.example.com"`, ""},
		{"/login?next=//evil.example/", 200, "Log in", "evil.example"},
		{"/login?next=/%5Cevil.example", 200, "Log in", "evil.example"},
		{"/login?next=https://evil.example", 200, "Log in", "evil.example"},
	} {
		res, body := w.do("GET", row.path, "", "Accept", browser)
		csp := res.Header.Get("Content-Security-Policy")
		if res.StatusCode != row.status || !strings.Contains(body, row.says) || len(res.Cookies()) > 0 ||
			row.without != "" && strings.Contains(body, row.without) ||
			!strings.Contains(csp, "style-src 'sha256-") || strings.Contains(csp, "unsafe") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || res.Header.Get("X-Frame-Options") != "DENY" ||
			res.Header.Get("Cache-Control") != "no-store" ||
			res.Header.Get("Referrer-Policy") != "no-referrer" ||
			res.Header.Get("X-Robots-Tag") != "noindex" {
			t.Errorf("%s: %d %v %s", row.path, res.StatusCode, res.Header, body)
		}
	}
	form := url.Values{"code": {code}, "next": {"/own.example.com/history?period=7d"}}
	res, body := postLogin(t, w.base, form)
	if res.StatusCode != http.StatusSeeOther ||
		res.Header.Get("Location") != "/own.example.com/history?period=7d" {
		t.Errorf("the code after its page was opened: %s %v %s", res.Status, res.Header, body)
	}
	for _, next := range []string{"//evil.example", "https://evil.example/", `/\evil.example`,
		"/login", "x"} {
		res, _ := postLogin(t, w.base, url.Values{"key": {adminSecret}, "next": {next}})
		if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || to != "/" {
			t.Errorf("next %s leads to %q", next, to)
		}
	}
}

// Who logs in with what.
func TestLogin(t *testing.T) {
	w := newAccessWorld(t)
	key, secret := w.key("own.example.com")
	gone, goneSecret := w.key()
	_, code, err := w.sites.NewCode(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	_, goneCode, err := w.sites.NewCode(t.Context(), gone)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sites.DeleteKey(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	_, share := w.link("own.example.com")
	for _, row := range []struct {
		name   string
		form   url.Values
		header []string
		status int
		says   string
	}{
		{"a key", url.Values{"key": {secret}}, nil, 303, ""},
		{"a key with spaces", url.Values{"key": {" " + secret + "\n"}}, nil, 303, ""},
		{"the operator's key", url.Values{"key": {adminSecret}}, nil, 303, ""},
		{"a code in the key's field", url.Values{"key": {code}}, nil, 303, ""},
		{"the code again", url.Values{"code": {code}}, nil, 401, "valid (any more)"},
		{"a removed key", url.Values{"key": {goneSecret}}, nil, 401, "valid (any more)"},
		{"the code of a removed key", url.Values{"code": {goneCode}}, nil, 401, "valid (any more)"},
		{"a link", url.Values{"key": {share}}, nil, 401, "valid (any more)"},
		{"nothing", url.Values{}, nil, 401, "enter a key"},
		{"a form of another site", url.Values{"key": {secret}},
			[]string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		{"by the public URL, behind a proxy that changes Host", url.Values{"key": {secret}},
			[]string{"Origin", "http://stats.example.com"}, 303, ""},
		{"too much", url.Values{"key": {strings.Repeat("x", 9<<10)}}, nil, 401, "enter a key"},
	} {
		for _, accept := range []string{"*/*", browser} {
			if row.name == "a code in the key's field" && accept == browser {
				continue // it is used up
			}
			header := append([]string{"Accept", accept, "X-Forwarded-For", nextAddress()}, row.header...)
			res, body := postLogin(t, w.base, row.form, header...)
			html := strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
			if res.StatusCode != row.status || !strings.Contains(strings.ToLower(body), row.says) ||
				(len(res.Cookies()) == 1) != (row.status == 303) ||
				row.status != 303 && html != (accept == browser) {
				t.Errorf("%s: %s %s", row.name, res.Status, body)
			}
		}
	}
}

// Failed keys and codes are limited by address and counted; an IPv6 address by its /64. The form refuses
// even a valid key of such an address for a while, the API only what isn't valid.
func TestFailuresAreLimited(t *testing.T) {
	w := newWorld(t)
	metrics := prometheus.NewRegistry()
	base := w.streamerWith(Config{}, metrics)
	fail := func(address string) *http.Response {
		res, _ := postLogin(t, base, url.Values{"key": {"nck_nonsense"}}, "X-Forwarded-For", address)
		return res
	}
	for i := range 10 {
		if res := fail("2001:db8:0:1::" + strconv.Itoa(i)); res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("failure %d: %s", i, res.Status)
		}
	}
	res := fail("2001:db8:0:1:ffff::")
	wait, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if res.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 7 {
		t.Errorf("failure 11: %s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
	if res := fail("2001:db8:0:2::1"); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("another network: %s", res.Status)
	}
	res, _ = postLogin(t, base, url.Values{"key": {adminSecret}}, "X-Forwarded-For", "2001:db8:0:1::1")
	if res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a valid key in the form: %s", res.Status)
	}
	for key, want := range map[string]int{"nck_wrong": 429, adminSecret: 200, "": 401} {
		res, body := w.get("GET", base+"/api/v1/stats/realtime/visitors?site_id=own.example.com", key, "",
			"X-Forwarded-For", "2001:db8:0:1::1")
		if res.StatusCode != want || want == 429 && res.Header.Get("Retry-After") == "" {
			t.Errorf("%q at the API: %s %s", key, res.Status, body)
		}
	}
	for i := range 11 { // failures at the API count as those at the form
		res, _ := w.get("GET", base+"/api/v1/session", "nck_wrong", "", "X-Forwarded-For", "192.0.2.1")
		if want := map[bool]int{false: 200, true: 429}[i == 10]; res.StatusCode != want {
			t.Errorf("%d: %s", i, res.Status)
		}
	}
	if n := streamertest.Metric(t, metrics, "failed_credentials_total", "key"); n != 21 {
		t.Errorf("%v failed keys are counted, want 21", n)
	}
	if n := streamertest.Metric(t, metrics, "failed_credentials_total", "limited"); n != 4 {
		t.Errorf("%v limited requests are counted, want 4", n)
	}
}

// Codes are made with a key, not with a session.
func TestLoginCodes(t *testing.T) {
	w := newAccessWorld(t)
	_, key := w.key("own.example.com")
	for name, row := range map[string]struct {
		v      shown
		status int
	}{
		"key": {shown{bearer: key}, 201}, "admin": {shown{bearer: adminSecret}, 201},
		"session": {shown{cookie: w.session(adminSecret)}, 401}, "nobody": {shown{}, 401},
	} {
		status, _, body := w.ask("POST", "/api/v1/codes", "", row.v)
		if status != row.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if status != 201 {
			continue
		}
		var made struct{ Code, Path string }
		if err := json.Unmarshal([]byte(body), &made); err != nil || made.Path != "/login?code="+made.Code {
			t.Errorf("%s: %s %v", name, body, err)
		}
		cookie := logIn(t, w.base, "code", made.Code)
		_, _, session := w.ask("GET", "/api/v1/session", "", shown{cookie: cookie})
		if admin := strings.Contains(session, `"admin":true`); admin != (name == "admin") {
			t.Errorf("%s: the code's session is %s", name, session)
		}
	}
}

// A browser logs in at one instance, and a load balancer sends its next requests to another one.
func TestSessionIsKnownAtOnce(t *testing.T) {
	w := newAccessWorld(t)
	other := w.streamerOf(w.Sites(), Config{Access: access.Config{PublicURL: "http://stats.example.com"}})
	_, secret := w.key("own.example.com")
	const path = "/api/v1/stats/realtime/visitors?site_id=own.example.com"
	for range 50 {
		if res, body := w.get("GET", other+path, "", "", "Cookie", w.session(secret)); res.StatusCode != 200 {
			t.Fatalf("after a login elsewhere: %d %s", res.StatusCode, body)
		}
	}
	res, _ := w.get("GET", other+path, "", "", "Cookie", "nowcast_session=ncs_unknown")
	if res.StatusCode != 401 {
		t.Errorf("a session that doesn't exist: %s", res.Status)
	}
}

// Sessions are listed and ended by an admin, and a logout ends the browser's own, on every instance at once.
func TestSessionsEnd(t *testing.T) {
	w := newAccessWorld(t)
	other := w.streamerOf(w.Sites(), Config{Access: access.Config{PublicURL: "http://stats.example.com"}})
	key, secret := w.key("own.example.com")
	ended, loggedOut, stays := w.session(secret), w.session(secret), w.session(secret)
	const path = "/api/v1/stats/realtime/visitors?site_id=own.example.com"
	status := func(base, cookie string) int {
		res, _ := w.get("GET", base+path, "", "", "Cookie", cookie)
		return res.StatusCode
	}
	streamertest.Eventually(t, "the other instance has the sessions", func() bool {
		return status(other, ended) == 200 && status(other, loggedOut) == 200 && status(other, stays) == 200
	})
	if code, _, body := w.ask("GET", "/api/v1/sessions", "", shown{bearer: secret}); code != 403 {
		t.Errorf("a viewer lists sessions: %d %s", code, body)
	}
	var list struct {
		Sessions []struct {
			ID, Key string
			Current bool
		}
	}
	admin := w.session(adminSecret)
	_, _, body := w.ask("GET", "/api/v1/sessions", "", shown{cookie: admin})
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Sessions) != 4 ||
		strings.Contains(body, "hash") {
		t.Fatalf("%s %v", body, err)
	}
	_, token, _ := strings.Cut(ended, "=")
	toEnd, _ := w.sites.AuthenticateSession(token)
	for _, s := range list.Sessions { // those of one millisecond are in any order
		if s.Current == (s.Key == key.ID) || s.Current && s.ID == toEnd.ID {
			t.Errorf("session %+v of %s", s, body)
		}
	}
	first := "/api/v1/sessions/" + toEnd.ID
	for _, row := range []struct {
		v      shown
		status int
	}{
		{shown{bearer: secret}, 403}, {shown{}, 401},
		{shown{cookie: admin, origin: "https://evil.example"}, 401}, // a cookie counts for own pages only
		{shown{bearer: adminSecret}, 204}, {shown{bearer: adminSecret}, 404},
	} {
		if code, _, body := w.ask("DELETE", first, "", row.v); code != row.status && code != 403 {
			t.Errorf("%+v: %d %s", row.v, code, body)
		}
	}
	res, _ := w.do("POST", "/logout", "", "Cookie", loggedOut, "Sec-Fetch-Site", "cross-site")
	if res.StatusCode != http.StatusForbidden || status(w.base, loggedOut) != 200 {
		t.Errorf("another site logs out: %s", res.Status)
	}
	res, _ = w.do("POST", "/logout", "", "Cookie", loggedOut, "Accept", browser)
	if c := res.Cookies(); res.StatusCode != http.StatusSeeOther || len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("logout: %s %v", res.Status, c)
	}
	if a, b, c := status(w.base, ended), status(w.base, loggedOut), status(w.base, stays); a != 401 ||
		b != 401 ||
		c != 200 {
		t.Errorf("ended %d, logged out %d, other %d", a, b, c)
	}
	streamertest.Eventually(t, "the other instance, too", func() bool {
		return status(other, ended) == 401 && status(other, loggedOut) == 401 && status(other, stays) == 200
	})
}
