package enrich

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"nowcast/ingest/dialect"
	"nowcast/ingest/dialect/dialecttest"
	"nowcast/internal/event"
)

// FuzzBeacon enriches any beacon and decodes the event: it has to be the same, of valid UTF-8 and of
// bounded size.
func FuzzBeacon(f *testing.F) {
	for _, s := range dialecttest.Plausible() {
		f.Add(s, chrome)
	}
	for _, s := range []string{
		`{"n":"pageview","v":36,"u":"https://example.com/home?utm_source=news&ref=%zz+%41",` +
			`"d":"example.com","r":"https://ref.example/","p":{"plan":"pro"}}`,
		`{"n":"Signup","u":"http://[::1]:80/%ff#x","$":{"amount":"9.99","currency":"USD"},` +
			`"p":"{\"a\":1}","h":1,"i":false,"id":"x"}`,
		`{"n":"engagement","sd":100,"e":613,"u":"//user:pw@www.Example.com:/a?b#c"}`,
		`{"n":404,"u":":","d":"a,b"}`,
		`{"n":"x","u":"data:","r":"android-app://com.slack"}`,
	} {
		f.Add(s, chrome)
	}
	enricher := newEnricher(f)
	f.Fuzz(func(t *testing.T, body, userAgent string) {
		b, errs := dialect.ParsePlausible(body)
		if (b == nil) == (errs == nil) {
			t.Fatalf("%v and %v", b, errs)
		}
		if b == nil {
			return
		}
		facts := enricher.Facts(http.Header{"User-Agent": {userAgent}}, netip.MustParseAddr("8.8.8.8"))
		var e event.Event
		enricher.Fill(&e, b, &facts, "example.com")
		e.Time, e.Visitor = 1, 2
		header := event.AppendHeader(nil, event.Header{Node: 1, Sequence: 1})
		got := decodeOne(t, event.AppendEvent(header, &e))
		same := fmt.Sprintf("%+v", got) == fmt.Sprintf("%+v", e)
		if !same || len(e.Path) > dialect.MaxURL || e.Path[0] != '/' {
			t.Fatalf("%+v\n%+v", got, e)
		}
		for _, text := range []string{
			e.Name, e.Path, e.Hostname, e.Referrer, e.Source, e.UTMSource, e.UTMTerm,
			e.Browser, e.BrowserVersion, e.OS, e.OSVersion, e.Currency,
		} {
			if strings.ToValidUTF8(text, "") != text || len(text) > 2*dialect.MaxURL {
				t.Fatalf("%q", text)
			}
		}
	})
}

// decodeOne decodes the only event of an envelope.
func decodeOne(t *testing.T, envelope []byte) event.Event {
	t.Helper()
	var d event.Decoder
	_, err := d.Reset(envelope)
	var e, none event.Event
	if err != nil || !d.Next(&e) || d.Next(&none) || d.Err() != nil {
		t.Fatalf("not one event: %v, %v", err, d.Err())
	}
	return e
}

func FuzzAgent(f *testing.F) {
	for _, s := range []string{chrome, "", "curl/8", "Googlebot/2.1",
		"Mozilla/5.0 (Linux; Android 9; CUBOT P30) Chrome/126.0.0.0 Mobile", "a/1 (b; c) d/" +
			"\xff", "bot", "Mozilla/5.0 (", "((((;;;;))))"} {
		f.Add(s)
	}
	bots, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	agents := newAgentParser(bots)
	f.Fuzz(func(t *testing.T, s string) {
		s = dialect.Truncate(strings.ToValidUTF8(s, "\uFFFD"), maxUserAgent) // as Facts does
		a := agents.parse(s)
		if a != agents.parse(s) {
			t.Errorf("%q: two answers", s)
		}
		for _, v := range []string{a.browser, a.browserVersion, a.os, a.osVersion} {
			if !utf8.ValidString(v) || len(v) > 2*maxLabel+1 {
				t.Errorf("%q: %+v", s, a)
			}
		}
		if !slices.Contains([]string{"", "Desktop", "Mobile", "Tablet"}, a.device) {
			t.Errorf("%q: device %q", s, a.device)
		}
	})
}

// FuzzReferrer takes any text for a referrer.
func FuzzReferrer(f *testing.F) {
	for _, s := range []string{
		"https://user:pw@Ref.example:8443/a%20b?c=d#e", "//[::1]:80/", "http://", "\xff", "HTTPS://x/",
		"https://example.com/", "https://www.google.co.uk/a", "android-app://com.slack/",
	} {
		f.Add(s)
	}
	sources := newSources(sourceList)
	f.Fuzz(func(t *testing.T, s string) {
		// as the dialects do
		l := dialect.ParseLink(dialect.Truncate(strings.ToValidUTF8(s, "\uFFFD"), dialect.MaxURL))
		page, from := sources.referral(&l, "example.com")
		if (page == "") != (from.name == "") || len(page) > dialect.MaxURL || !utf8.ValidString(page) ||
			strings.ContainsAny(page, "?#") {
			t.Errorf("%q: referrer %q source %+v", s, page, from)
		}
	})
}
