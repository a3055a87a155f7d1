package streamer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"nowcast/internal/site"
	"nowcast/streamer/streamertest"
)

// Who may make a ticket for which sites.
func TestTickets(t *testing.T) {
	w := newAccessWorld(t)
	_, own := w.key("own.example.com")
	_, share := w.link("own.example.com")
	session := w.session(own)
	ticket := w.ticket(`{"sites":["own.example.com","open.example.com"],"ttl":300}`, shown{bearer: own})
	for _, row := range []struct {
		body   string
		v      shown
		status int
		reason string
	}{
		{`{"sites":["own.example.com"],"ttl":5}`, shown{bearer: own}, 201, ""},
		// the public URL's origin, also where a proxy changes Host
		{`{"sites":["own.example.com"]}`, shown{cookie: session, origin: "http://stats.example.com"}, 201,
			""},
		{`{"sites":["own.example.com"]}`, shown{cookie: session, origin: "https://stats.example.com"}, 403,
			"another site"},
		{`{"sites":["own.example.com"]}`, shown{cookie: session, origin: "https://evil.example"}, 403,
			"another site"},
		{`{"sites":["open.example.com"]}`, shown{query: "share=" + share}, 201, ""},
		{`{"sites":["open.example.com"]}`, shown{}, 401, "a key is needed"},
		{`{"sites":["own.example.com"]}`, shown{query: "share=ncl_nothing"}, 401, "share link isn't valid"},
		// a ticket makes no ticket
		{`{"sites":["own.example.com"]}`, shown{query: "ticket=" + ticket}, 401, "ticket isn't valid"},
		{`{"sites":["own.example.com","other.example.com"]}`, shown{bearer: own}, 403, "may not read all"},
		{`{"sites":["nobody.example"]}`, shown{bearer: own}, 403, "may not read all"},
		{`{"sites":[]}`, shown{bearer: own}, 400, "name 1 to 20"},
		{`{"sites":["a.example` + strings.Repeat(`","a.example`, 20) + `"]}`, shown{bearer: own}, 400,
			"name 1 to 20"},
		{`{"sites":["own.example.com"],"ttl":4}`, shown{bearer: own}, 400, "ttl has to be 5 to 300"},
		{`{"sites":["own.example.com"],"ttl":301}`, shown{bearer: own}, 400, "ttl has to be 5 to 300"},
		{`{"sites":["own.example.com"],"ttl":-9223372036854775808}`, shown{bearer: own}, 400,
			"ttl has to be 5 to 300"},
		{`{"sites":"own.example.com"}`, shown{bearer: own}, 400, "JSON"},
		{`{"sites":["own.example.com"],"ttl":null}`, shown{bearer: own}, 400, "null is not allowed"},
		{`{"sites":[null]}`, shown{bearer: own}, 400, "null is not allowed"},
		{`{`, shown{bearer: own}, 400, "JSON"},
	} {
		status, _, body := w.ask("POST", "/api/v1/tickets", row.body, row.v)
		if status != row.status || !strings.Contains(body, row.reason) {
			t.Errorf("%s %+v: %d %s, want %d", row.body, row.v, status, body, row.status)
		}
	}
	// A ticket for several sites opens each; an instance that never saw it, too.
	other := w.streamer(Config{})
	for _, d := range []string{"own.example.com", "open.example.com"} {
		path := "/api/v1/stats/realtime/visitors?site_id=" + d + "&ticket=" + ticket
		res, body := w.get("GET", other+path, "", "")
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", d, res.Status, body)
		}
	}
}

// A stream ends when the key, link or site that it depends on is removed, and not when its ticket has
// expired.
func TestStreamsEndWithTheirAccess(t *testing.T) {
	w := newAccessWorld(t)
	ctx := t.Context()
	for _, d := range []string{"shown.example.com", "removed.example.com"} {
		if err := w.sites.Put(ctx, site.Site{Domain: d, Public: d == "shown.example.com"}); err != nil {
			t.Fatal(err)
		}
	}
	k, key := w.key("own.example.com")
	l, share := w.link("own.example.com")
	_, stayKey := w.key()
	_, stayShare := w.link("own.example.com")
	const forOwn = `{"sites":["own.example.com"]}`
	open := func(site string, v shown) *streamertest.Stream {
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
		s, res := w.open(w.base, h, q...)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%+v: %s", v, res.Status)
		}
		s.Next()
		return s
	}
	ended := w.session(stayKey)
	ends := map[string]*streamertest.Stream{
		"key":     open("own.example.com", shown{bearer: key}),
		"session": open("own.example.com", shown{cookie: w.session(key)}),
		"ticket of a key": open(
			"own.example.com", shown{query: "ticket=" + w.ticket(forOwn, shown{bearer: key})},
		),
		"cookie of link": open("own.example.com", shown{cookie: w.cookie("/share/" + share)}),
		"share query":    open("own.example.com", shown{query: "share=" + share}),
		"ticket of link": open(
			"own.example.com", shown{query: "ticket=" + w.ticket(forOwn, shown{query: "share=" + share})},
		),
		"ended session": open("own.example.com", shown{cookie: ended}),
		"ticket of an ended session": open(
			"own.example.com", shown{query: "ticket=" + w.ticket(forOwn, shown{cookie: ended})},
		),
		"public": open("shown.example.com", shown{}),
		"site":   open("removed.example.com", shown{bearer: stayKey}),
	}
	stays := map[string]*streamertest.Stream{
		"key":         open("own.example.com", shown{bearer: stayKey}),
		"session":     open("own.example.com", shown{cookie: w.session(stayKey)}),
		"share query": open("own.example.com", shown{query: "share=" + stayShare}),
		"expired ticket": open(
			"own.example.com",
			shown{
				query: "ticket=" + w.cluster().ticket(
					operatorID, time.Now().Add(300*time.Millisecond), "own.example.com",
				),
			},
		),
	}
	if res, body := w.do("POST", "/logout", "", "Cookie", ended); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status, body)
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
			case _, more := <-s.Messages:
				over = !more
			case <-late:
				t.Fatalf("the stream by %s hasn't ended within 5 s", name)
			}
		}
	}
	w.Final(1)
	for _, s := range stays {
		s.Next()
	}
}
