package ingest

import (
	"strings"
	"unicode/utf8"
)

// link is a URL taken apart by the expression of RFC 3986, appendix B. It never fails: pages have URLs that net/url refuses
// (a lone %, a space), and they are still pages.
type link struct {
	scheme, host, path, query, fragment string
	hasFragment                         bool
}

func parseLink(s string) (l link) {
	s, l.fragment, l.hasFragment = strings.Cut(s, "#")
	s, l.query, _ = strings.Cut(s, "?")
	if i := strings.IndexAny(s, ":/"); i > 0 && s[i] == ':' {
		l.scheme, s = strings.ToLower(s[:i]), s[i+1:]
	}
	if rest, ok := strings.CutPrefix(s, "//"); ok {
		host := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			host, s = rest[:i], rest[i:]
		} else {
			s = ""
		}
		l.host = strings.ToLower(hostOnly(host))
	}
	l.path = s
	return l
}

// hostOnly takes user, port and the brackets of an IPv6 address off an authority.
func hostOnly(s string) string {
	s = s[strings.LastIndexByte(s, '@')+1:]
	if rest, ok := strings.CutPrefix(s, "["); ok {
		s, _, _ = strings.Cut(rest, "]")
		return s
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.Trim(s[i+1:], "0123456789") == "" {
		s = s[:i]
	}
	return s
}

// pathname is the page's name: the decoded path, with the fragment where the page navigates by it, and never a query: that may hold anything.
func (l *link) pathname(fragment bool) string {
	p := strings.TrimRight(decode(l.path, false), " \t\r\n")
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	if fragment && l.hasFragment {
		route, _, _ := strings.Cut(l.fragment, "?") // a fragment that is a route has a query of its own
		p += "#" + decode(route, false)
	}
	return cut(p, maxURL)
}

// bare takes "www." off a host.
func bare(host string) string { return strings.TrimPrefix(strings.TrimSpace(host), "www.") }

// decode resolves percent escapes; what isn't a valid one stays as it is. The result is valid UTF-8.
func decode(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+' && plus:
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s):
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				b.WriteByte('%')
				continue
			}
			b.WriteByte(high<<4 | low)
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// cut shortens s to at most n bytes, at a character's start.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
