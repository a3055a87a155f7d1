package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"nowcast/streamer/api/apitest"
)

// Any input is answered as Plausible answers it, and only the valid beacon at the end is counted.
func (w *world) badInput(t *testing.T) {
	site := w.site(t, true)
	u := `"u":"https://` + site + `/"`
	d := `"d":"` + site + `"`
	props := strings.TrimSuffix(strings.Repeat(`"k%":"v",`, 200_000), ",")
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	a10k, mega := strings.Repeat("a", 10_000), strings.Repeat("a", 1<<20)
	for _, row := range []struct {
		name, body, agent string
		status            int
		dropped           bool
	}{
		{"malformed", `{"n":`, agent(0), 400, false},
		{"no object", `[]`, agent(0), 400, false},
		{"empty", ``, agent(0), 400, false},
		{"wrong type", `{"n":{},` + u + `,` + d + `}`, agent(0), 400, false},
		{"no url", `{"n":"pageview",` + d + `}`, agent(0), 400, false},
		{"data url", `{"n":"pageview","u":"data:text/html,x",` + d + `}`, agent(0), 400, false},
		{"long url", `{"n":"pageview","u":"https://` + site + `/` + a10k + `",` + d + `}`, agent(0), 400,
			false},
		{"long name", `{"n":"` + a10k[:121] + `",` + u + `,` + d + `}`, agent(0), 400, false},
		{"huge body", `{"n":"pageview",` + u + `,` + d + `,"p":{"a":"` + mega + `"}}`, agent(0), 400, false},
		{"props beyond the body's limit", `{"n":"pageview",` + u + `,` + d + `,"p":{` + props + `}}`,
			agent(0), 400, false},
		{"deep", `{"n":"pageview",` + u + `,` + d + `,"p":` + deep + `}`, agent(0), 400, false},
		{"empty engagement", `{"n":"engagement",` + u + `,` + d + `}`, agent(0), 400, false},
		{"unknown site", `{"n":"pageview","u":"https://nobody.example/","d":"nobody.example"}`, agent(0),
			202, true},
		{"bot", `{"n":"pageview",` + u + `,` + d + `}`, "Googlebot/2.1 (+http://www.google.com/bot.html)",
			202, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event",
			strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", row.agent)
		a, err := do(req)
		dropped := a.header.Get("x-plausible-dropped")
		if err != nil || a.status != row.status || (dropped != "") != row.dropped {
			t.Errorf("%s: %v %d (want %d) dropped=%q %.200s", row.name, err, a.status, row.status, dropped,
				a.body)
		}
	}
	a, err := w.beacon(t.Context(), site, "/\xff\xfe", 1, nil) // encoding/json makes it U+FFFD
	if err != nil || a.status >= 500 {
		t.Errorf("invalid UTF-8: %v %d", err, a.status)
	}
	body := strings.NewReader("{\"n\":\"page\xffview\"," + u + "," + d + "}")
	raw, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.ingest+"/api/event", body)
	if err != nil {
		t.Fatal(err)
	}
	raw.Header.Set("User-Agent", agent(2))
	if a, err := do(raw); err != nil || a.status >= 500 {
		t.Errorf("invalid UTF-8 in the body: %v %d", err, a.status)
	}
	good := w.site(t, true)
	w.view(t, good, "/", 1)
	w.total(t, good, "pageviews", 1)
	q, err := w.query(t.Context(), site, []string{"pageviews"}, []string{"event:page"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range q.Results {
		if !strings.Contains(r.Dimensions[0], "\uFFFD") && !strings.Contains(r.Dimensions[0], "%") {
			t.Errorf("a refused beacon was counted: %v", r)
		}
	}
}

func (w *world) access(t *testing.T) {
	private, public := w.site(t, false), w.site(t, true)
	a := w.must(t, http.MethodPost, w.streamers[0]+"/api/v1/keys", map[string]any{"name": "reader",
		"sites": []string{public}})
	var key struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(a.body), &key); err != nil || a.status != http.StatusCreated {
		t.Fatalf("make key: %d %s", a.status, a.body)
	}
	eventually(t, 5*time.Second, "key known everywhere", func(ctx context.Context) error {
		a, err := w.call(ctx, http.MethodGet, w.other()+"/api/v1/session", key.Secret, nil)
		if err == nil && !strings.Contains(a.body, `"authenticated":true`) {
			err = errors.New(a.body)
		}
		return err
	})
	for _, row := range []struct {
		method, path, key string
		status            int
	}{
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + public, "", 200},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, "", 401},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, "nck_wrong", 401},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, key.Secret, 403},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + private, w.key, 200},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=nobody.example", w.key, 404},
		{"GET", "/api/events?site=" + private, "", 401},
		{"GET", "/api/events?site=" + public + "&rate=7s", "", 400},
		{"POST", "/api/v1/sites", key.Secret, 403},
		{"GET", "/api/v1/keys", "", 401},
		{"GET", "/api/v1/keys", key.Secret, 403},
		{"DELETE", "/api/v1/sites/nobody.example", w.key, 404},
	} {
		a, err := w.call(t.Context(), row.method, w.other()+row.path, row.key,
			map[string]any{"domain": "x.example.com"})
		if err != nil || a.status != row.status {
			t.Errorf("%s %s: %v %d, want %d: %.200s", row.method, row.path, err, a.status, row.status, a.body)
		}
		if a.status >= 400 && !strings.Contains(a.body, `"error"`) {
			t.Errorf("%s %s: an error without a sentence: %.200s", row.method, row.path, a.body)
		}
	}
	setCookie := logIn(t, w.streamers[0], url.Values{"key": {w.key}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		w.other()+"/api/v1/stats/realtime/visitors?site_id="+private, nil)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, _ := strings.Cut(setCookie, ";")
	req.Header.Set("Cookie", cookie)
	if a, err := do(req); err != nil || a.status != http.StatusOK {
		t.Errorf("with the session's cookie, on another instance: %v %d %s", err, a.status, a.body)
	}
	if a := w.must(t, http.MethodDelete, w.streamers[0]+"/api/v1/keys/"+key.ID,
		nil); a.status != http.StatusNoContent {
		t.Errorf("delete key: %d %s", a.status, a.body)
	}
	eventually(t, 5*time.Second, "a deleted key is refused", func(ctx context.Context) error {
		a, err := w.call(ctx, http.MethodGet, w.other()+"/api/v1/keys", key.Secret, nil)
		if err == nil && a.status != http.StatusUnauthorized {
			err = errors.New(a.body)
		}
		return err
	})
}

