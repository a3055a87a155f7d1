package streamer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The door of a share link.
func TestShareDoor(t *testing.T) {
	w := newAccessWorld(t)
	l, secret := w.link("own.example.com")
	res, _ := w.do("GET", "/share/"+secret, "")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/own.example.com" ||
		res.Header.Get("Cache-Control") != "no-store" ||
		res.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Fatal(res.Status, res.Header)
	}
	c := res.Cookies()[0]
	if c.Name == sessionCookie || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" ||
		strings.Contains(c.Value, secret) {
		t.Errorf("%+v", c)
	}
	cookie := c.Name + "=" + c.Value
	if err := w.sites.DeleteLink(t.Context(), "own.example.com", l.ID); err != nil {
		t.Fatal(err)
	}
	// Nothing tells a link that was revoked from one that never was.
	answers := map[string]bool{}
	for _, path := range []string{"/share/" + secret, "/share/ncl_neverwas", "/share/x", "/share/%00%ff"} {
		for _, accept := range []string{"text/html,*/*", "*/*"} {
			res, body := w.do("GET", path, "", "Accept", accept)
			if res.StatusCode != http.StatusNotFound || len(res.Cookies()) > 0 ||
				!strings.Contains(body, "valid (any more)") ||
				strings.Contains(body, "<h1>") != (accept != "*/*") {
				t.Errorf("%s: %s %s", path, res.Status, body)
			}
			answers[body] = true
		}
	}
	if len(answers) != 2 {
		t.Errorf("answers differ: %v", answers)
	}
	// The cookies of links are bounded: dead ones go, then the oldest.
	header, first := cookie, ""
	for i := range maxLinkCookies {
		_, secret := w.link("own.example.com")
		made := w.cookie("/share/" + secret)
		if i == 0 {
			first, _, _ = strings.Cut(made, "=")
		}
		header += "; " + made
	}
	_, secret = w.link("own.example.com")
	res, _ = w.do("GET", "/share/"+secret, "", "Cookie", header)
	var dropped []string
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			dropped = append(dropped, c.Name)
		}
	}
	if len(res.Cookies()) != 3 || fmt.Sprint(dropped) != fmt.Sprint([]string{c.Name, first}) {
		t.Errorf("%v, dropped %v", res.Cookies(), dropped)
	}
}

// The API of links: admins only, secrets once, and by their own site only.
func TestLinkAPI(t *testing.T) {
	w := newAccessWorld(t)
	const links = "/api/v1/sites/own.example.com/links"
	var made struct{ ID, Secret, Path string }
	status, _, body := w.ask("POST", links, `{"name":"press"}`, shown{bearer: adminSecret})
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != http.StatusCreated ||
		made.Path != "/share/"+made.Secret {
		t.Fatal(status, body)
	}
	for _, row := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "own.example.com/links", "", 200, `"name":"press"`},
		{"GET", "OTHER.example.com/links", "", 200, `{"links":[]}`},
		{"GET", "nobody.example/links", "", 404, "no such site"},
		{"POST", "nobody.example/links", `{"name":"x"}`, 404, "not found"},
		{"POST", "own.example.com/links", `{"name":""}`, 400, "a link needs a name"},
		{"POST", "own.example.com/links", `{`, 400, "JSON"},
		{"DELETE", "other.example.com/links/" + made.ID, "", 404, "not found"},
		{"DELETE", "own.example.com/links/" + made.ID, "", 204, ""},
		{"DELETE", "own.example.com/links/" + made.ID, "", 404, "not found"},
		{"GET", "own.example.com/links", "", 200, `{"links":[]}`},
	} {
		status, _, body := w.ask(row.method, "/api/v1/sites/"+row.path, row.body, shown{bearer: adminSecret})
		if status != row.status || !strings.Contains(body, row.says) || strings.Contains(body, made.Secret) {
			t.Errorf("%s %s: %d %s", row.method, row.path, status, body)
		}
	}
	session := w.session(adminSecret)
	res, body := w.do("POST", links, `{"name":"x"}`, "Cookie", session, "Sec-Fetch-Site", "cross-site")
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("another site makes a link: %s %s", res.Status, body)
	}
}
