package enrich

import (
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// people holds user agents of browsers that people use, and of programs that send beacons on purpose.
var people = []string{
	chrome,
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"Version/17.4.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"Mobile/15E148 Instagram 320.0.0.0 (iPhone14,5; iOS 17_4_1; de_DE; de; scale=3.00; 1170x2532; 574)",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"Mobile/15E148 [FBAN/FBIOS;FBAV/450.0.0.38.108;FBDV/iPhone14,5;FBSN/iOS;FBSV/17.4.1;FBLC/de_DE]",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"GSA/320.0.123 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/125.2.9 like " +
		"Chrome/125.0.6422.113 Safari/537.36",
	"Mozilla/5.0 (Linux; U; Android 11; de; M2101K6G) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 " +
		"Chrome/100.0.4896.127 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.4.0-g",
	"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) " +
		"SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) " +
		"Chrome/126.0.0.0 Safari/537.36 OPR/111.0.0.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 " +
		"Safari/537.36 Edg/126.0.0.0",
	"Mozilla/5.0 (Linux; Android 9; CUBOT P30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 " +
		"Mobile Safari/537.36",
	"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 " +
		"Safari/537.36",
	"Mozilla/5.0 Umami/v20.1", "node", "curl/8.5.0", "axios/1.7.2", "python-requests/2.32.3",
	"okhttp/4.12.0", "Go-http-client/2.0",
}

// TestCrawlers compares match with the list's expressions, on the list's own examples and on pieces of
// them.
func TestCrawlers(t *testing.T) {
	c, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, ua := range people {
		if newAgentParser(c).parse(ua).bot {
			t.Errorf("a bot: %s", ua)
		}
	}
	if c.size == 0 {
		t.Skip("built without the list of crawlers")
	}
	if c.size < 1_400 || len(c.unindexed) > 0 {
		t.Errorf("%d crawlers, %d of them without a literal to index", c.size, len(c.unindexed))
	}
	list, err := crawlerFiles.ReadFile("crawlers/crawler-user-agents.json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Pattern   string
		Instances []string
	}
	if err := json.Unmarshal(list, &entries); err != nil {
		t.Fatal(err)
	}
	var rules []*regexp.Regexp
	var seen []string
	for _, e := range entries {
		if !slices.Contains(libraries[:], e.Pattern) {
			rules = append(rules, regexp.MustCompile(e.Pattern))
			seen = append(seen, e.Instances...)
		}
	}
	r, bots := rand.New(rand.NewPCG(1, 2)), 0
	for i := range 600 {
		ua := seen[r.IntN(len(seen))]
		if i%3 == 0 {
			ua = ua[r.IntN(len(ua)):]
		}
		want := slices.ContainsFunc(rules, func(r *regexp.Regexp) bool { return r.MatchString(ua) })
		if got := c.match(ua); got != want {
			t.Errorf("%q: %v, want %v", ua, got, want)
		}
		if want {
			bots++
		}
	}
	if bots < 300 {
		t.Errorf("%d bots in 600: the comparison says nothing", bots)
	}
}

// TestCrawlerExpressions matches expressions of each kind.
func TestCrawlerExpressions(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{`[Cc]url[eE]?d`, "a curled curl", "CURLED"},
		{`^Abc(def|ghi)`, "Abcghi/1", "xAbcghi"},
		{`abc([^-]|$)`, "the abc", "the abc-d"},
		{`(^| )abc\/`, "abc/1", "xabc/1"},
		{`abc[\s\S]*xyz`, "abc 1 xyz", "xyz abc"},
		{`(?i)abc`, "ABC", "abd"},
		{`ab`, "cab", "acb"},
		{`a|b`, "b", "c"},
		{`abc$`, "xabc", "abcx"},
		{`(abc)+\d`, "abcabc1", "abcabc"},
	} {
		x := &crawlers{index: map[[prefixLen]byte][]crawlerLiteral{}}
		if err := x.add(c.pattern); err != nil {
			t.Fatal(err)
		}
		if !x.match(c.yes) || x.match(c.no) {
			t.Errorf("%s: %q %v, %q %v", c.pattern, c.yes, x.match(c.yes), c.no, x.match(c.no))
		}
	}
	if err := (&crawlers{}).add("("); err == nil {
		t.Error("no error of what is no expression")
	}
}

// BenchmarkNewAgent parses a user agent that isn't in the cache.
func BenchmarkNewAgent(b *testing.B) {
	c, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			_ = c.match(chrome)
		}
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			p := parseAgent(strings.Clone(chrome))
			_ = p.bot || c.match(chrome)
		}
	})
}
