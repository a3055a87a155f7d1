package ingest

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"nowcast/internal/event"
)

// checkBeacon holds what was understood to the limits that the log and its readers count on.
func checkBeacon(t *testing.T, b *beacon) {
	t.Helper()
	for _, c := range []struct {
		name, s string
		limit   int // bytes; 0: only to be text
	}{
		{"name", b.name, 4 * maxName}, {"hostname", b.hostname, maxURL}, {"path", b.page.pathname(b.fragment), maxURL}, {"referrer", b.referrer.host + b.referrer.path, maxURL},
		{"id", b.id, maxID}, {"currency", b.currency, 3}, {"query", b.page.query, maxURL},
	} {
		if !utf8.ValidString(c.s) || len(c.s) > c.limit {
			t.Errorf("%s of %d bytes, at most %d of text: %q", c.name, len(c.s), c.limit, c.s)
		}
	}
	if b.kind < event.Pageview || b.kind > event.Engagement || strings.TrimSpace(b.name) == "" || b.hostname == "" || b.scrollDepth > 100 || len(b.currency)%3 != 0 {
		t.Errorf("%+v", b)
	}
	if len(b.domains) == 0 || len(b.domains) > maxDomains {
		t.Errorf("%d domains", len(b.domains))
	}
	n := 0
	err := event.EachProp(b.props, func(k, v string) bool {
		n++
		if !utf8.ValidString(k) || !utf8.ValidString(v) || strings.TrimSpace(k) == "" || strings.TrimSpace(v) == "" || len(k) > maxPropKey || len(v) > maxPropValue {
			t.Errorf("property %q: %q", k, v)
		}
		return true
	})
	if err != nil || n > maxProps {
		t.Errorf("%d properties: %v", n, err)
	}
}

// plausibleSeeds are bodies of each shape.
func plausibleSeeds() []string {
	return []string{
		`{"n":"pageview","v":36,"u":"https://example.com/home?utm_source=news","d":"example.com","r":"https://ref.example/","p":{"plan":"pro"}}`,
		`{"n":"pageview","u":"https://example.com/","d":"example.com","r":null,"w":1280,"h":1,"p":"{\"tier\":\"gold\"}"}`,
		`{"name":"Signup","url":"https://example.com/a","domain":"a,b","revenue":{"amount":9.99,"currency":"usd"},"id":"1"}`,
		`{"n":"engagement","sd":100,"e":613,"u":"https://example.com/#a","i":false}`, `{"n":404,"u":"/%zz%ff\u0000\ud800"}`, `{}`, ``,
	}
}

func umamiSeeds() []string {
	return []string{
		`{"type":"event","payload":{"website":"example.com","screen":"1x1","language":"de-CH","title":"t","hostname":"example.com","url":"/a?b#c","referrer":"https://x.com/"}}`,
		`{"type":"event","payload":{"website":"example.com","name":"buy","tag":"x","data":{"a":{"b":[1,{}],"c":null},"revenue":"1e3","currency":"EUR"},"eid":"1"}}`,
		`{"type":"identify","payload":{"website":"example.com","id":"x","data":{}}}`, `{"type":"event"}`, `{"type":"event","payload":{"website":1}}`, ``,
	}
}

func FuzzPlausible(f *testing.F) {
	for _, s := range plausibleSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, errs := parseBeacon(s)
		if (b == nil) == (errs == nil) {
			t.Fatalf("neither a beacon nor problems, or both: %v %v", b, errs)
		}
		if b != nil {
			checkBeacon(t, b)
		}
	})
}

func FuzzUmami(f *testing.F) {
	for _, s := range umamiSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, problem := parseUmami(s)
		if problem != "" {
			return
		}
		if checkBeacon(t, &u.beacon); utf8.RuneCountInString(u.name) > maxUmamiName || language(u.language) != u.language {
			t.Errorf("%+v", u)
		}
	})
}

func FuzzPixel(f *testing.F) {
	f.Add("site=example.com&url=https%3A%2F%2Fexample.com%2Fa&referrer=https://x.com/", "")
	f.Add("site=a,b&url=%", "https://example.com/\xff")
	f.Add("url=a;b&site=%zz&+=+", "x")
	f.Fuzz(func(t *testing.T, query, referer string) {
		b, errs := parsePixel(query, referer)
		if (b == nil) == (errs == nil) {
			t.Fatalf("neither a beacon nor problems, or both: %v %v", b, errs)
		}
		if b != nil {
			checkBeacon(t, b)
		}
	})
}

