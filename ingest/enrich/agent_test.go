package enrich

import (
	"log/slog"
	"strings"
	"testing"
)

func TestAgents(t *testing.T) {
	bots, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	parser := newAgentParser(bots)
	for _, c := range []struct{ ua, want string }{
		{chrome, "Desktop Chrome 126.0 Windows 10"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
			"Version/17.4.1 Safari/605.1.15", "Desktop Safari 17.4 macOS 10.15"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like " +
			"Gecko) Version/17.4.1 Mobile/15E148 Safari/604.1", "Mobile Safari 17.4 iOS 17.4"},
		{"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/" +
			"16.6 Mobile/15E148 Safari/604.1", "Tablet Safari 16.6 iOS 16.6"},
		{"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" +
			"126.0.0.0 Mobile Safari/537.36", "Mobile Chrome 126.0 Android 14"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
			"Desktop Firefox 127.0 Linux x86_64"},
		{"node", "    "},
		{"curl/8.5.0", " curl 8.5  "},
		{strings.Repeat("made up ", 40), "    "},
	} {
		a := parser.parse(c.ua)
		if got := strings.Join([]string{a.device, a.browser, a.browserVersion, a.os, a.osVersion},
			" "); got != c.want || a.bot {
			t.Errorf("%s: %q bot %v, want %q", c.ua, got, a.bot, c.want)
		}
	}
	cached := newAgentParser(&crawlers{})
	for i := range 3 * maxAgents {
		cached.parse("curl/8." + strings.Repeat("1", i%7) + string(rune('a'+i%26)) + strings.Repeat("x",
			i%601))
		if n := len(cached.cache.young) + len(cached.cache.old); n > 2*maxAgents {
			t.Fatalf("%d user agents in memory", n)
		}
	}
}
