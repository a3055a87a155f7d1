package site

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPattern(t *testing.T) {
	for _, row := range []struct {
		pattern, exact string // "-": not exact
		yes, no        string // texts, separated by |
	}{
		{"/pricing", "/pricing", "/pricing", "/pricing/|/Pricing|/pricin|x/pricing|"},
		{"/blog/*", "-", "/blog/|/blog/a", "/blog|/blog/a/b|/news/blog/a"},
		{"/blog/**", "-", "/blog/|/blog/a|/blog/a/b", "/blog|/blogs/a"},
		{"**/thanks", "-", "/thanks|/a/b/thanks", "/thanks/|thank"},
		{"/*/x/**/y", "-", "/a/x//y|/a/x/b/c/y", "/a/b/x/c/y|/a/x/y"},
		{"***", "-", "|a/b", ""},
		{"*", "-", "|a", "a/b|/"},
		{`/a\*b`, "/a*b", "/a*b", "/axb|/ab|/a\\*b"},
		{`/a\\b`, `/a\b`, `/a\b`, `/a\\b|/ab`},
		{`/a\\*`, "-", `/a\|/a\b`, `/a|/a\/`},
		{`/a\b`, `/a\b`, `/a\b`, `/ab`},
		{`/a\`, `/a\`, `/a\`, `/a`},
		{`\**`, "-", "*|*a", "a|**/"},
		{"", "", "", "a"},
		{"Größe *", "-", "Größe |Größe XL", "Grösse XL"},
	} {
		p := Pattern(row.pattern)
		if got, ok := p.Exact(); ok != (row.exact != "-") || ok && got != row.exact {
			t.Errorf("Exact of %q: %q %t", row.pattern, got, ok)
		}
		for _, s := range strings.Split(row.yes, "|") {
			if !p.Match(s) {
				t.Errorf("%q doesn't match %q", row.pattern, s)
			}
		}
		for _, s := range strings.Split(row.no, "|") {
			if p.Match(s) && (s != "" || row.no != "") {
				t.Errorf("%q matches %q", row.pattern, s)
			}
		}
	}
}

// wildcards returns the regular expression of a pattern, in the words of the Stats API.
func wildcards(p Pattern) *regexp.Regexp {
	var b strings.Builder
	for rest := string(p); rest != ""; {
		n := 1
		switch {
		case strings.HasPrefix(rest, `\*`), strings.HasPrefix(rest, `\\`):
			n = 2
			b.WriteString(rest[:2])
		case strings.HasPrefix(rest, "**"):
			n = 2
			b.WriteString(".*")
		case rest[0] == '*':
			b.WriteString("[^/]*")
		default:
			_, n = utf8.DecodeRuneInString(rest)
			b.WriteString(regexp.QuoteMeta(rest[:n]))
		}
		rest = rest[n:]
	}
	return regexp.MustCompile("(?s)^" + b.String() + "$")
}

// A pattern matches what its regular expression does, and its exact text only.
func FuzzPattern(f *testing.F) {
	for _, row := range [][2]string{
		{"/a/*/b", "/a/x/b"}, {"/**/b*", "/a/x/bc"}, {`/\**\\`, `/*a\`}, {"***/*", "a/b"},
		{"**a*b**", "xaab/"}, {`\`, `\`}, {"*\n*", "a\n/"}, {"/a", "/a"},
	} {
		f.Add(row[0], row[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 100 {
			t.Skip()
		}
		p := Pattern(pattern)
		got := p.Match(text)
		if want := wildcards(p).MatchString(text); got != want {
			t.Errorf("%q of %q: %t, the regular expression says %t", pattern, text, got, want)
		}
		if exact, ok := p.Exact(); ok && (got != (exact == text) || !p.Match(exact)) {
			t.Errorf("%q is %q exactly, of %q: %t", pattern, exact, text, got)
		}
		if p := ExactPattern(text); !p.Match(text) || p.Match(text+"a") {
			t.Errorf("the exact pattern of %q is %q", text, p)
		}
	})
}
