package streamer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/site"
	"nowcast/streamer/api/apitest"
)

// guests are what viewers of own.example.com and other.example.com can show.
type guests struct {
	w        *world
	service  *Service
	base     string
	contract *apitest.Checker
}

func newGuests(t *testing.T) *guests {
	w := newWorld(t)
	if err := w.sites.Put(t.Context(), site.Site{Domain: "other.example.com"}); err != nil {
		t.Fatal(err)
	}
	s, base := w.service(Config{PublicURL: "http://stats.example.com"})
	contract, err := checker()
	if err != nil {
		t.Fatal(err)
	}
	return &guests{w, s, base, contract}
}

func (g *guests) key(sites ...string) (site.Key, string) {
	g.w.t.Helper()
	k, secret, err := g.w.sites.NewKey(g.w.t.Context(), "viewer", false, sites)
	if err != nil {
		g.w.t.Fatal(err)
	}
	return k, secret
}

func (g *guests) link(domain string) (site.Link, string) {
	g.w.t.Helper()
	l, secret, err := g.w.sites.NewLink(g.w.t.Context(), domain, "viewer")
	if err != nil {
		g.w.t.Fatal(err)
	}
	return l, secret
}

// cookie opens a door and returns what it puts into the browser.
func (g *guests) cookie(path string) string {
	g.w.t.Helper()
	res, body := g.do("GET", path, "")
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		g.w.t.Fatalf("%s: %s %s", path, res.Status, body)
	}
	return res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
}

// ticket asks for one.
func (g *guests) ticket(body string, v viewerShows) string {
	g.w.t.Helper()
	status, _, answer := g.ask("POST", "/api/v1/tickets", body, v)
	var made struct {
		Ticket  string
		Expires time.Time
	}
	if err := json.Unmarshal([]byte(answer), &made); err != nil || status != http.StatusCreated || made.Ticket == "" {
		g.w.t.Fatalf("%s: %d %s", body, status, answer)
	}
	return made.Ticket
}

// viewerShows is what a request has with it.
type viewerShows struct{ bearer, cookie, query, origin string }

// ask makes a request and returns its status and header, for a stream without reading it.
func (g *guests) ask(method, path, body string, v viewerShows) (int, http.Header, string) {
	g.w.t.Helper()
	if strings.Contains(path, "?") {
		path += "&" + v.query
	} else {
		path += "?" + v.query
	}
	h := []string{"Cookie", v.cookie}
	if v.origin != "" {
		h = append(h, "Origin", v.origin)
	}
	if v.bearer != "" {
		h = append(h, "Authorization", "Bearer "+v.bearer)
	}
	res, answer := g.do(method, path, body, h...)
	return res.StatusCode, res.Header, answer
}

// do makes a request and holds the answer to the contract, which is read once only.
func (g *guests) do(method, path, body string, header ...string) (*http.Response, string) {
	g.w.t.Helper()
	ctx, cancel := context.WithTimeout(g.w.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, g.base+path, strings.NewReader(body))
	if err != nil {
		g.w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		g.w.t.Fatal(err)
	}
	defer res.Body.Close()
	if method == http.MethodOptions || res.Header.Get("Content-Type") == "text/event-stream" {
		return res, ""
	}
	b, _ := io.ReadAll(res.Body)
	if strings.HasPrefix(path, "/api/") {
		if err := g.contract.Response(req, res.StatusCode, res.Header, b); err != nil {
			g.w.t.Errorf("%s %s: %d %s differs from the contract: %v", method, path, res.StatusCode, b, err)
		}
	}
	return res, string(b)
}

