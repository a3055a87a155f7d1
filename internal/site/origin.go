package site

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxOrigins bounds a site's list.
const maxOrigins = 100

// ReadableFrom reports whether a browser may let a page of an origin read the site. Any page may read a
// public site. Otherwise the site's list decides; without a list, pages of the site's own domain and its
// subdomains may, by http or https and on any port.
func (s Site) ReadableFrom(origin string) bool {
	if s.Public {
		return true
	}
	o, ok := parseOrigin(origin)
	if !ok || strings.HasPrefix(o.host, "*") {
		return false
	}
	if len(s.Origins) == 0 {
		host, _, _ := strings.Cut(s.Domain, ":")
		if _, err := netip.ParseAddr(host); err == nil {
			return o.host == host
		}
		return o.host == host || strings.HasSuffix(o.host, "."+host)
	}
	return slices.ContainsFunc(s.Origins, func(listed string) bool {
		l, ok := parseOrigin(listed)
		if !ok || l.scheme != o.scheme || l.port != o.port {
			return false
		}
		ending, under := strings.CutPrefix(l.host, "*")
		return l.host == o.host || under && strings.HasSuffix(o.host, ending)
	})
}

// origin is a page's origin (RFC 6454); the port is empty when it is the scheme's default.
type origin struct{ scheme, host, port string }

func (o origin) String() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port != "" {
		host += ":" + o.port
	}
	return o.scheme + "://" + host
}

// parseOrigin reads scheme://host or scheme://host:port. A host of "*.example.com" stands for its subdomains.
func parseOrigin(s string) (origin, bool) {
	u, err := url.Parse(s)
	if err != nil || len(s) > 300 || u.Scheme != "http" && u.Scheme != "https" {
		return origin{}, false
	}
	if u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return origin{}, false
	}
	o := origin{u.Scheme, strings.ToLower(u.Hostname()), u.Port()}
	if strings.HasSuffix(u.Host, ":") || o.port != "" && !isPort(o.port) {
		return origin{}, false
	}
	if o.port == map[string]string{"http": "80", "https": "443"}[o.scheme] {
		o.port = ""
	}
	_, ok := cleanHostname(o.host)
	return o, ok
}

// cleanOrigins normalises a list and removes duplicates. It fails with ErrInvalid, naming the first that is
// no origin.
func cleanOrigins(list []string) (out []string, err error) {
	if len(list) > maxOrigins {
		return nil, fmt.Errorf("%w: there are %d origins; give at most %d", ErrInvalid, len(list), maxOrigins)
	}
	for _, s := range list {
		o, ok := parseOrigin(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "/"))
		if !ok {
			return nil, fmt.Errorf("%w: %q is no origin; give it as https://app.example.com or "+
				"http://localhost:3000, or https://*.example.com for all that is under it", ErrInvalid,
				shorten(s))
		}
		if clean := o.String(); !slices.Contains(out, clean) {
			out = append(out, clean)
		}
	}
	return out, nil
}
