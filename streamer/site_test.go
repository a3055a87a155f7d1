package streamer

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Rules are changed list by list, and only admins see them.
func TestSiteRules(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(Config{})
	const all = `{"hostnames":["a.example","*.b.example"],"blocked_addresses":["10.0.0.0/8"],` +
		`"blocked_countries":["DE"],"blocked_paths":["/x/**"]}`
	for _, row := range []struct{ method, path, body, want string }{
		{"POST", "", `{"domain":"new.example.com","public":true,"rules":` + all + `}`, all},
		{"PATCH", "/new.example.com", `{"public":true}`, all},
		{"PATCH", "/new.example.com", `{"rules":{"blocked_addresses":[],"blocked_countries":["fr"]}}`,
			`{"hostnames":["a.example","*.b.example"],"blocked_addresses":[],` +
				`"blocked_countries":["FR"],"blocked_paths":["/x/**"]}`},
		{"GET", "/new.example.com", ``, `"blocked_countries":["FR"]`},
		{"GET", "", ``, `"blocked_countries":["FR"]`},
		{"PATCH", "/new.example.com", `{"rules":{"blocked_paths":["admin"]}}`,
			`{"error":"not valid: \"admin\" is no path; begin it with / or *`},
		{"PATCH", "/new.example.com", `{"rules":{"hostnames":[],"blocked_countries":[],"blocked_paths":[]}}`,
			`{"hostnames":[],"blocked_addresses":[],"blocked_countries":[],"blocked_paths":[]}`},
		{"PATCH", "/new.example.com", `{"rules":` + all + `}`, all},
	} {
		_, body := w.get(row.method, base+"/api/v1/sites"+row.path, adminSecret, row.body)
		if keys := sorted(t, row.want); !strings.Contains(sorted(t, body), keys) {
			t.Errorf("%s %s: %s, want %s", row.method, row.body, body, row.want)
		}
	}
	viewer := w.viewerKey()
	for path, key := range map[string]string{"": viewer, "/new.example.com": ""} {
		if res, body := w.get("GET", base+"/api/v1/sites"+path, key, ""); res.StatusCode != 200 ||
			!strings.Contains(body, "new.example.com") ||
			strings.Contains(body, "blocked") {
			t.Errorf("without an admin key: %d %s", res.StatusCode, body)
		}
	}
}

// viewerKey makes a key that may read open.example.com only.
func (w *world) viewerKey() string {
	w.T.Helper()
	_, secret, err := w.sites.NewKey(w.T.Context(), "viewer", false, []string{"open.example.com"})
	if err != nil {
		w.T.Fatal(err)
	}
	return secret
}

// sorted writes the keys of JSON's objects in order; what is no JSON stays.
func sorted(t *testing.T, s string) string {
	t.Helper()
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A null isn't taken for a field that was left out: a key whose sites are null would read all of them.
func TestNullIsRefused(t *testing.T) {
	w := newAccessWorld(t)
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/api/v1/keys", `{"name":"x","sites":null}`},
		{"POST", "/api/v1/sites", `{"domain":"null.example.com","public":null}`},
		{"PATCH", "/api/v1/sites/own.example.com", `null`},
		{"POST", "/api/v1/sites/own.example.com/links", `{"name":null}`},
	} {
		res, body := w.do(row.method, row.path, row.body, "Authorization", "Bearer "+adminSecret)
		if res.StatusCode != http.StatusBadRequest ||
			!strings.Contains(body, "null is not allowed") {
			t.Errorf("%s %s %s: %s %s", row.method, row.path, row.body, res.Status, body)
		}
	}
}