// Every kind of viewer at every door of every site.
func TestWhoReadsWhat(t *testing.T) {
	g := newGuests(t)
	_, own := g.key("own.example.com")
	gone, goneSecret := g.key("own.example.com")
	ownLink, ownShare := g.link("own.example.com")
	_, otherShare := g.link("other.example.com")
	goneLink, goneShare := g.link("own.example.com")
	ownSession, ownCookie, otherCookie := g.cookie("/login?key="+own), g.cookie("/share/"+ownShare), g.cookie("/share/"+otherShare)
	goneSession, goneCookie := g.cookie("/login?key="+goneSecret), g.cookie("/share/"+goneShare)
	const forOwn = `{"sites":["OWN.example.com"]}`
	ownTicket := g.ticket(forOwn, viewerShows{bearer: own})
	adminTicket := g.ticket(forOwn, viewerShows{bearer: adminSecret})
	sessionTicket := g.ticket(forOwn, viewerShows{cookie: ownSession})
	linkTicket := g.ticket(forOwn, viewerShows{cookie: ownCookie})
	shareTicket := g.ticket(forOwn, viewerShows{query: "share=" + ownShare})
	goneTicket, goneLinkTicket := g.ticket(forOwn, viewerShows{bearer: goneSecret}), g.ticket(forOwn, viewerShows{query: "share=" + goneShare})
	if err := g.w.sites.DeleteKey(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := g.w.sites.DeleteLink(t.Context(), "own.example.com", goneLink.ID); err != nil {
		t.Fatal(err)
	}
	stranger, _ := newWorld(t).service(Config{}) // of another cluster
	past, soon := time.Now().Add(-time.Millisecond), time.Now().Add(time.Hour)
	ownID := ticket{by: access{kind: byKey, id: strings.SplitN(strings.TrimPrefix(ownSession, cookieName+"="), ".", 2)[0]}, sites: []string{"own.example.com"}}
	signed := func(s *Service, until time.Time) string { x := ownID; x.until = until; return s.newTicket(x) }
	other := base64Text("k " + ownID.by.id + " 9999999999999 other.example.com")
	cookieValue := func(c string) string { _, v, _ := strings.Cut(c, "="); return v }

	const none, key, everything, shared = "200 401 401 401 401 401", "200 200 403 404 503 403", "200 200 200 404 503 200", "200 200 403 403 401 401"
	for _, row := range []struct {
		name string
		viewerShows
		want string // reading open, own, other and no site; own's ledger; administration
	}{
		{"nobody", viewerShows{}, none},
		{"key", viewerShows{bearer: own}, key},
		{"admin key", viewerShows{bearer: adminSecret}, everything},
		{"unknown key", viewerShows{bearer: "nck_unknown"}, none},
		{"removed key", viewerShows{bearer: goneSecret}, none},
		{"link's secret as key", viewerShows{bearer: ownShare}, none},
		{"session", viewerShows{cookie: ownSession}, key},
		{"session of a removed key", viewerShows{cookie: goneSession}, none},
		{"expired session", viewerShows{cookie: cookieName + "=" + g.service.newPass("session", ownID.by.id, past)}, none},
		{"session of another cluster", viewerShows{cookie: cookieName + "=" + stranger.newPass("session", operatorID, soon)}, none},
		{"link's cookie as session", viewerShows{cookie: cookieName + "=" + cookieValue(ownCookie)}, none},
		{"ticket", viewerShows{query: "ticket=" + ownTicket}, shared},
		{"ticket of an admin", viewerShows{query: "ticket=" + adminTicket}, shared},
		{"ticket of a session", viewerShows{query: "ticket=" + sessionTicket}, shared},
		{"ticket of a link's cookie", viewerShows{query: "ticket=" + linkTicket}, shared},
		{"ticket of a share query", viewerShows{query: "ticket=" + shareTicket}, shared},
		{"signed here", viewerShows{query: "ticket=" + signed(g.service, soon)}, shared},
		{"expired ticket", viewerShows{query: "ticket=" + signed(g.service, past)}, none},
		{"ticket of another cluster", viewerShows{query: "ticket=" + signed(stranger, soon)}, none},
		{"tampered ticket", viewerShows{query: "ticket=" + ownTicket[:len(ownTicket)-1] + flip(ownTicket[len(ownTicket)-1])}, none},
		{"ticket for more", viewerShows{query: "ticket=" + other + ownTicket[strings.Index(ownTicket, "."):]}, none},
		{"ticket of a removed key", viewerShows{query: "ticket=" + goneTicket}, none},
		{"ticket of a revoked link", viewerShows{query: "ticket=" + goneLinkTicket}, none},
		{"ticket without a mac", viewerShows{query: "ticket=" + other}, none},
		{"session as ticket", viewerShows{query: "ticket=" + cookieValue(ownSession)}, none},
		{"share query", viewerShows{query: "share=" + ownShare}, shared},
		{"revoked share query", viewerShows{query: "share=" + goneShare}, none},
		{"unknown share query", viewerShows{query: "share=ncl_unknown"}, none},
		{"key as share query", viewerShows{query: "share=" + own}, none},
		{"link's cookie", viewerShows{cookie: ownCookie}, shared},
		{"cookie of a revoked link", viewerShows{cookie: goneCookie}, none},
		{"expired link's cookie", viewerShows{cookie: linkCookie + "x=" + g.service.newPass("link", ownLink.ID, past)}, none},
		{"link's cookie of another cluster", viewerShows{cookie: linkCookie + "x=" + stranger.newPass("link", ownLink.ID, soon)}, none},
		{"session as link's cookie", viewerShows{cookie: linkCookie + "x=" + cookieValue(ownSession)}, none},
		{"two links' cookies", viewerShows{cookie: ownCookie + "; " + otherCookie}, "200 200 200 403 401 401"},
		{"session and share query", viewerShows{cookie: ownSession, query: "share=" + otherShare}, "200 200 200 404 503 403"},
		{"unknown key and share query", viewerShows{bearer: "nck_unknown", query: "share=" + ownShare}, shared},
		{"unknown ticket and share query", viewerShows{query: "ticket=x&share=" + ownShare}, shared},
	} {
		want := strings.Fields(row.want)
		expect := func(door, what string, got int, want string) {
			if fmt.Sprint(got) != want {
				t.Errorf("%s: %s %s: %d, want %s", row.name, door, what, got, want)
			}
		}
		for i, domain := range []string{"open.example.com", "own.example.com", "other.example.com", "nobody.example"} {
			for _, path := range []string{"/api/v1/stats/realtime/visitors?site_id=", "/api/events?site=", "/api/v1/sites/"} {
				status, _, _ := g.ask("GET", path+domain, "", row.viewerShows)
				expect(path, domain, status, want[i])
			}
			status, _, _ := g.ask("POST", "/api/v2/query", `{"site_id":"`+domain+`","metrics":["visitors"],"date_range":"day"}`, row.viewerShows)
			expect("query", domain, status, strings.Replace(want[i], "200", "503", 1)) // there is no ClickHouse here
		}
		status, _, _ := g.ask("GET", "/api/v1/sites/own.example.com/ledger", "", row.viewerShows)
		expect("ledger", "own", status, want[4])
		for _, path := range []string{"/api/v1/keys", "/api/v1/sites/own.example.com/links"} {
			status, _, _ = g.ask("GET", path, "", row.viewerShows)
			expect(path, "", status, want[5])
		}
		for _, door := range []string{"PATCH /api/v1/sites/own.example.com {}", `POST /api/v1/keys {"name":""}`} {
			p := strings.Fields(door)
			status, _, _ = g.ask(p[0], p[1], p[2], row.viewerShows)
			if status == http.StatusBadRequest { // without a name: it was let in, and nothing was made
				status = http.StatusOK
			}
			expect(door, "", status, want[5])
		}
		if list := g.list(row.viewerShows); want[1] == "200" != strings.Contains(list, "own.example.com") || want[2] == "200" != strings.Contains(list, "other.example.com") || !strings.Contains(list, "open.example.com") {
			t.Errorf("%s: lists %s", row.name, list)
		}
	}
}

func (g *guests) list(v viewerShows) string {
	_, _, body := g.ask("GET", "/api/v1/sites", "", v)
	return body
}

func flip(c byte) string {
	if c == 'A' {
		return "Q"
	}
	return "A"
}

// What tickets are made for, and by whom.
func TestTickets(t *testing.T) {
	g := newGuests(t)
	_, own := g.key("own.example.com")
	_, share := g.link("own.example.com")
	session := g.cookie("/login?key=" + own)
	ticket := g.ticket(`{"sites":["own.example.com","open.example.com"],"ttl":300}`, viewerShows{bearer: own})
	for _, row := range []struct {
		body   string
		v      viewerShows
		status int
		says   string
	}{
		{`{"sites":["own.example.com"],"ttl":5}`, viewerShows{bearer: own}, 201, ""},
		{`{"sites":["own.example.com"]}`, viewerShows{cookie: session, origin: "http://stats.example.com"}, 403, "another site"}, // by CrossOriginProtection, which goes by Host
		{`{"sites":["own.example.com"]}`, viewerShows{cookie: session, origin: "https://evil.example"}, 403, "another site"},
		{`{"sites":["open.example.com"]}`, viewerShows{query: "share=" + share}, 201, ""},
		{`{"sites":["open.example.com"]}`, viewerShows{}, 401, "a key is needed"},
		{`{"sites":["own.example.com"]}`, viewerShows{query: "share=ncl_nothing"}, 401, "share link isn't valid"},
		{`{"sites":["own.example.com"]}`, viewerShows{query: "ticket=" + ticket}, 401, "ticket isn't valid"}, // a ticket makes no ticket
		{`{"sites":["own.example.com","other.example.com"]}`, viewerShows{bearer: own}, 403, "may not read all"},
		{`{"sites":["nobody.example"]}`, viewerShows{bearer: own}, 403, "may not read all"},
		{`{"sites":[]}`, viewerShows{bearer: own}, 400, "name 1 to 20"},
		{`{"sites":["a.example` + strings.Repeat(`","a.example`, 20) + `"]}`, viewerShows{bearer: own}, 400, "name 1 to 20"},
		{`{"sites":["own.example.com"],"ttl":4}`, viewerShows{bearer: own}, 400, "ttl has to be 5 to 300"},
		{`{"sites":["own.example.com"],"ttl":301}`, viewerShows{bearer: own}, 400, "ttl has to be 5 to 300"},
		{`{"sites":["own.example.com"],"ttl":-9223372036854775808}`, viewerShows{bearer: own}, 400, "ttl has to be 5 to 300"},
		{`{"sites":"own.example.com"}`, viewerShows{bearer: own}, 400, "JSON"},
		{`{"sites":["own.example.com"],"ttl":null}`, viewerShows{bearer: own}, 400, "null is no value"},
		{`{"sites":[null]}`, viewerShows{bearer: own}, 400, "null is no value"},
		{`{`, viewerShows{bearer: own}, 400, "JSON"},
	} {
		status, _, body := g.ask("POST", "/api/v1/tickets", row.body, row.v)
		if status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s %+v: %d %s, want %d", row.body, row.v, status, body, row.status)
		}
	}
	// A ticket for several sites opens each; an instance that never saw it, too.
	other := g.w.streamer(Config{})
	for _, d := range []string{"own.example.com", "open.example.com"} {
		if res, body := g.w.get("GET", other+"/api/v1/stats/realtime/visitors?site_id="+d+"&ticket="+ticket, "", ""); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", d, res.Status, body)
		}
	}
	// Another operator's key ends the tickets of the one before.
	at := time.Now()
	value := g.service.newTicket(ticketOf(operatorID, at.Add(time.Minute)))
	if _, ok := g.service.readTicket(value, at); !ok {
		t.Error("an operator's ticket isn't good")
	}
	g.service.cfg.AdminKey = "nck_the-next-operators-key"
	if _, ok := g.service.readTicket(value, at); ok {
		t.Error("the ticket of an operator's key before is good")
	}
}

