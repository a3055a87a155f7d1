package streamer

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/site"
	"nowcast/streamer/access"
)

func TestDashboard(t *testing.T) {
	w := newWorld(t)
	base := w.streamer(
		Config{
			Dashboard: fstest.MapFS{
				"index.html": {Data: []byte("the page")}, "assets/a.js": {Data: []byte("script")},
				"favicon.svg": {Data: []byte("icon")}, "script.js": {Data: []byte("tracker")},
			},
		},
	)
	for _, row := range []struct {
		path, body, cache string
		status            int
	}{
		{"/", "the page", "no-cache", 200},
		{"/example.com", "the page", "no-cache", 200},
		{"/EXAMPLE.com", "the page", "no-cache", 200},
		{"/localhost:3000", "the page", "no-cache", 200},
		{"/192.0.2.1", "the page", "no-cache", 200},
		{"/example.com/history", "the page", "no-cache", 200},
		{"/example.com/history/", "the page", "no-cache", 200},
		{"/assets/a.js", "script", "public, max-age=31536000, immutable", 200},
		{"/favicon.svg", "icon", "public, max-age=3600", 200},
		{"/robots.txt", "User-agent: *\nDisallow: /\n", "public, max-age=86400", 200},
		{"/api/openapi.yaml", "openapi: 3.1.0", "no-cache", 200},
		{"/assets/old.js", `"error"`, "no-store", 404},
		{"/index.html", `"error"`, "no-store", 404},
		{"/script.js", `"error"`, "no-store", 404},
		{"/wp-login.php", `"error"`, "no-store", 404},
		{"/.env", `"error"`, "no-store", 404},
		{"/admin", `"error"`, "no-store", 404},
		{"/%25", `"error"`, "no-store", 404},
		{"/example.com/wp-login.php", `"error"`, "no-store", 404},
		{"/example.com/history/x", `"error"`, "no-store", 404},
		{"/../../etc/passwd", `"error"`, "no-store", 404},
		{"/api/nothing", `"error"`, "no-store", 404},
	} {
		res, body := w.get("GET", base+row.path, "", "")
		if res.StatusCode != row.status || !strings.Contains(body, row.body) ||
			res.Header.Get("Cache-Control") != row.cache ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" ||
			(row.body == "the page") != (res.Header.Get("X-Robots-Tag") == "noindex") {
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
	if _, body := w.get("GET", w.streamer(Config{})+"/", "", ""); !strings.Contains(body, "make build") {
		t.Error(body)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []access.Config{
		{PublicURL: "stats.example.com"}, {PublicURL: "ftp://x"},
		{AdminKey: "short"}, {AdminKey: "nck_short"}, {AllowedHosts: []string{"https://x.example"}},
	} {
		if _, err := New(Config{Access: cfg}, Deps{Metrics: prometheus.NewRegistry()}); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

// Only the live view of a site is framable, by its origins, and only a request that may read a private site
// is told those.
func TestFraming(t *testing.T) {
	w := newAccessWorld(t)
	for _, s := range []site.Site{
		{Domain: "listed.example.com", Public: true, Origins: []string{"https://app.example.net"}},
		{Domain: "shop.example.com", Origins: []string{"https://*.example.org"}},
	} {
		if err := w.sites.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	w.base = w.streamer(Config{Dashboard: fstest.MapFS{"index.html": {Data: []byte("the page")}}})
	_, key := w.key()
	session := shown{cookie: w.session(key)}
	_, secret := w.link("shop.example.com")
	link := shown{cookie: w.cookie("/share/" + secret)}
	const own = "'self' http://own.example.com:* https://own.example.com:* " +
		"http://*.own.example.com:* https://*.own.example.com:*"
	for _, row := range []struct {
		path string
		v    shown
		want string
	}{
		{"/open.example.com?embed=1", shown{}, "*"},
		{"/open.example.com?embed=1&theme=dark", shown{}, "*"},
		{"/listed.example.com?embed=1", shown{}, "'self' https://app.example.net"},
		{"/open.example.com", shown{}, "'none'"},
		{"/open.example.com?embed=0", shown{}, "'none'"},
		{"/open.example.com/history?embed=1", shown{}, "'none'"},
		{"/?embed=1", session, "'none'"},
		{"/login?embed=1", session, "'none'"},
		{"/own.example.com?embed=1", shown{}, "'none'"},
		{"/shop.example.com?embed=1", shown{}, "'none'"},
		{"/nobody.example?embed=1", shown{}, "'none'"},
		{"/nobody.example?embed=1", session, "'none'"},
		{"/own.example.com?embed=1", session, own},
		{"/shop.example.com?embed=1", session, "'self' https://*.example.org"},
		{"/shop.example.com?embed=1", link, "'self' https://*.example.org"},
		{"/shop.example.com/history?embed=1", session, "'none'"},
		{"/own.example.com?embed=1", link, "'none'"},
	} {
		status, h, _ := w.ask("GET", row.path, "", row.v)
		_, got, _ := strings.Cut(h.Get("Content-Security-Policy"), "frame-ancestors ")
		if status != 200 || got != row.want || (got == "'none'") != (h.Get("X-Frame-Options") == "DENY") {
			t.Errorf("%s by %+v: %d %q %q, want %q", row.path, row.v, status, got, h.Get("X-Frame-Options"),
				row.want)
		}
	}
}
