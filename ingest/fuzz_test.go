package ingest

import (
	"net/http"
	"testing"
)

// FuzzForwarded takes an address from a trusted proxy alone, in its canonical form.
func FuzzForwarded(f *testing.F) {
	f.Add("10.1.2.3:4711", "X-Forwarded-For", "6.6.6.6, 1.1.1.3:4711, 10.1.2.3")
	f.Add("10.1.2.3:4711", "Forwarded", `for=6.6.6.6, For="[2001:db8::1]:4711";proto=https, for=10.0.0.1`)
	f.Add("[fe80::1%eth0]:1", "X-Plausible-Ip", "::ffff:1.1.1.1")
	f.Add("8.8.8.8:1", "Cf-Connecting-Ip", "fe80::1%x")
	f.Add("", "B-Forwarded-For", ",")
	trusted := prefixes("10.0.0.0/8", "fe80::/10")
	f.Fuzz(func(t *testing.T, remote, name, value string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{http.CanonicalHeaderKey(name): {value}}}
		peer, got := parseAddress(remote), clientAddress(r, trusted)
		if got.Is4In6() || got.Zone() != "" {
			t.Errorf("%q %q %q: one visitor would have two addresses: %s", remote, name, value, got)
		}
		if got != peer && (!containsAddress(trusted, peer) || !got.IsValid()) {
			t.Errorf("%q %q %q: took %s for %s", remote, name, value, got, peer)
		}
		if clientAddress(r, nil) != peer {
			t.Errorf("%q %q %q: believed without being trusted", remote, name, value)
		}
	})
}

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("br, gzip;q=0.8")
	f.Add(" \xff,;")
	f.Fuzz(func(_ *testing.T, header string) { _ = acceptsGzip(header) })
}
