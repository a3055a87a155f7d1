package streamer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Every kind of credential at every route of every site.
func TestWhoReadsWhat(t *testing.T) {
	w := newAccessWorld(t)
	_, own := w.key("own.example.com")
	gone, goneSecret := w.key("own.example.com")
	ownLink, ownShare := w.link("own.example.com")
	_, otherShare := w.link("other.example.com")
	goneLink, goneShare := w.link("own.example.com")
	ownSession, ownCookie := w.cookie("/login?key="+own), w.cookie("/share/"+ownShare)
	otherCookie := w.cookie("/share/" + otherShare)
	goneSession, goneCookie := w.cookie("/login?key="+goneSecret), w.cookie("/share/"+goneShare)
	const forOwn = `{"sites":["OWN.example.com"]}`
	ownTicket := w.ticket(forOwn, shown{bearer: own})
	adminTicket := w.ticket(forOwn, shown{bearer: adminSecret})
	sessionTicket := w.ticket(forOwn, shown{cookie: ownSession})
	linkTicket := w.ticket(forOwn, shown{cookie: ownCookie})
	shareTicket := w.ticket(forOwn, shown{query: "share=" + ownShare})
	goneTicket := w.ticket(forOwn, shown{bearer: goneSecret})
	goneLinkTicket := w.ticket(forOwn, shown{query: "share=" + goneShare})
	if err := w.sites.DeleteKey(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.sites.DeleteLink(t.Context(), "own.example.com", goneLink.ID); err != nil {
		t.Fatal(err)
	}
	here, elsewhere := w.cluster(), cluster{func(string) [32]byte { return [32]byte{1} }, w.sites}
	past, soon := time.Now().Add(-time.Millisecond), time.Now().Add(time.Hour)
	ownID, _, _ := strings.Cut(strings.TrimPrefix(ownSession, sessionCookie+"="), ".")
	signed := func(c cluster, expires time.Time) string { return c.ticket(ownID, expires, "own.example.com") }
	other := base64Text("k " + ownID + " 9999999999999 other.example.com")
	cookieValue := func(c string) string { _, v, _ := strings.Cut(c, "="); return v }

	const (
		none       = "200 401 401 401 401 401"
		key        = "200 200 403 404 503 403"
		everything = "200 200 200 404 503 200"
		shared     = "200 200 403 403 401 401"
	)
	domains := []string{"open.example.com", "own.example.com", "other.example.com", "nobody.example"}
	reads := []string{"/api/v1/stats/realtime/visitors?site_id=", "/api/events?site=", "/api/v1/sites/"}
	for _, row := range []struct {
		name string
		shown
		want string // statuses of reading open, own, other and no site; own's ledger; administration
	}{
		{"nobody", shown{}, none},
		{"key", shown{bearer: own}, key},
		{"admin key", shown{bearer: adminSecret}, everything},
		{"unknown key", shown{bearer: "nck_unknown"}, none},
		{"removed key", shown{bearer: goneSecret}, none},
		{"link's secret as key", shown{bearer: ownShare}, none},
		{"session", shown{cookie: ownSession}, key},
		{"session of a removed key", shown{cookie: goneSession}, none},
		{"expired session", shown{cookie: sessionCookie + "=" + here.cookie("session", ownID, past)}, none},
		{"session of another cluster",
			shown{cookie: sessionCookie + "=" + elsewhere.cookie("session", operatorID, soon)}, none},
		{"link's cookie as session", shown{cookie: sessionCookie + "=" + cookieValue(ownCookie)}, none},
		{"ticket", shown{query: "ticket=" + ownTicket}, shared},
		{"ticket of an admin", shown{query: "ticket=" + adminTicket}, shared},
		{"ticket of a session", shown{query: "ticket=" + sessionTicket}, shared},
		{"ticket of a link's cookie", shown{query: "ticket=" + linkTicket}, shared},
		{"ticket of a share query", shown{query: "ticket=" + shareTicket}, shared},
		{"signed here", shown{query: "ticket=" + signed(here, soon)}, shared},
		{"expired ticket", shown{query: "ticket=" + signed(here, past)}, none},
		{"ticket of another cluster", shown{query: "ticket=" + signed(elsewhere, soon)}, none},
		{"tampered ticket",
			shown{query: "ticket=" + ownTicket[:len(ownTicket)-1] + flip(ownTicket[len(ownTicket)-1])},
			none},
		{"ticket for more", shown{query: "ticket=" + other + ownTicket[strings.Index(ownTicket, "."):]},
			none},
		{"ticket of a removed key", shown{query: "ticket=" + goneTicket}, none},
		{"ticket of a revoked link", shown{query: "ticket=" + goneLinkTicket}, none},
		{"ticket without a mac", shown{query: "ticket=" + other}, none},
		{"session as ticket", shown{query: "ticket=" + cookieValue(ownSession)}, none},
		{"share query", shown{query: "share=" + ownShare}, shared},
		{"revoked share query", shown{query: "share=" + goneShare}, none},
		{"unknown share query", shown{query: "share=ncl_unknown"}, none},
		{"key as share query", shown{query: "share=" + own}, none},
		{"link's cookie", shown{cookie: ownCookie}, shared},
		{"cookie of a revoked link", shown{cookie: goneCookie}, none},
		{"expired link's cookie",
			shown{cookie: linkCookiePrefix + "x=" + here.cookie("link", ownLink.ID, past)}, none},
		{"link's cookie of another cluster",
			shown{cookie: linkCookiePrefix + "x=" + elsewhere.cookie("link", ownLink.ID, soon)}, none},
		{"session as link's cookie", shown{cookie: linkCookiePrefix + "x=" + cookieValue(ownSession)}, none},
		{"two links' cookies", shown{cookie: ownCookie + "; " + otherCookie}, "200 200 200 403 401 401"},
		{"session and share query", shown{cookie: ownSession, query: "share=" + otherShare},
			"200 200 200 404 503 403"},
		{"unknown key and share query", shown{bearer: "nck_unknown", query: "share=" + ownShare}, shared},
		{"unknown ticket and share query", shown{query: "ticket=x&share=" + ownShare}, shared},
	} {
		want := strings.Fields(row.want)
		expect := func(route, what string, got int, want string) {
			if fmt.Sprint(got) != want {
				t.Errorf("%s: %s %s: %d, want %s", row.name, route, what, got, want)
			}
		}
		for i, domain := range domains {
			for _, path := range reads {
				status, _, _ := w.ask("GET", path+domain, "", row.shown)
				expect(path, domain, status, want[i])
			}
			query := `{"site_id":"` + domain + `","metrics":["visitors"],"date_range":"day"}`
			status, _, _ := w.ask("POST", "/api/v2/query", query, row.shown)
			// there is no ClickHouse here
			expect("query", domain, status, strings.Replace(want[i], "200", "503", 1))
		}
		status, _, _ := w.ask("GET", "/api/v1/sites/own.example.com/ledger", "", row.shown)
		expect("ledger", "own", status, want[4])
		for _, path := range []string{"/api/v1/keys", "/api/v1/sites/own.example.com/links"} {
			status, _, _ = w.ask("GET", path, "", row.shown)
			expect(path, "", status, want[5])
		}
		for _, route := range []string{
			"PATCH /api/v1/sites/own.example.com {}", `POST /api/v1/keys {"name":""}`,
		} {
			p := strings.Fields(route)
			status, _, _ = w.ask(p[0], p[1], p[2], row.shown)
			if status == http.StatusBadRequest { // it passed authorization, and has no name
				status = http.StatusOK
			}
			expect(route, "", status, want[5])
		}
		list := w.list(row.shown)
		if want[1] == "200" != strings.Contains(list, "own.example.com") ||
			want[2] == "200" != strings.Contains(list, "other.example.com") ||
			!strings.Contains(list, "open.example.com") {
			t.Errorf("%s: lists %s", row.name, list)
		}
	}
}

func (w *accessWorld) list(v shown) string {
	_, _, body := w.ask("GET", "/api/v1/sites", "", v)
	return body
}

func flip(c byte) string {
	if c == 'A' {
		return "Q"
	}
	return "A"
}

func TestAccess(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	_, reader, err := w.sites.NewKey(t.Context(), "reader", false, []string{"open.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	const visitors = "/api/v1/stats/realtime/visitors?site_id="
	for _, row := range []struct {
		method, path, key, body string
		status                  int
	}{
		{"GET", visitors + "open.example.com", "", "", 200},
		{"GET", visitors + "OPEN.example.com", "", "", 200},
		{"GET", visitors + "own.example.com", "", "", 401},
		{"GET", visitors + "own.example.com", "nck_nonsense", "", 401},
		{"GET", visitors + "own.example.com", reader, "", 403},
		{"GET", visitors + "own.example.com", adminSecret, "", 200},
		{"GET", visitors + "nobody.example", adminSecret, "", 404},
		{"GET", visitors + "nobody.example", "", "", 401},
		{"GET", "/api/v1/stats/realtime/visitors", "", "", 400},
		{"GET", "/api/v1/session", "", "", 200},
		{"GET", "/api/v1/sites", reader, "", 200},
		{"POST", "/api/v1/sites", "", `{"domain":"new.example.com"}`, 401},
		{"POST", "/api/v1/sites", reader, `{"domain":"new.example.com"}`, 403},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"new.example.com"}`, 201},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"new.example.com"}`, 409},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"no domain"}`, 400},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":`, 400},
		{"POST", "/api/v1/sites", adminSecret, `{"domain":"` + strings.Repeat("a", 300_000) + `"}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"public":true}`, 200},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"timezone":"Nowhere"}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret,
			`{"rules":{"hostnames":["*.example.com"],"blocked_countries":["de"]}}`, 200},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret,
			`{"rules":{"blocked_addresses":["10.0.0.0/99"]}}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", adminSecret, `{"rules":{"hostnames":"example.com"}}`, 400},
		{"PATCH", "/api/v1/sites/new.example.com", reader, `{"rules":{}}`, 403},
		{"PATCH", "/api/v1/sites/nobody.example", adminSecret, `{}`, 404},
		{"DELETE", "/api/v1/sites/new.example.com", adminSecret, "", 204},
		{"DELETE", "/api/v1/sites/new.example.com", adminSecret, "", 404},
		{"GET", "/api/v1/keys", reader, "", 403},
		{"GET", "/api/v1/keys", adminSecret, "", 200},
		{"POST", "/api/v1/keys", adminSecret, `{"name":""}`, 400},
		{"POST", "/api/v1/keys", adminSecret, `{"name":"x","sites":["nobody.example"]}`, 400},
		{"DELETE", "/api/v1/keys/nothing", adminSecret, "", 404},
		{"POST", "/api/v2/query", "",
			`{"site_id":"own.example.com","metrics":["visitors"],"date_range":"day"}`, 401},
		{"POST", "/api/v2/query", "", `{}`, 400},
		{"GET", "/api/v1/sites/open.example.com/ledger", "", "", 401}, // public, but not this
		{"GET", "/api/v1/sites/own.example.com/ledger", reader, "", 403},
		{"GET", "/api/v1/sites/nobody.example/ledger", adminSecret, "", 404},
		{"GET", "/api/v1/sites/own.example.com/ledger?by=second", adminSecret, "", 400},
		{"GET", "/api/v1/sites/open.example.com/ledger", reader, "", 503}, // there is no ClickHouse here
		{"GET", "/api/v1/sites/own.example.com/ledger", adminSecret, "", 503},
		{"GET", "/api/events?site=own.example.com", "", "", 401},
		{"GET", "/api/events?rate=7s", "", "", 400},
		{"GET", "/api/events?top=101", "", "", 400},
		{"GET", "/api/events?top=x", "", "", 400},
		{"GET", "/api/nothing", "", "", 404},
		{"POST", "/nothing", "", "", 404},
	} {
		res, body := w.get(row.method, base+row.path, row.key, row.body)
		if res.StatusCode != row.status || row.status >= 400 && !strings.Contains(body, `{"error":"`) {
			t.Errorf(
				"%s %s %.60s: %d, want %d: %.200s", row.method, row.path, row.body, res.StatusCode,
				row.status, body,
			)
		}
	}
}