// Each JSON answer matches streamer/openapi.yaml.
func (w *world) contract(t *testing.T) {
	site := w.site(t, true)
	w.view(t, site, "/", 1)
	check, err := apitest.New()
	if err != nil {
		t.Fatal(err)
	}
	query := `{"site_id":"` + site + `","metrics":["visitors"],"date_range":"day"`
	for _, row := range []struct{ method, path, body string }{
		{"GET", "/healthz", ""},
		{"GET", "/readyz", ""},
		{"GET", "/api/v1/session", ""},
		{"GET", "/api/v1/sites", ""},
		{"GET", "/api/v1/sites/" + site, ""},
		{"GET", "/api/v1/sites/nobody.example", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger?from=2026-01-01&to=2026-12-31&by=total", ""},
		{"GET", "/api/v1/sites/" + site + "/ledger?from=2026-01-01&to=2026-12-31", ""},
		{"PATCH", "/api/v1/sites/" + site, `{"timezone":"Europe/Berlin"}`},
		{"PATCH", "/api/v1/sites/" + site, `{"timezone":"Nowhere"}`},
		{"POST", "/api/v1/sites", `{"domain":"` + site + `"}`},
		{"POST", "/api/v1/sites", `{"domain":"not a domain"}`},
		{"GET", "/api/v1/keys", ""},
		{"GET", "/api/v1/stats/realtime/visitors?site_id=" + site, ""},
		{"POST", "/api/v2/query", query + `}`},
		{"POST", "/api/v2/query", query +
			`,"dimensions":["time:hour"],"include":{"time_labels":true,"total_rows":true}}`},
		{"POST", "/api/v2/query", query + `,"dimensions":["nonsense"]}`},
		{"POST", "/api/v2/query", query},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, w.streamers[0]+row.path,
			strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.key)
		if row.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Response(req, a.status, a.header, []byte(a.body)); err != nil {
			t.Errorf("%s %s: %d %s: %v", row.method, row.path, a.status, a.body, err)
		}
		if a.status >= 500 {
			t.Errorf("%s %s: %d %s", row.method, row.path, a.status, a.body)
		}
	}
}

// logIn sends the login form and returns the cookie that the answer sets.
func logIn(t *testing.T, server string, form url.Values) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/login",
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	login, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer login.Body.Close()
	setCookie := login.Header.Get("Set-Cookie")
	if login.StatusCode != http.StatusSeeOther || !strings.Contains(setCookie, "HttpOnly") ||
		!strings.Contains(setCookie, "SameSite=Lax") {
		t.Fatalf("login: %d %v", login.StatusCode, login.Header)
	}
	return setCookie
}
