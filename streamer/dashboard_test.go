package streamer

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/access"
)

func TestDashboard(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(
		Config{
			Dashboard: fstest.MapFS{
				"index.html": {Data: []byte("the page")}, "assets/a.js": {Data: []byte("script")},
			},
		},
	)
	for _, row := range []struct {
		path, body, cache string
		status            int
	}{
		{"/", "the page", "no-cache", 200},
		{"/example.com", "the page", "no-cache", 200},
		{"/example.com/history", "the page", "no-cache", 200},
		{"/index.html", "the page", "no-cache", 200},
		{"/assets/a.js", "script", "public, max-age=31536000, immutable", 200},
		{"/assets/old.js", `"error"`, "no-store", 404},
		{"/../../etc/passwd", "the page", "no-cache", 200},
		{"/api/openapi.yaml", "openapi: 3.1.0", "", 200},
	} {
		res, body := w.get("GET", base+row.path, "", "")
		if res.StatusCode != row.status || !strings.Contains(body, row.body) ||
			res.Header.Get("Cache-Control") != row.cache {
			t.Errorf(
				"%s: %d %q %s", row.path, res.StatusCode, res.Header.Get("Cache-Control"),
				body[:min(len(body), 80)],
			)
		}
	}
	res, _ := w.get("GET", base+"/", "", "")
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") ||
		strings.Contains(csp, "unsafe") ||
		!strings.Contains(csp, "frame-ancestors 'none'") {
		t.Error(csp)
	}
	if res, _ := w.get("GET", base+"/x.example?embed=1", "", ""); res.Header.Get("X-Frame-Options") != "" {
		t.Error("an embed can't be framed")
	}
	if _, body := w.get("GET", w.streamer(Config{})+"/", "", ""); !strings.Contains(body, "make build") {
		t.Error(body)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []access.Config{
		{PublicURL: "stats.example.com"}, {PublicURL: "ftp://x"},
		{AdminKey: "short"}, {AdminKey: "nck_short"},
	} {
		if _, err := New(Config{Access: cfg}, Deps{Metrics: prometheus.NewRegistry()}); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
