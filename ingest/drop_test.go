package ingest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"nowcast/ingest/enrich/enrichtest"
	"nowcast/ingest/publisher/logtest"
)

// TestBots sends beacons of bots and of pages that are loaded in advance.
func TestBots(t *testing.T) {
	w := start(t, Config{})
	const pv = `{"n":"pageview","u":"https://example.com/a","d":"example.com"}`
	counters := func() string {
		m := w.intake.metrics
		bots, prefetched := testutil.ToFloat64(m.dropped("bot")), testutil.ToFloat64(m.dropped("prefetch"))
		return fmt.Sprint(bots, prefetched, len(w.events(t)))
	}
	for _, c := range []struct{ name, header, value, reason string }{
		{"nothing special", "X-Nothing", "1", ""},
		{"an AI's crawler", "User-Agent", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; " +
			"compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", "bot"},
		{"PhantomJS", "User-Agent", "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like " +
			"Gecko) PhantomJS/2.1.1 Safari/538.1", "bot"},
		{"Playwright", "User-Agent", chrome + " Playwright/1.44", "bot"},
		{"jsdom", "User-Agent", "Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/22.1.0",
			"bot"},
		{"prefetch", "Sec-Purpose", "prefetch", "prefetch"},
		{"prefetch by proxy", "Sec-Purpose", "prefetch;anonymous-client-ip", "prefetch"},
		{"prerender", "Sec-Purpose", "prefetch;prerender", "prefetch"},
		{"old prefetch", "Purpose", "prefetch", "prefetch"},
		{"older prefetch", "X-Moz", "prefetch", "prefetch"},
		{"preview", "X-Purpose", "preview", "prefetch"},
		{"another purpose", "Sec-Purpose", "navigate", ""},
	} {
		before := counters()
		a := w.post(t, pv, c.header, c.value)
		bots, prefetched, events := 0.0, 0.0, 0
		fmt.Sscan(before, &bots, &prefetched, &events)
		dropped := ""
		switch c.reason {
		case "bot":
			bots, dropped = bots+1, "1"
		case "prefetch":
			prefetched, dropped = prefetched+1, "1"
		default:
			events++
		}
		after := counters()
		if want := fmt.Sprint(bots, prefetched, events); a.status != 202 || a.body != "ok" ||
			a.header.Get("x-plausible-dropped") != dropped || after != want {
			t.Errorf("%s: %d %q, counters %s, want %s", c.name, a.status,
				a.header.Get("x-plausible-dropped"), after, want)
		}
	}
}

// TestSpammers sends beacons with referrer spam.
func TestSpammers(t *testing.T) {
	w := start(t, Config{})
	for _, c := range []struct {
		referrer string
		spam     bool
	}{
		{"https://semalt.com/", true},
		{"https://semalt.semalt.com/crawler.php?u=https://example.com", true},
		{"http://www.buttons-for-website.com", true},
		{"https://notsemalt.com/", false},
		{"https://semalt.com.example/", false},
		{"https://com/", false},
		{"", false},
	} {
		spam, events := testutil.ToFloat64(w.intake.metrics.dropped("spam_referrer")), len(w.events(t))
		a := w.post(t, `{"n":"pageview","u":"https://example.com/a","d":"example.com","r":"`+c.referrer+`"}`)
		dropped, more := "", 1
		if c.spam {
			dropped, more = "1", 0
		}
		if a.status != 202 || a.header.Get("x-plausible-dropped") != dropped ||
			len(w.events(t))-events != more ||
			testutil.ToFloat64(w.intake.metrics.dropped("spam_referrer"))-spam != float64(1-more) {
			t.Errorf("%s: %+v, %d events more", c.referrer, a, len(w.events(t))-events)
		}
	}
}

