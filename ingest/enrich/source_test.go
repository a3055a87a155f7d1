package enrich

import (
	"testing"

	"nowcast/ingest/dialect"
)

func TestSources(t *testing.T) {
	s := newSources(sourceList)
	if len(s.byWord) < 150 {
		t.Errorf("%d sources", len(s.byWord))
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
		l := dialect.ParseLink(c.referrer)
		if page, source := s.referral(&l, "own.example"); page != c.page || source.name != c.source {
			t.Errorf("%s: %q %q, want %q %q", c.referrer, page, source, c.page, c.source)
		}
	}
	for word, want := range map[string]string{"google": "Google", "FB": "Facebook",
		"Hacker News": "Hacker News", "my newsletter": "my " +
			"newsletter", "www.reddit.com": "Reddit", "x": "X"} {
		if got := s.byTag(word); got.name != want {
			t.Errorf("utm_source=%s: %q, want %q", word, got, want)
		}
	}
}
