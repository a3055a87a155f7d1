package ingest

import (
	"image/gif"
	"strings"
	"testing"
)

// TestPixel requests the pixel and compares status, headers and events.
func TestPixel(t *testing.T) {
	w := start(t, Config{})
	if img, err := gif.Decode(strings.NewReader(pixel)); err != nil || img.Bounds().Dx() != 1 ||
		len(pixel) != 43 {
		t.Errorf("%d bytes that are no GIF of one pixel: %v", len(pixel), err)
	}
	const ok, bad = 200, 400
	for _, c := range []struct {
		name, query, referer, agent string
		status                      int
		want                        string // the event; of none, how it was dropped or why
	}{
		{"all", "?site=example.com&url=https%3A%2F%2Fexample.com%2Fa%3Futm_source%3Dletter&" +
			"referrer=https%3A%2F%2Fnews.ycombinator.com%2F", "", chrome, ok,
			"pageview pageview example.com /a ref=news.ycombinator.com src=letter by=Referral " +
				"utm=letter////"},
		{"the url as it is", "?site=example.com&url=https://example.com/a?b=c", "", chrome, ok,
			"pageview pageview example.com /a"},
		{"a lone %", "?site=example.com&url=https://example.com/100%;x", "", chrome, ok,
			"pageview pageview example.com /100%;x"},
		{"a backslash", `?site=example.com&url=https://example.com/%5Cn`, "", chrome, ok,
			`pageview pageview example.com /\n`},
		{"bytes that are no text", "?url=https://example.com/%ff", "", chrome, ok,
			"pageview pageview example.com /\uFFFD"},
		{"the page that shows it", "?site=example.com", "https://example.com/post", chrome, ok,
			"pageview pageview example.com /post"},
		{"site by the page", "", "https://www.example.com/post", chrome, ok,
			"pageview pageview example.com /post"},
		{"url before the page", "?url=https://example.com/a", "https://example.com/b", chrome, ok,
			"pageview pageview example.com /a"},
		{"unknown site", "?site=nobody.example&url=https://example.com/a", "", chrome, ok, "1"},
		{"two sites, one known", "?site=example.com,nobody.example&url=/a", "", chrome, ok,
			"1 pageview pageview example.com /a host=(none)"},
		{"bot", "?url=https://example.com/a", "", "Googlebot/2.1", ok, "1"},
		{"no page", "?site=example.com", "", chrome, bad,
			"url is required, since the browser sent no Referer"},
		{"no site", "?url=/a", "", chrome, bad, "domain can't be blank"},
		{"data url", "?site=example.com&url=data:,x", "", chrome, bad, "url scheme is not allowed"},
		{"long url", "?site=example.com&url=/" + strings.Repeat("a", 2000), "", chrome, bad,
			"url must be a valid url of at most 2000 bytes"},
	} {
		before := len(w.events(t))
		a := w.request(t, "GET /pixel.gif"+c.query, "", "Referer", c.referer, "User-Agent", c.agent)
		if a.status != c.status || a.body != pixel || a.header.Get("Content-Type") != "image/gif" {
			t.Errorf("%s: %+v", c.name, a)
		}
		if cc := a.header.Get("Cache-Control"); !strings.Contains(cc, "no-store") ||
			!strings.Contains(cc, "must-revalidate") || a.header.Get("ETag") != "" {
			t.Errorf("%s: it could be cached: %v", c.name, a.header)
		}
		got := strings.TrimSpace(a.header.Get("x-plausible-dropped") + " " + a.header.Get("x-nowcast-error"))
		for _, e := range w.events(t)[before:] {
			got = strings.TrimSpace(got + " " + show(e))
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	before := len(w.events(t))
	a := w.request(t, "HEAD /pixel.gif?site=example.com&url=https://example.com/a", "")
	if a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "image/gif" ||
		a.header.Get("Content-Length") != "43" || len(w.events(t)) != before {
		t.Errorf("HEAD: %+v", a)
	}
}
