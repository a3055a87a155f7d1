package load

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// place is a country with its share of visitors (weight) and address blocks of its large access providers.
type place struct {
	country  string
	weight   int
	language string
	blocks   []netip.Prefix
}

func blocks(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var places = []place{
	{"US", 30, "en-US,en;q=0.9", blocks("73.0.0.0/9", "24.0.0.0/12", "98.192.0.0/11")},
	{"DE", 12, "de-DE,de;q=0.9,en;q=0.7", blocks("79.192.0.0/10", "84.128.0.0/10", "93.192.0.0/10")},
	{"GB", 9, "en-GB,en;q=0.9", blocks("86.128.0.0/11", "81.128.0.0/12")},
	{"IN", 9, "en-IN,en;q=0.9,hi;q=0.8", blocks("49.32.0.0/12", "117.192.0.0/11")},
	{"FR", 7, "fr-FR,fr;q=0.9,en;q=0.6", blocks("90.0.0.0/10", "82.64.0.0/14")},
	{"JP", 6, "ja-JP,ja;q=0.9", blocks("126.0.0.0/9")},
	{"BR", 6, "pt-BR,pt;q=0.9,en;q=0.6", blocks("189.0.0.0/11", "177.0.0.0/11")},
	{"CA", 5, "en-CA,en;q=0.9,fr;q=0.5", blocks("70.24.0.0/13", "99.224.0.0/11")},
	{"NL", 4, "nl-NL,nl;q=0.9,en;q=0.8", blocks("84.80.0.0/13")},
	{"AU", 4, "en-AU,en;q=0.9", blocks("101.160.0.0/11", "1.128.0.0/11")},
	{"ES", 4, "es-ES,es;q=0.9,en;q=0.6", blocks("83.32.0.0/12", "88.0.0.0/12")},
	{"IT", 4, "it-IT,it;q=0.9,en;q=0.6", blocks("79.0.0.0/11", "87.0.0.0/12")},
	{"PL", 3, "pl-PL,pl;q=0.9,en;q=0.6", blocks("83.0.0.0/11")},
	{"SE", 2, "sv-SE,sv;q=0.9,en;q=0.8", blocks("90.224.0.0/12")},
	{"KR", 2, "ko-KR,ko;q=0.9", blocks("121.128.0.0/10")},
	{"MX", 2, "es-MX,es;q=0.9", blocks("189.128.0.0/10")},
}

// newAgent is the User-Agent of a common browser. It is different for each n, in the parts of the version
// that differ among real browsers.
func newAgent(r *rand.Rand, n int) string {
	build := fmt.Sprintf("%d.%d", 6000+n%1500, n/1500)
	chrome := fmt.Sprintf("%d.0.%s", 136+r.IntN(7), build)
	switch x := r.IntN(100); {
	case x < 24:
		return webkit("Windows NT 10.0; Win64; x64", "537.36", "Chrome/"+chrome+" Safari/537.36")
	case x < 32:
		return webkit("Macintosh; Intel Mac OS X 10_15_7", "537.36", "Chrome/"+chrome+" Safari/537.36")
	case x < 38:
		return webkit("Macintosh; Intel Mac OS X 10_15_7", "605.1.15",
			fmt.Sprintf("Version/18.%d Safari/605.1.%d", r.IntN(6), 15+n))
	case x < 42:
		return webkit("Windows NT 10.0; Win64; x64", "537.36", "Chrome/"+chrome+" Safari/537.36 Edg/"+chrome)
	case x < 46:
		v := 138 + r.IntN(7)
		return fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0.%d", v, v, n)
	case x < 71:
		return webkit(fmt.Sprintf("iPhone; CPU iPhone OS 18_%d like Mac OS X", r.IntN(7)), "605.1.15",
			fmt.Sprintf("Version/18.%d Mobile/15E%d Safari/604.1", r.IntN(7), 148+n))
	case x < 92:
		return webkit(fmt.Sprintf("Linux; Android %d; K", 13+r.IntN(4)), "537.36",
			"Chrome/"+chrome+" Mobile Safari/537.36")
	case x < 96:
		return webkit(fmt.Sprintf("Linux; Android %d; SAMSUNG SM-S921B", 13+r.IntN(3)), "537.36",
			"SamsungBrowser/28.0 Chrome/"+chrome+" Mobile Safari/537.36")
	case x < 98:
		return webkit(fmt.Sprintf("iPad; CPU OS 17_%d like Mac OS X", r.IntN(7)), "605.1.15",
			fmt.Sprintf("Version/17.%d Mobile/15E%d Safari/604.1", r.IntN(7), 148+n))
	default:
		return webkit(fmt.Sprintf("Linux; Android %d; SM-X710", 13+r.IntN(3)), "537.36",
			"Chrome/"+chrome+" Safari/537.36")
	}
}

// webkit is the User-Agent of a browser with WebKit or Blink.
func webkit(system, version, browser string) string {
	return "Mozilla/5.0 (" + system + ") AppleWebKit/" + version + " (KHTML, like Gecko) " + browser
}

// source is where a visit comes from.
type source struct {
	weight          int
	referrer, query string
}

var sources = []source{
	{38, "", ""},
	{26, "https://www.google.com/", ""},
	{4, "https://duckduckgo.com/", ""},
	{3, "https://www.bing.com/", ""},
	{6, "https://news.ycombinator.com/item?id=41900000", ""},
	{5, "https://www.reddit.com/r/webdev/", ""},
	{4, "https://t.co/a1B2c3", ""},
	{3, "https://www.linkedin.com/", ""},
	{3, "https://github.com/", ""},
	{2, "https://www.youtube.com/", ""},
	{2, "https://blog.example.org/ten-tools", ""},
	{2, "", "?utm_source=newsletter&utm_medium=email&utm_campaign=weekly"},
	{1, "https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=analytics"},
	{1, "https://l.facebook.com/",
		"?utm_source=facebook&utm_medium=social&utm_campaign=launch&utm_content=video"},
}

var plans = []string{"free", "pro", "team"}

// website is a site with its pages, the most visited first.
type website struct {
	domain string
	pages  []string
	pick   *zipf
}

func newWebsite(domain string, r *rand.Rand) *website {
	w := &website{domain: domain, pages: []string{"/", "/pricing", "/docs", "/blog", "/features",
		"/docs/install", "/about", "/signup", "/docs/api", "/changelog", "/contact", "/login"}}
	topics := []string{"streaming", "kafka", "clickhouse", "privacy", "windows", "latency", "dashboards",
		"events"}
	for i := range 60 {
		w.pages = append(w.pages, fmt.Sprintf("/blog/%s-%d", topics[r.IntN(len(topics))], i+1))
	}
	w.pick = newZipf(len(w.pages), 1.05)
	return w
}

// entry is the first page of a visit.
func (w *website) entry(r *rand.Rand) string { return w.pages[w.pick.draw(r)] }

// next is the page after the current URL, most probably a different one.
func (w *website) next(current string, r *rand.Rand) string {
	for range 4 {
		if p := w.pages[w.pick.draw(r)]; current != "https://"+w.domain+p {
			return p
		}
	}
	return w.pages[r.IntN(len(w.pages))]
}
