package httpserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	hosts, err := NewHosts("Stats.Example.com:8443", "*.internal.example", "", "streamer-1")
	if err != nil {
		t.Fatal(err)
	}
	handler := hosts.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	for host, want := range map[string]int{
		"stats.example.com": 204, "STATS.example.com.:80": 204,
		"a.internal.example": 204, "a.b.internal.example:1": 204,
		"streamer-1:8081": 204, "localhost:8080": 204, "app.localhost": 204, "127.0.0.1:8080": 204,
		"[::1]:8080": 204, "::1": 204, "[fe80::1%25eth0]": 204, "192.0.2.1": 204, "": 204,
		"evil.example": 421, "stats.example.com.evil.example": 421, "internal.example": 421,
		".internal.example": 421, "evilinternal.example": 421, "localhost.evil.example": 421,
		"127.0.0.1.nip.io": 421, "streamer-2": 421, "notlocalhost": 421, "0x7f000001": 421, "127.1": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want || want == 421 && !strings.Contains(w.Body.String(), "--allowed-hosts") {
			t.Errorf("%q: %d %s, want %d", host, w.Code, w.Body, want)
		}
	}
	for _, name := range []string{"https://stats.example.com", "*", "*.", "a*b.example", "a,b",
		"*.*.example", ":8080"} {
		if _, err := NewHosts(name); err == nil {
			t.Errorf("%q was taken as a host name", name)
		}
	}
}

func TestStripBase(t *testing.T) {
	for _, row := range []struct{ base, target, want string }{
		{"", "/stats/api/event", "/stats/api/event"},
		{"/stats", "/stats/api/event", "/api/event"},
		{"/stats", "/api/event", "/api/event"},
		{"/stats", "/stats", "/"},
		{"/stats", "/stats/", "/"},
		{"/stats", "/statsx/", "/statsx/"},
		{"/stats", "/stats/a%2Fb", "/a%2Fb"},
		{"/a/b", "/a/b/c", "/c"},
		{"/a/b", "/a/c", "/a/c"},
	} {
		got := ""
		h := StripBase(row.base, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = r.URL.EscapedPath()
		}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, row.target, nil))
		if got != row.want {
			t.Errorf("%q of %s: %s, want %s", row.base, row.target, got, row.want)
		}
	}
}
