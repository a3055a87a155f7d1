package dialect

import (
	"strings"
	"testing"
	"unicode/utf8"

	"nowcast/ingest/dialect/dialecttest"
	"nowcast/internal/event"
)

// checkBeacon checks a beacon against the limits that the log and its readers rely on.
func checkBeacon(t *testing.T, b *Beacon) {
	t.Helper()
	for _, c := range []struct {
		name, s string
		limit   int // bytes
	}{
		{"name", b.Name, 4 * maxName},
		{"hostname", b.Hostname, MaxURL},
		{"path", b.Page.Pathname(b.HashRouting), MaxURL},
		{"referrer", b.Referrer.Host + b.Referrer.Path, MaxURL},
		{"id", b.ID, maxID},
		{"currency", b.Currency, 3},
		{"query", b.Page.Query, MaxURL},
	} {
		if !utf8.ValidString(c.s) || len(c.s) > c.limit {
			t.Errorf("%s has %d bytes, at most %d of text: %q", c.name, len(c.s), c.limit, c.s)
		}
	}
	known := b.Kind >= event.Pageview && b.Kind <= event.Engagement
	if !known || strings.TrimSpace(b.Name) == "" || b.Hostname == "" || b.ScrollDepth > 100 ||
		len(b.Currency)%3 != 0 {
		t.Errorf("%+v", b)
	}
	if len(b.Domains) == 0 || len(b.Domains) > maxDomains {
		t.Errorf("%d domains", len(b.Domains))
	}
	n := 0
	err := event.EachProp(b.Props, func(k, v string) bool {
		n++
		blank := strings.TrimSpace(k) == "" || strings.TrimSpace(v) == ""
		text := utf8.ValidString(k) && utf8.ValidString(v)
		if blank || !text || len(k) > maxPropKey || len(v) > maxPropValue {
			t.Errorf("property %q: %q", k, v)
		}
		return true
	})
	if err != nil || n > maxProps {
		t.Errorf("%d properties: %v", n, err)
	}
}

// checkResult checks that a parser returned either a beacon within its limits or errors.
func checkResult(t *testing.T, b *Beacon, errs FieldErrors) {
	t.Helper()
	if (b == nil) == (errs == nil) {
		t.Fatalf("neither a beacon nor errors, or both: %v %v", b, errs)
	}
	if b != nil {
		checkBeacon(t, b)
	}
}

func FuzzPlausible(f *testing.F) {
	for _, s := range dialecttest.Plausible() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, errs := ParsePlausible(s)
		checkResult(t, b, errs)
	})
}

func FuzzUmami(f *testing.F) {
	for _, s := range dialecttest.Umami() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, _, problem := ParseUmami(s)
		if (b == nil) == (problem == "") {
			t.Fatalf("neither a beacon nor a problem, or both: %v %q", b, problem)
		}
		if b == nil {
			return
		}
		checkBeacon(t, b)
		if utf8.RuneCountInString(b.Name) > maxUmamiName || LanguageTag(b.Language) != b.Language {
			t.Errorf("%+v", b)
		}
	})
}

func FuzzUmamiBatch(f *testing.F) {
	for _, s := range dialecttest.Umami() {
		f.Add("[" + s + "," + s + "]")
	}
	f.Fuzz(func(t *testing.T, s string) {
		beacons, ok := UmamiBatch(s)
		if len(beacons) > MaxBatch {
			t.Errorf("%d beacons", len(beacons))
		}
		for _, b := range beacons {
			if ok && !eachMember(b, nil) {
				t.Errorf("%q isn't an object", b)
			}
		}
	})
}

func FuzzPixel(f *testing.F) {
	f.Add("site=example.com&url=https%3A%2F%2Fexample.com%2Fa&referrer=https://x.com/", "")
	f.Add("site=a,b&url=%", "https://example.com/\xff")
	f.Add("url=a;b&site=%zz&+=+", "x")
	f.Fuzz(func(t *testing.T, query, referer string) {
		b, errs := ParsePixel(query, referer)
		checkResult(t, b, errs)
	})
}

// FuzzLink parses any text as a URL.
func FuzzLink(f *testing.F) {
	for _, s := range []string{
		"https://user:pw@Example.com:8443/a%20b?c=d#e", "//[::1]:80/", "mailto:a@b", "/%zz%", "a:b:c", "?#",
		"http://", "\xff", "HTTPS://x?utm_source=%ff+",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = Truncate(strings.ToValidUTF8(s, "\uFFFD"), MaxURL) // as the dialects do
		l := ParseLink(s)
		for _, hashRouting := range []bool{false, true} {
			p := l.Pathname(hashRouting)
			if !strings.HasPrefix(p, "/") || len(p) > MaxURL || !utf8.ValidString(p) {
				t.Errorf("%q: path %q", s, p)
			}
		}
		if l.Scheme != strings.ToLower(l.Scheme) || l.Host != strings.ToLower(l.Host) {
			t.Errorf("%q: %+v", s, l)
		}
		short := Truncate(s, 10)
		if len(short) > 10 || !utf8.ValidString(short) || !strings.HasPrefix(s, short) {
			t.Errorf("%q truncated to %q", s, short)
		}
	})
}

func FuzzLanguage(f *testing.F) {
	f.Add("de-CH,de;q=0.9")
	f.Add(" \xff,")
	f.Fuzz(func(t *testing.T, s string) {
		if l := LanguageTag(s); len(l) > 20 || !utf8.ValidString(l) || LanguageTag(l) != l {
			t.Errorf("%q: %q", s, l)
		}
	})
}
