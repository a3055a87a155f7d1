package dialect

import (
	"strings"
	"unicode/utf8"
)

// Link is a URL split into its parts by the regular expression of RFC 3986, appendix B. Scheme and Host
// are in lower case; Host has neither user, port nor the brackets of an IPv6 address. The other parts
// keep their percent escapes.
type Link struct {
	Scheme, Host, Path, Query, Fragment string

	hasFragment bool
}

// ParseLink splits a URL. It accepts any string: pages have URLs that net/url refuses (a lone %, a
// space).
func ParseLink(s string) (l Link) {
	s, l.Fragment, l.hasFragment = strings.Cut(s, "#")
	s, l.Query, _ = strings.Cut(s, "?")
	if i := strings.IndexAny(s, ":/"); i > 0 && s[i] == ':' {
		l.Scheme, s = strings.ToLower(s[:i]), s[i+1:]
	}
	if rest, ok := strings.CutPrefix(s, "//"); ok {
		authority := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			authority, s = rest[:i], rest[i:]
		} else {
			s = ""
		}
		l.Host = strings.ToLower(hostOf(authority))
	}
	l.Path = s
	return l
}

// hostOf returns the host of an authority (user@host:port).
func hostOf(authority string) string {
	s := authority[strings.LastIndexByte(authority, '@')+1:]
	if rest, ok := strings.CutPrefix(s, "["); ok {
		s, _, _ = strings.Cut(rest, "]")
		return s
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.Trim(s[i+1:], "0123456789") == "" {
		s = s[:i]
	}
	return s
}

// Pathname returns the name of a page, at most MaxURL bytes: its decoded path, followed by the fragment
// if hashRouting is set. The query is no part of it, also that of a fragment: a query may hold personal
// data.
func (l *Link) Pathname(hashRouting bool) string {
	p := strings.TrimRight(PercentDecode(l.Path, false), " \t\r\n")
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	if hashRouting && l.hasFragment {
		route, _, _ := strings.Cut(l.Fragment, "?")
		p += "#" + PercentDecode(route, false)
	}
	return Truncate(p, MaxURL)
}

// TrimWWW removes white space and a leading "www." from a host.
func TrimWWW(host string) string { return strings.TrimPrefix(strings.TrimSpace(host), "www.") }

// PercentDecode resolves percent escapes and, if plusIsSpace is set, replaces + by a space. It keeps
// invalid escapes as they are and replaces bytes that aren't UTF-8 by U+FFFD.
func PercentDecode(s string, plusIsSpace bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plusIsSpace || strings.IndexByte(s, '+') < 0) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+' && plusIsSpace:
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

// Truncate shortens s to at most n bytes. It doesn't split a character.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// truncateChars shortens s to at most n characters.
func truncateChars(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// LanguageTag returns the first tag of an Accept-Language header (RFC 9110, 12.5.4) without its weight.
// It returns "" if the tag has over 20 bytes or anything but letters, digits and hyphens.
func LanguageTag(header string) string {
	tag, _, _ := strings.Cut(header, ",")
	tag, _, _ = strings.Cut(tag, ";")
	tag = strings.TrimSpace(tag)
	if len(tag) > 20 {
		return ""
	}
	for i := range len(tag) {
		if c := tag[i]; c != '-' && c-'0' > 9 && (c|0x20)-'a' > 25 {
			return ""
		}
	}
	return tag
}
