package site

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxName = 100 // bytes of the name of a key or link

// cleanName returns the name of a key or link without spaces around it. It fails with ErrInvalid for one that
// is empty or too long, or has characters that show nothing or move others when a terminal or a page shows
// the name.
func cleanName(of, name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || len(name) > maxName:
		return "", fmt.Errorf("%w: a %s needs a name of at most %d bytes", ErrInvalid, of, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, isHidden):
		return "", fmt.Errorf("%w: the name of a %s has a control or format character, as in %+q; "+
			"leave it out", ErrInvalid, of, shorten(name))
	}
	return name, nil
}

// isHidden reports whether a character is one of control, format, or the separation of lines.
func isHidden(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// Domain normalises a site's domain as a person types it: a host name of at most 253 bytes (letters, digits,
// hyphens, dots; other scripts as punycode), an IP address, or localhost, each with an optional port. A name
// that the dashboard's server or a browser asks for as a file is no domain. It fails with ErrInvalid.
func Domain(s string) (string, error) {
	d := strings.ToLower(strings.TrimSpace(s))
	d = strings.TrimPrefix(strings.TrimPrefix(d, "https://"), "http://")
	d = strings.TrimSuffix(d, "/")
	host, port, hasPort := strings.Cut(d, ":")
	switch {
	case d == "" || len(d) > 253 || !isHost(host) || hasPort && strings.Trim(port, "0123456789") != "":
		return "", fmt.Errorf("%w: %s is no domain; give a host name such as example.com "+
			"(other scripts as punycode, xn--…)", ErrInvalid, quote(s))
	case hasPort && !isPort(port):
		return "", fmt.Errorf("%w: %s has a port that can't be; give 1 to 65535 without leading zeros, "+
			"or no port", ErrInvalid, quote(s))
	case isFileName(host):
		return "", fmt.Errorf("%w: %s is the name of a file, which browsers ask this server for; "+
			"give a host name such as example.com", ErrInvalid, quote(s))
	}
	return d, nil
}

// quote shows what somebody typed, with escapes for what can't be seen.
func quote(s string) string { return strconv.QuoteToGraphic(shorten(s)) }

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0' && s[0] != '+'
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil || s == "localhost" {
		return true
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(labels) > 1
}

// fileEndings are what files of web servers end in, also those that scanners ask every server for. None is a
// top-level domain.
var fileEndings = []string{
	"7z", "action", "asp", "aspx", "avif", "bak", "bmp", "cfg", "cgi", "conf", "css", "csv", "db",
	"dll", "env", "exe", "gif", "git", "gz", "htm", "html", "ico", "ini", "jar", "jpeg", "jpg", "js",
	"json", "jsp", "jspx", "key", "log", "map", "mjs", "old", "orig", "pdf", "pem", "php", "php5",
	"php7", "phtml", "png", "rar", "sql", "sqlite", "svg", "swp", "tar", "tgz", "ttf", "txt", "war",
	"wasm", "webmanifest", "webp", "woff", "woff2", "xhtml", "xml", "yaml", "yml",
}

// isFileName reports whether a host is named like a file, such as favicon.ico or robots.txt.
func isFileName(host string) bool {
	return slices.Contains(fileEndings, host[strings.LastIndexByte(host, '.')+1:])
}

func shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

const maxParameter = 100 // bytes of the name of a parameter

// cleanParameter returns the name of a parameter of a page's address. It fails with ErrInvalid.
func cleanParameter(name string) (string, error) {
	name = strings.TrimSpace(name)
	if !isShown(name, maxParameter) || strings.ContainsAny(name, "&=?#% ") {
		return "", fmt.Errorf("%w: %s is no name of a parameter; give it as q, for /search?q=shoes",
			ErrInvalid, quote(name))
	}
	return name, nil
}
