package streamer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"nowcast/internal/window"
	"nowcast/streamer/access"
	"nowcast/streamer/streamertest"
)

// visit makes the next n seconds final, each with one page view of /private at a site, which lists it too.
func (w *world) visit(domain string, n int) {
	w.T.Helper()
	for range n {
		w.At++
		for p := range 2 {
			w.Emit(p, &window.Emission{
				Offset: w.At, Watermark: (w.At + 1) * 1000, Now: (w.At+1)*1000 + 250,
				Seconds: []window.Second{{
					Site: domain, At: w.At, Pageviews: 1, Visitors: 1, Events: 1, Active: 30,
					Final: true, Revision: 2, Version: window.RowVersion(window.Epoch, true, w.At),
				}},
				Nows: []window.Now{{
					Site: domain, At: w.At, Version: window.RowVersion(window.Epoch, true, w.At),
					Pages: []window.Count{{Name: "/private", Active: 30}},
				}},
			})
		}
	}
}

// A site that was removed and made again, as a public one, shows nothing of the former one: not by what
// opened that, nor live, nor to a viewer who returns.
func TestRemovedSiteIsGone(t *testing.T) {
	w := newAccessWorld(t)
	admin := []string{"Authorization", "Bearer " + adminSecret}
	const at, domain = "/api/v1/sites/own.example.com", "own.example.com"
	w.At = time.Now().Unix() - 30
	w.visit(domain, 20)
	_, key := w.key(domain)
	_, share := w.link(domain)
	cookie := w.cookie("/share/" + share)
	ticket := w.ticket(`{"sites":["own.example.com"]}`, shown{bearer: key})
	adminTicket := w.ticket(`{"sites":["own.example.com"]}`, shown{bearer: adminSecret})
	old, res := w.open(w.base, http.Header{"Authorization": {"Bearer " + adminSecret}}, "site", domain)
	if first := old.Next(); res.StatusCode != 200 || first.Visitors != 60 || len(first.Now.Pages) == 0 {
		t.Fatalf("%s %+v", res.Status, first)
	}
	if res, body := w.do("DELETE", at, "", admin...); res.StatusCode != 204 {
		t.Fatal(res.Status, body)
	}
	res, body := w.do("POST", "/api/v1/sites", `{"domain":"own.example.com"}`, admin...)
	if res.StatusCode != 201 {
		t.Fatal(res.Status, body)
	}
	// What opened the former site opens nothing, while the new one is private.
	for name, v := range map[string]shown{
		"key": {bearer: key}, "link": {query: "share=" + share}, "link's cookie": {cookie: cookie},
		"ticket": {query: "ticket=" + ticket}, "an admin's ticket": {query: "ticket=" + adminTicket},
	} {
		path := "/api/v1/stats/realtime/visitors?site_id=own.example.com"
		var header []string
		if v.query != "" {
			path += "&" + v.query
		}
		if v.bearer != "" {
			header = append(header, "Authorization", "Bearer "+v.bearer)
		}
		if v.cookie != "" {
			header = append(header, "Cookie", v.cookie)
		}
		if res, body := w.do("GET", path, "", header...); res.StatusCode != 401 && res.StatusCode != 403 {
			t.Errorf("the former site's %s: %s %s", name, res.Status, body)
		}
	}
	streamertest.Eventually(t, "the former site's stream ends", func() bool {
		select {
		case _, open := <-old.Messages:
			return !open
		default:
			return false
		}
	})
	if res, body := w.do("PATCH", at, `{"public":true}`, admin...); res.StatusCode != 200 {
		t.Fatal(res.Status, body)
	}
	st, _ := w.sites.Lookup(domain)
	for name, id := range map[string]string{
		"": "", "a resume id": streamertest.EventID(w.At-10, 0),
		"the resume id of an hour ago": streamertest.EventID(w.At-3000, 0),
	} {
		s, _ := w.open(w.base, nil, "site", domain, "lastEventId", id)
		m := s.Next()
		if reset := m.Event == "reset"; reset != (id != "") {
			t.Errorf("%s: %s", name, m.Event)
		} else if reset {
			m = s.Next()
		}
		if m.Visitors != 0 || len(*m.Seconds) != 0 || m.Now != nil && len(m.Now.Pages) != 0 ||
			strings.Contains(m.Data, "private") {
			t.Errorf("%s: the former site's past: %s", name, m.Data)
		}
		s.Cancel()
	}
	if _, body := w.do("GET", "/api/v1/stats/realtime/visitors?site_id=own.example.com", ""); body != "0" {
		t.Errorf("%s visitors", body)
	}
	// The new site counts from its creation on.
	s, _ := w.open(w.base, nil, "site", domain)
	s.Next()
	w.visit(domain, int(st.Created.Unix()-w.At)+2)
	for m := s.Next(); ; m = s.Next() {
		if strings.Contains(m.Data, "private") {
			t.Fatalf("the lists may be the former site's: %s", m.Data)
		}
		if m.Visitors > 0 {
			at, err := time.Parse(time.RFC3339, m.Second.At)
			own := 2 * (at.Unix() - st.Created.Unix() + 1)
			if err != nil || int64(m.Second.Pageviews) != own || int64(m.Visitors) != own {
				t.Errorf("created at %s, its first seconds: %s", st.Created, m.Data)
			}
			break
		}
	}
}

// Once no visitor of the former site can be active, the lists are those of the new one.
func TestListsAfterTheFormerSite(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{Access: access.Config{}})
	if err := w.sites.Delete(t.Context(), "open.example.com"); err != nil {
		t.Fatal(err)
	}
	res, body := w.get("POST", base+"/api/v1/sites", adminSecret,
		`{"domain":"open.example.com","public":true}`)
	if res.StatusCode != 201 {
		t.Fatal(res.Status, body)
	}
	w.At = time.Now().Unix() + activeSpan + 1
	w.visit("open.example.com", 2)
	streamertest.Eventually(t, "the lists are shown", func() bool {
		s, _ := w.open(base, nil)
		defer s.Cancel()
		m := s.Next()
		return m.Visitors == 60 && len(m.Now.Pages) == 1
	})
}