func ticketOf(id string, until time.Time) ticket {
	return ticket{by: access{kind: byKey, id: id}, until: until, sites: []string{"own.example.com"}}
}

// A stream ends when what it was opened by is gone, and not when its ticket has expired.
func TestStreamsEndWithTheirAccess(t *testing.T) {
	g := newGuests(t)
	w, ctx := g.w, t.Context()
	for _, d := range []string{"shown.example.com", "removed.example.com"} {
		if err := w.sites.Put(ctx, site.Site{Domain: d, Public: d == "shown.example.com"}); err != nil {
			t.Fatal(err)
		}
	}
	k, key := g.key("own.example.com")
	l, share := g.link("own.example.com")
	stay, stayKey := g.key()
	_, stayShare := g.link("own.example.com")
	const forOwn = `{"sites":["own.example.com"]}`
	open := func(site string, v viewerShows) *stream {
		t.Helper()
		h := http.Header{}
		if v.bearer != "" {
			h.Set("Authorization", "Bearer "+v.bearer)
		}
		if v.cookie != "" {
			h.Set("Cookie", v.cookie)
		}
		q := []string{"site", site}
		if name, value, ok := strings.Cut(v.query, "="); ok {
			q = append(q, name, value)
		}
		s, res := w.open(g.base, h, q...)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%+v: %s", v, res.Status)
		}
		s.next()
		return s
	}
	ends := map[string]*stream{
		"key":             open("own.example.com", viewerShows{bearer: key}),
		"session":         open("own.example.com", viewerShows{cookie: g.cookie("/login?key=" + key)}),
		"ticket of a key": open("own.example.com", viewerShows{query: "ticket=" + g.ticket(forOwn, viewerShows{bearer: key})}),
		"cookie of link":  open("own.example.com", viewerShows{cookie: g.cookie("/share/" + share)}),
		"share query":     open("own.example.com", viewerShows{query: "share=" + share}),
		"ticket of link":  open("own.example.com", viewerShows{query: "ticket=" + g.ticket(forOwn, viewerShows{query: "share=" + share})}),
		"expired session": open("own.example.com", viewerShows{cookie: cookieName + "=" + g.service.newPass("session", stay.ID, time.Now().Add(2*time.Second))}),
		"public":          open("shown.example.com", viewerShows{}),
		"site":            open("removed.example.com", viewerShows{bearer: stayKey}),
	}
	stays := map[string]*stream{
		"key":            open("own.example.com", viewerShows{bearer: stayKey}),
		"share query":    open("own.example.com", viewerShows{query: "share=" + stayShare}),
		"expired ticket": open("own.example.com", viewerShows{query: "ticket=" + g.service.newTicket(ticketOf(operatorID, time.Now().Add(300*time.Millisecond)))}),
	}
	if err := w.sites.DeleteKey(ctx, k.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.sites.DeleteLink(ctx, "own.example.com", l.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.sites.Put(ctx, site.Site{Domain: "shown.example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := w.sites.Delete(ctx, "removed.example.com"); err != nil {
		t.Fatal(err)
	}
	late := time.After(5 * time.Second)
	for name, s := range ends {
		for over := false; !over; {
			select {
			case _, more := <-s.msgs:
				over = !more
			case <-late:
				t.Fatalf("the stream by %s hasn't ended within 5 s", name)
			}
		}
	}
	w.final(1)
	for _, s := range stays {
		s.next()
	}
}

// The door of a share link.
func TestShareDoor(t *testing.T) {
	g := newGuests(t)
	l, secret := g.link("own.example.com")
	res, _ := g.do("GET", "/share/"+secret, "")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/own.example.com" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Fatal(res.Status, res.Header)
	}
	c := res.Cookies()[0]
	if c.Name == cookieName || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || strings.Contains(c.Value, secret) {
		t.Errorf("%+v", c)
	}
	cookie := c.Name + "=" + c.Value
	if err := g.w.sites.DeleteLink(t.Context(), "own.example.com", l.ID); err != nil {
		t.Fatal(err)
	}
	// Nothing tells a link that was revoked from one that never was.
	answers := map[string]bool{}
	for _, path := range []string{"/share/" + secret, "/share/ncl_neverwas", "/share/x", "/share/%00%ff"} {
		for _, accept := range []string{"text/html,*/*", "*/*"} {
			res, body := g.do("GET", path, "", "Accept", accept)
			if res.StatusCode != http.StatusNotFound || len(res.Cookies()) > 0 || !strings.Contains(body, "valid (any more)") || strings.Contains(body, "<h1>") != (accept != "*/*") {
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
	for i := range maxCookies {
		_, secret := g.link("own.example.com")
		made := g.cookie("/share/" + secret)
		if i == 0 {
			first, _, _ = strings.Cut(made, "=")
		}
		header += "; " + made
	}
	_, secret = g.link("own.example.com")
	res, _ = g.do("GET", "/share/"+secret, "", "Cookie", header)
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
	g := newGuests(t)
	const links = "/api/v1/sites/own.example.com/links"
	var made struct{ ID, Secret, Path string }
	status, _, body := g.ask("POST", links, `{"name":"press"}`, viewerShows{bearer: adminSecret})
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != http.StatusCreated || made.Path != "/share/"+made.Secret {
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
		status, _, body := g.ask(row.method, "/api/v1/sites/"+row.path, row.body, viewerShows{bearer: adminSecret})
		if status != row.status || !strings.Contains(body, row.says) || strings.Contains(body, made.Secret) {
			t.Errorf("%s %s: %d %s", row.method, row.path, status, body)
		}
	}
	session := g.cookie("/login?key=" + adminSecret)
	if res, body := g.do("POST", links, `{"name":"x"}`, "Cookie", session, "Sec-Fetch-Site", "cross-site"); res.StatusCode != http.StatusForbidden {
		t.Errorf("another site makes a link: %s %s", res.Status, body)
	}
}

// Which origins' pages may read what, and what browsers are told.
func TestOrigins(t *testing.T) {
	g := newGuests(t)
	for _, row := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "", `{"domain":"listed.example.com","origins":["https://App.example.net/"]}`, 201, `"origins":["https://app.example.net"]`},
		{"PATCH", "/listed.example.com", `{"origins":["https://app.example.net","https://*.example.org"]}`, 200, `"https://*.example.org"`},
		{"PATCH", "/listed.example.com", `{"timezone":"Europe/Berlin"}`, 200, `"https://*.example.org"`},
		{"PATCH", "/listed.example.com", `{"origins":["example.net"]}`, 400, "is no origin; give it as https://app.example.com"},
		{"PATCH", "/own.example.com", `{"origins":["https://x.example"]}`, 200, "x.example"},
		{"PATCH", "/own.example.com", `{"origins":[]}`, 200, `"origins":[]`},
	} {
		if status, _, body := g.ask(row.method, "/api/v1/sites"+row.path, row.body, viewerShows{bearer: adminSecret}); status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s %s: %d %s", row.method, row.body, status, body)
		}
	}
	_, share := g.link("own.example.com")
	_, listedShare := g.link("listed.example.com")
	shareCookie := g.cookie("/share/" + share)
	byTicket := viewerShows{query: "ticket=" + g.ticket(`{"sites":["own.example.com"]}`, viewerShows{bearer: adminSecret})}
	byShare, byListed := viewerShows{query: "share=" + share}, viewerShows{query: "share=" + listedShare}
	byKey, nothing, byCookie := viewerShows{bearer: adminSecret}, viewerShows{}, viewerShows{cookie: shareCookie}
	for _, row := range []struct {
		site, origin string
		v            viewerShows
		status       int
		allow        string
	}{
		{"open.example.com", "", nothing, 200, "*"},
		{"open.example.com", "https://anywhere.example", nothing, 200, "*"},
		{"open.example.com", "null", byTicket, 200, "*"},
		{"own.example.com", "", byTicket, 200, ""},
		{"own.example.com", "https://own.example.com", byTicket, 200, "https://own.example.com"},
		{"own.example.com", "http://www.own.example.com:8080", byShare, 200, "http://www.own.example.com:8080"},
		{"own.example.com", "https://own.example.com", byKey, 200, "https://own.example.com"},
		{"own.example.com", "https://own.example.com", nothing, 401, "https://own.example.com"},
		{"nobody.example", "https://nobody.example", nothing, 401, "https://nobody.example"}, // as if it were there
		{"own.example.com", "https://own.example.com", byCookie, 401, "https://own.example.com"},
		{"own.example.com", g.base, byCookie, 200, ""},                     // by Host
		{"own.example.com", "http://stats.example.com", byCookie, 200, ""}, // by the public URL
		{"own.example.com", "http://127.0.0.1:1", byCookie, 200, ""},       // a proxy took the port out of Host
		{"own.example.com", "http://127.0.0.1:1", byTicket, 403, ""},       // but it is another origin
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
		for _, door := range []string{"GET /api/v1/stats/realtime/visitors?site_id=" + row.site, "GET /api/events?site=" + row.site, "POST /api/v2/query"} {
			method, path, _ := strings.Cut(door, " ")
			want, body := row.status, ""
			if method == "POST" {
				body = `{"site_id":"` + row.site + `","metrics":["visitors"],"date_range":"day"}`
				if want == 200 {
					want = 503 // there is no ClickHouse here
				}
			}
			status, h, _ := g.ask(method, path, body, row.v)
			vary := strings.Contains(h.Get("Vary"), "Origin")
			if status != want || h.Get("Access-Control-Allow-Origin") != row.allow || vary != (row.allow != "*") || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s of %s from %q by %+v: %d %q %q, want %d %q", door, row.site, row.origin, row.v, status, h.Get("Access-Control-Allow-Origin"), h.Get("Vary"), want, row.allow)
			}
		}
	}
	for _, row := range []struct{ path, origin, allow string }{
		{"/api/events?site=own.example.com", "https://own.example.com", "https://own.example.com"},
		{"/api/events?site=own.example.com", "https://evil.example", ""},
		{"/api/events?site=open.example.com", "https://evil.example", "https://evil.example"},
		{"/api/events", "https://evil.example", "https://evil.example"}, // the default site, which is public
		{"/api/events?site=own.example.com", "", ""},
		{"/api/v1/stats/realtime/visitors?site_id=listed.example.com", "https://app.example.net", "https://app.example.net"},
		{"/api/v1/stats/realtime/visitors?site_id=listed.example.com", "https://listed.example.com", ""},
		{"/api/v2/query", "https://app.example.net", "https://app.example.net"},
		{"/api/v2/query", "https://evil.example", "https://evil.example"}, // there is a public site
	} {
		status, h, _ := g.ask("OPTIONS", row.path, "", viewerShows{origin: row.origin})
		if status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != row.allow || h.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(h.Get("Vary"), "Origin") ||
			row.allow != "" && h.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, Last-Event-ID" {
			t.Errorf("preflight of %s from %s: %d %v", row.path, row.origin, status, h)
		}
	}
	if err := g.w.sites.Put(t.Context(), site.Site{Domain: "open.example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, h, _ := g.ask("OPTIONS", "/api/v2/query", "", viewerShows{origin: "https://evil.example"}); h.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a page that may read no site gets through a preflight")
	}
}

