package streamer

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nowcast/streamer/access"
	"nowcast/streamer/streamertest"
)

func TestSession(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{Access: access.Config{PublicURL: "https://stats.example.com"}})
	other := w.streamer(Config{Access: access.Config{PublicURL: "https://stats.example.com"}})
	key, secret, err := w.sites.NewKey(t.Context(), "own", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, _ := postLogin(t, base, url.Values{"key": {"nck_nonsense"}})
	if res.StatusCode != http.StatusUnauthorized || len(res.Cookies()) > 0 {
		t.Errorf("login with nonsense: %s", res.Status)
	}
	res, _ = postLogin(t, base, url.Values{"key": {secret}})
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		t.Fatal(res.Status)
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" ||
		c.Name != "__Host-nowcast_session" || c.MaxAge != 7*24*60*60 || strings.Contains(c.Value, secret) {
		t.Errorf("%+v", c)
	}
	cookie := c.Name + "=" + c.Value
	const path = "/api/v1/stats/realtime/visitors?site_id=own.example.com"
	if res, _ := w.get("GET", other+path, "", "", "Cookie", cookie); res.StatusCode != http.StatusOK {
		t.Errorf("on another instance: %s", res.Status)
	}
	res, _ = w.get("GET", base+path, "", "", "Cookie", cookie[:len(cookie)-2]+"xx")
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("forged: %s", res.Status)
	}
	for site, status := range map[string]int{
		"same-origin": http.StatusCreated, "cross-site": http.StatusForbidden,
	} {
		res, _ := w.get(
			"POST", base+"/api/v1/sites", "", `{"domain":"`+site+`.example.com"}`, "Cookie", cookie,
			"Sec-Fetch-Site", site,
		)
		if res.StatusCode != status {
			t.Errorf("%s: %s", site, res.Status)
		}
	}
	// Removing the key ends its sessions and its streams.
	s, _ := w.open(base, http.Header{"Cookie": {cookie}}, "site", "own.example.com")
	s.Next()
	if err := w.sites.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	res, _ = w.get("GET", base+path, "", "", "Cookie", cookie)
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("after its key is gone: %s", res.Status)
	}
	streamertest.Eventually(t, "the stream ends", func() bool {
		select {
		case _, open := <-s.Messages:
			return !open
		default:
			return false
		}
	})
}