// FuzzForwarded: nobody but a trusted proxy names an address, and what one names is an address or none.
func FuzzForwarded(f *testing.F) {
	f.Add("10.1.2.3:4711", "X-Forwarded-For", "6.6.6.6, 1.1.1.3:4711, 10.1.2.3")
	f.Add("10.1.2.3:4711", "Forwarded", `for=6.6.6.6, For="[2001:db8::1]:4711";proto=https, for=10.0.0.1`)
	f.Add("[fe80::1%eth0]:1", "X-Plausible-Ip", "::ffff:1.1.1.1")
	f.Add("8.8.8.8:1", "Cf-Connecting-Ip", "fe80::1%x")
	f.Add("", "B-Forwarded-For", ",")
	trusted := prefixes("10.0.0.0/8", "fe80::/10")
	f.Fuzz(func(t *testing.T, remote, name, value string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{http.CanonicalHeaderKey(name): {value}}}
		peer, got := parseAddr(remote), clientAddr(r, trusted)
		if got.Is4In6() || got.Zone() != "" {
			t.Errorf("%q %q %q: one visitor would have two addresses: %s", remote, name, value, got)
		}
		if got != peer && (!contains(trusted, peer) || !got.IsValid()) {
			t.Errorf("%q %q %q: took %s for %s", remote, name, value, got, peer)
		}
		if clientAddr(r, nil) != peer {
			t.Errorf("%q %q %q: believed without being trusted", remote, name, value)
		}
	})
}

func FuzzAgent(f *testing.F) {
	for _, s := range []string{chrome, "", "curl/8", "Googlebot/2.1", "Mozilla/5.0 (Linux; Android 9; CUBOT P30) Chrome/126.0.0.0 Mobile", "a/1 (b; c) d/\xff", "bot", "Mozilla/5.0 (", "((((;;;;))))"} {
		f.Add(s)
	}
	bots, err := newCrawlers(slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	agents := newAgents(bots)
	f.Fuzz(func(t *testing.T, s string) {
		s = cut(strings.ToValidUTF8(s, "\uFFFD"), maxAgent) // as sender does
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

// FuzzLink takes any text for a page's address and for a referrer's.
func FuzzLink(f *testing.F) {
	for _, s := range []string{"https://user:pw@Example.com:8443/a%20b?c=d#e", "//[::1]:80/", "mailto:a@b", "/%zz%", "a:b:c", "?#", "http://", "\xff", "HTTPS://x?utm_source=%ff+"} {
		f.Add(s)
	}
	sources := newSources(sourceList)
	f.Fuzz(func(t *testing.T, s string) {
		s = cut(strings.ToValidUTF8(s, "\uFFFD"), maxURL) // as the dialects do
		l := parseLink(s)
		for _, fragment := range []bool{false, true} {
			if p := l.pathname(fragment); !strings.HasPrefix(p, "/") || len(p) > maxURL || !utf8.ValidString(p) {
				t.Errorf("%q: path %q", s, p)
			}
		}
		if l.scheme != strings.ToLower(l.scheme) || l.host != strings.ToLower(l.host) {
			t.Errorf("%q: %+v", s, l)
		}
		page, from := sources.referral(&l, "example.com")
		if (page == "") != (from.name == "") || len(page) > maxURL || !utf8.ValidString(page) || strings.ContainsAny(page, "?#") {
			t.Errorf("%q: referrer %q source %+v", s, page, from)
		}
		if again := cut(s, 10); len(again) > 10 || !utf8.ValidString(again) || !strings.HasPrefix(s, again) {
			t.Errorf("cut of %q: %q", s, again)
		}
	})
}

// FuzzLanguage and its kin: what a header says about a visitor's language.
func FuzzLanguage(f *testing.F) {
	f.Add("de-CH,de;q=0.9")
	f.Add(" \xff,")
	f.Fuzz(func(t *testing.T, s string) {
		if l := language(s); len(l) > 20 || !utf8.ValidString(l) || language(l) != l {
			t.Errorf("%q: %q", s, l)
		}
		_ = acceptsGzip(s)
	})
}