// closed is a service that knows the operator's key and nothing else.
func closed(t testing.TB) *Service {
	s, err := New(Config{AdminKey: adminSecret}, Deps{Sites: site.NewRegistry(nil, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Only what was signed is read, and it is read as what it was.
func FuzzTicket(f *testing.F) {
	s := closed(f)
	at := time.Unix(1_800_000_000, 0)
	good := s.newTicket(ticketOf(operatorID, at.Add(time.Minute)))
	for _, v := range []string{good, good[:len(good)-1], "." + good, "..", "", base64Text("k operator 9999999999999 own.example.com") + ".AAAA", base64Text("k operator") + "."} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got, ok := s.readTicket(value, at); ok && s.newTicket(got) != value {
			t.Errorf("%q is read as %+v", value, got)
		}
	})
}

func FuzzCookie(f *testing.F) {
	s := closed(f)
	at := time.Unix(1_800_000_000, 0)
	for _, v := range []string{s.newPass("session", operatorID, at.Add(time.Minute)), "operator.1900000000.AAAA", "...", "\x00.-1."} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if id, _, ok := s.readPass("session", value, at); ok && (id != operatorID || !strings.HasPrefix(value, "operator.")) {
			t.Errorf("%q is read as %q", value, id)
		}
		if id, _, ok := s.readPass("link", value, at); ok {
			t.Errorf("%q is read as a link's %q", value, id)
		}
	})
}