// TestTallies sends beacons that count, that are dropped and that are refused: the first two are in the
// tallies of their sites.
func TestTallies(t *testing.T) {
	w := start(t, Config{})
	const bot = "Acme-Bot/1.0"
	for range 3 {
		w.post(t, `{"n":"pageview","u":"https://example.com/","d":"example.com, other.example"}`)
	}
	w.post(t, `{"n":"pageview","u":"https://example.com/","d":"example.com,unknown.example"}`, "User-Agent",
		bot)
	w.post(t, `{"n":"pageview","u":"https://unknown.example/"}`)
	w.post(t, `{"n":"pageview","u":"https://third.example/"}`, "User-Agent", bot)
	w.post(t, `{"n":"","u":"https://example.com/"}`) // 400
	w.post(t, `{"n":"pageview","u":"https://example.com/"}`, "X-Debug-Request", "true")
	w.stop()
	got := logtest.CheckTallies(t, w.log.Records(t))
	if want := map[string]uint64{"example.com ": 4, "example.com bot": 1,
		"other.example ": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := testutil.ToFloat64(w.intake.metrics.dropped("bot")); n != 1 {
		t.Errorf("%v bots in the metric", n)
	}
}

// TestGeoFileByHTTP starts with a database of cities: an event has country, region and city.
func TestGeoFileByHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	berlin := map[string]mmdbtype.Map{"8.8.8.0/24": enrichtest.City("DE", "BE", "Berlin")}
	if err := os.WriteFile(path, enrichtest.GeoDatabase(t, "GeoLite2-City", berlin), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, Config{GeoFile: path})
	if a := w.post(t, page, "X-Forwarded-For", "8.8.8.8"); a.status != 202 {
		t.Fatal(a)
	}
	if e := w.events(t); len(e) != 1 || e[0].Country != "DE" || e[0].Region != "DE-BE" ||
		e[0].City != "Berlin" {
		t.Errorf("%+v", e)
	}
}

// A beacon for a domain that is no site is answered as one that counts, with x-plausible-dropped, and in
// Umami's dialect as Umami does. What isn't counted anyway, and the visitor's own id, tells nothing of the
// site.
func TestUnknownSite(t *testing.T) {
	w := start(t, Config{})
	const known, unknown = "example.com", "nobody.example"
	const header, notFound = "x-plausible-dropped", "Website not found"
	for _, c := range []struct {
		what, body string
		header     []string
		told       string // by what
	}{
		{"POST /api/event", `{"n":"pageview","u":"https://SITE/a","d":"SITE"}`, nil, header},
		{"POST /api/event", `{"n":"pageview","u":"https://SITE/a"}`, []string{"Origin", "https://SITE"},
			header},
		{"POST /api/send", `{"type":"event","payload":{"website":"SITE","url":"/"}}`, nil, notFound},
		{"POST /api/batch", `[{"type":"event","payload":{"website":"SITE","url":"/"}}]`, nil, notFound},
		{"GET /pixel.gif?site=SITE&url=https://SITE/", "", nil, header},
		{"POST /api/event", `{"n":"pageview","u":"https://SITE/a","d":"SITE"}`,
			[]string{"User-Agent", "Googlebot/2.1"}, ""},
		{"POST /api/event", `{"n":"pageview","u":"data:","d":"SITE"}`, nil, ""},
		{"OPTIONS /api/event", "", []string{"Origin", "https://SITE"}, ""},
		{"GET /api/visitor?site=SITE", "", nil, ""},
	} {
		ask := func(domain string) (dropped, rest string) {
			name := func(s string) string { return strings.ReplaceAll(s, "SITE", domain) }
			var pairs []string
			for _, h := range c.header {
				pairs = append(pairs, name(h))
			}
			a := w.request(t, name(c.what), name(c.body), pairs...)
			dropped = a.header.Get(header)
			for _, h := range []string{"Date", "Content-Length", header} {
				a.header.Del(h)
			}
			body := strings.ReplaceAll(a.body, domain, "SITE")
			return dropped, fmt.Sprint(a.status, visitorValue.ReplaceAllString(body, ""), a.header)
		}
		counted, like := ask(known)
		dropped, unlike := ask(unknown)
		good := like == unlike && counted == dropped
		switch c.told {
		case header:
			good = like == unlike && counted == "" && dropped == "1"
		case notFound:
			good = strings.Contains(unlike, notFound) && !strings.Contains(like, notFound)
		}
		if !good {
			t.Errorf("%s %s: %q %s\nfor a site, %q %s\nfor none", c.what, c.body, counted, like,
				dropped, unlike)
		}
	}
}

// visitorValue matches the id of a visitor in JSON.
var visitorValue = regexp.MustCompile(`"visitor":"[0-9a-f]{16}"`)
