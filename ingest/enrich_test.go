package ingest

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"nowcast/internal/event"
)

func TestSources(t *testing.T) {
	s := newSources(sourceList)
	if len(s.words) < 150 {
		t.Errorf("%d sources", len(s.words))
	}
	for _, c := range []struct{ referrer, page, source string }{
		{"https://www.google.com/", "google.com", "Google"},
		{"https://www.google.co.uk/url?q=x", "google.co.uk/url", "Google"},
		{"https://google.com.br", "google.com.br", "Google"},
		{"https://news.google.de/a/", "news.google.de/a", "Google News"},
		{"https://docs.google.com/d/1", "docs.google.com/d/1", "Google Docs"},
		{"https://t.co/abc", "t.co/abc", "X"},
		{"https://old.reddit.com/r/go", "old.reddit.com/r/go", "Reddit"},
		{"https://chatgpt.com/", "chatgpt.com", "ChatGPT"},
		{"https://blog.unknown.example/p", "blog.unknown.example/p", "blog.unknown.example"},
		{"https://notgoogle.example.com/", "notgoogle.example.com", "notgoogle.example.com"},
		{"https://google.evil.example.com/", "google.evil.example.com", "google.evil.example.com"},
		{"android-app://com.slack/", "com.slack", "Slack"},
		{"https://own.example/x", "", ""},
		{"http://localhost/x", "", ""},
		{"about:blank", "", ""},
		{"garbage", "", ""},
		{"", "", ""},
	} {
		l := parseLink(c.referrer)
		if page, source := s.referral(&l, "own.example"); page != c.page || source.name != c.source {
			t.Errorf("%s: %q %q, want %q %q", c.referrer, page, source, c.page, c.source)
		}
	}
	for word, want := range map[string]string{"google": "Google", "FB": "Facebook", "Hacker News": "Hacker News", "my newsletter": "my newsletter", "www.reddit.com": "Reddit", "x": "X"} {
		if got := s.tagged(word); got.name != want {
			t.Errorf("utm_source=%s: %q, want %q", word, got, want)
		}
	}
}

func TestAgents(t *testing.T) {
	bots, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	known := newAgents(bots)
	for _, c := range []struct{ ua, want string }{
		{chrome, "Desktop Chrome 126.0 Windows 10"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4.1 Safari/605.1.15", "Desktop Safari 17.4 macOS 10.15"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4.1 Mobile/15E148 Safari/604.1", "Mobile Safari 17.4 iOS 17.4"},
		{"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1", "Tablet Safari 16.6 iOS 16.6"},
		{"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36", "Mobile Chrome 126.0 Android 14"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "Desktop Firefox 127.0 Linux x86_64"},
		{"node", "    "},
		{"curl/8.5.0", " curl 8.5  "},
		{strings.Repeat("made up ", 40), "    "},
	} {
		a := known.parse(c.ua)
		if got := strings.Join([]string{a.device, a.browser, a.browserVersion, a.os, a.osVersion}, " "); got != c.want || a.bot {
			t.Errorf("%s: %q bot %v, want %q", c.ua, got, a.bot, c.want)
		}
	}
	cache := newAgents(&crawlers{})
	for i := range 3 * agentsMax {
		cache.parse("curl/8." + strings.Repeat("1", i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i%601))
		if n := len(cache.known.young) + len(cache.known.old); n > 2*agentsMax {
			t.Fatalf("%d user agents in memory", n)
		}
	}
}

// FuzzBeacon: whatever a client sends, it is refused or becomes an event that decodes to the same.
func FuzzBeacon(f *testing.F) {
	for _, s := range []string{
		`{"n":"pageview","v":36,"u":"https://example.com/home?utm_source=news&ref=%zz+%41","d":"example.com","r":"https://ref.example/","p":{"plan":"pro"}}`,
		`{"n":"Signup","u":"http://[::1]:80/%ff#x","$":{"amount":"9.99","currency":"USD"},"p":"{\"a\":1}","h":1,"i":false,"id":"x"}`,
		`{"n":"engagement","sd":100,"e":613,"u":"//user:pw@www.Example.com:/a?b#c"}`, `{"n":404,"u":":","d":"a,b"}`, `{"n":"x","u":"data:","r":"android-app://com.slack"}`,
	} {
		f.Add(s, chrome)
	}
	s := service(f)
	f.Fuzz(func(t *testing.T, body, ua string) {
		b, errs := parseBeacon(body)
		if (b == nil) == (errs == nil) {
			t.Fatalf("%v and %v", b, errs)
		}
		if b == nil {
			return
		}
		from := sender{addr: netip.MustParseAddr("8.8.8.8"), agent: cut(strings.ToValidUTF8(ua, ""), maxAgent)}
		from.says = s.agents.parse(from.agent)
		d := &draft{}
		s.fill(d, b, &from, "example.com")
		d.Time, d.Visitor = 1, 2
		r := decoded(t, 0, 1, event.AppendEvent(event.AppendHeader(nil, event.Header{Node: 1, Sequence: 1}), &d.Event))
		if len(r.events) != 1 || show(r.events[0]) != show(d.Event) || len(d.Path) > maxURL || d.Path[0] != '/' {
			t.Fatalf("%s\n%s", show(r.events[0]), show(d.Event))
		}
		for _, text := range []string{d.Name, d.Path, d.Hostname, d.Referrer, d.Source, d.UTMSource, d.UTMTerm, d.Browser, d.BrowserVersion, d.OS, d.OSVersion, d.Currency} {
			if strings.ToValidUTF8(text, "") != text || len(text) > 2*maxURL {
				t.Fatalf("%q", text)
			}
		}
	})
}