// Garbage in any place where a request may show something opens nothing.
func FuzzShown(f *testing.F) {
	s := closed(f)
	f.Add("nowcast_session=a.b.c; nowcast_link_x=..", "ticket=%zz&share=ncl_", "Bearer nck_x", "null")
	f.Add("nowcast_link_=", "ticket=a.b&ticket=&share=%00", "bearer", "http://[::1")
	f.Fuzz(func(t *testing.T, cookie, query, authorization, origin string) {
		r := httptest.NewRequest(http.MethodGet, "/api/events", nil)
		r.URL = &url.URL{Path: "/api/events", RawQuery: query}
		r.Header = http.Header{"Cookie": {cookie}, "Authorization": {authorization}, "Origin": {origin}}
		if got := s.shown(r); len(got) > 0 && !strings.Contains(authorization, adminSecret) {
			t.Errorf("cookie %q, query %q, authorization %q: %+v", cookie, query, authorization, got)
		}
	})
}

func base64Text(s string) string { return mac64.EncodeToString([]byte(s)) }

// A null isn't taken for a field that was left out: a key whose sites are null would read all of them.
func TestNullIsRefused(t *testing.T) {
	g := newGuests(t)
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/api/v1/keys", `{"name":"x","sites":null}`},
		{"POST", "/api/v1/sites", `{"domain":"null.example.com","public":null}`},
		{"PATCH", "/api/v1/sites/own.example.com", `null`},
		{"POST", "/api/v1/sites/own.example.com/links", `{"name":null}`},
	} {
		if res, body := g.do(row.method, row.path, row.body, "Authorization", "Bearer "+adminSecret); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "null is no value") {
			t.Errorf("%s %s %s: %s %s", row.method, row.path, row.body, res.Status, body)
		}
	}
}
