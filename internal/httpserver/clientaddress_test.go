package httpserver

import (
	"net/http"
	"net/netip"
	"testing"
)

func networks(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// remoteAddr returns RemoteAddr as p sets it.
func remoteAddr(p Proxies, peer string, header http.Header) (got string) {
	r := &http.Request{RemoteAddr: peer, Header: header}
	p.SetClientAddress(r)
	return r.RemoteAddr
}

func TestProxies(t *testing.T) {
	const proxy, stranger = "10.1.2.3:4711", "8.8.8.8:4711"
	for _, c := range []struct{ believed, peer, header, value, want string }{
		{"", proxy, "X-Forwarded-For", "1.1.1.3", "1.1.1.3:0"},
		{"", proxy, "X-Forwarded-For", "6.6.6.6, 1.1.1.3:4711, 10.1.2.4", "1.1.1.3:0"},
		{"", proxy, "X-Forwarded-For", "10.9.9.9,10.1.2.4", "10.9.9.9:0"},
		{"", proxy, "X-Forwarded-For", "6.6.6.6, rubbish, 10.1.2.4", "10.1.2.4:0"},
		{"", proxy, "X-Forwarded-For", "6.6.6.6, , 10.1.2.4", "10.1.2.4:0"},
		{"", proxy, "X-Forwarded-For", "rubbish", proxy},
		{"", proxy, "X-Forwarded-For", "6.6.6.6, rubbish", proxy},
		{"", proxy, "X-Forwarded-For", "", proxy},
		{"", proxy, "X-Forwarded-For", "::ffff:1.1.1.3", "1.1.1.3:0"},
		{"", proxy, "X-Forwarded-For", "[2001:db8::1]:443", "[2001:db8::1]:0"},
		{"", proxy, "X-Forwarded-For", "fe80::1%eth0", "[fe80::1]:0"},
		{"", proxy, "X-Forwarded-For", "127.0.0.1", "127.0.0.1:0"},
		{"", proxy, "X-Plausible-Ip", "1.1.1.1", proxy},
		{"", proxy, "Cf-Connecting-Ip", "1.1.1.1", proxy},
		{"", proxy, "B-Forwarded-For", "1.1.1.1", proxy},
		{"", proxy, "X-Real-Ip", "1.1.1.1", proxy},
		{"", proxy, "Forwarded", "for=1.1.1.1", proxy},
		{"", stranger, "X-Forwarded-For", "1.1.1.3", stranger},
		{"", "[::ffff:10.1.2.3]:4711", "X-Forwarded-For", "1.1.1.3", "1.1.1.3:0"},
		{"", "", "X-Forwarded-For", "1.1.1.3", localPeer},
		{"", "@", "X-Forwarded-For", "1.1.1.3", localPeer},
		{"unix", "@", "X-Forwarded-For", "6.6.6.6, 1.1.1.3, 10.1.2.3", "1.1.1.3:0"},
		{"unix", "", "X-Forwarded-For", "rubbish", localPeer},
		{"unix", stranger, "X-Forwarded-For", "1.1.1.3", stranger},
		{"X-Real-IP", proxy, "X-Real-Ip", "1.1.1.1", "1.1.1.1:0"},
		{"X-Real-Ip", proxy, "X-Real-Ip", " 2001:db8::1 ", "[2001:db8::1]:0"},
		{"True-Client-IP", proxy, "True-Client-Ip", "1.1.1.1:80", "1.1.1.1:0"},
		{"Fly-Client-IP", proxy, "Fly-Client-Ip", "1.1.1.1", "1.1.1.1:0"},
		{"CF-Connecting-IP", proxy, "Cf-Connecting-Ip", "1.1.1.1", "1.1.1.1:0"},
		{"CF-Connecting-IP", stranger, "Cf-Connecting-Ip", "1.1.1.1", stranger},
		{"CF-Connecting-IP", proxy, "X-Forwarded-For", "1.1.1.1", proxy},
		{"X-Real-IP", proxy, "X-Real-Ip", "1.1.1.1, 2.2.2.2", proxy},
		{"X-Real-IP", proxy, "X-Real-Ip", "1.1.1.1 2.2.2.2", proxy},
		{"X-Real-IP", proxy, "X-Real-Ip", "unknown", proxy},
		{"X-Real-IP", proxy, "X-Real-Ip", "[1.1.1.1", proxy},
		{"X-Real-IP", proxy, "X-Real-Ip", "[[::1]]", proxy},
		{"X-Forwarded-For", proxy, "X-Forwarded-For", "6.6.6.6, 1.1.1.3", "1.1.1.3:0"},
		{"Forwarded", proxy, "Forwarded", `for=6.6.6.6, For="[2001:db8::1]:47";proto=https, for=10.0.0.1`,
			"[2001:db8::1]:0"},
		{"Forwarded", proxy, "Forwarded", "for=_hidden", proxy},
		{"Forwarded", proxy, "X-Forwarded-For", "1.1.1.1", proxy},
	} {
		p := Proxies{Trusted: networks("10.0.0.0/8"), Unix: c.believed == "unix"}
		if !p.Unix {
			p.Header = http.CanonicalHeaderKey(c.believed)
		}
		if got := remoteAddr(p, c.peer, http.Header{c.header: {c.value}}); got != c.want {
			t.Errorf("%q believed, %s says %s: %q: got %s, want %s", c.believed, c.peer, c.header, c.value,
				got, c.want)
		}
		distrustful := Proxies{Header: p.Header}
		if got := remoteAddr(distrustful, c.peer, http.Header{c.header: {c.value}}); got != c.peer &&
			got != localPeer {
			t.Errorf("%s says %s: %q: believed without being trusted: %s", c.peer, c.header, c.value, got)
		}
	}
	// Lines that a client added stand before those of the proxy; a second line of a single header is forged.
	twice := http.Header{"X-Forwarded-For": {"6.6.6.6", "7.7.7.7, 1.1.1.3"},
		"X-Real-Ip": {"6.6.6.6", "1.1.1.3"}}
	p := Proxies{Trusted: networks("10.0.0.0/8")}
	if got := remoteAddr(p, proxy, twice); got != "1.1.1.3:0" {
		t.Errorf("two lines of X-Forwarded-For: %s", got)
	}
	p.Header = "X-Real-Ip"
	if got := remoteAddr(p, proxy, twice); got != proxy {
		t.Errorf("two lines of X-Real-IP: %s", got)
	}
}

// FuzzForwarded takes an address from a trusted proxy alone, in its canonical form.
func FuzzForwarded(f *testing.F) {
	f.Add("10.1.2.3:4711", "X-Forwarded-For", "6.6.6.6, 1.1.1.3:4711, 10.1.2.3")
	f.Add("10.1.2.3:4711", "Forwarded", `for=6.6.6.6, For="[2001:db8::1]:4711";proto=https, for=10.0.0.1`)
	f.Add("[fe80::1%eth0]:1", "X-Real-Ip", "::ffff:1.1.1.1")
	f.Add("8.8.8.8:1", "Cf-Connecting-Ip", "fe80::1%x")
	f.Add("", "X-Forwarded-For", ",")
	f.Fuzz(func(t *testing.T, peer, name, value string) {
		header := http.Header{http.CanonicalHeaderKey(name): {value}}
		p := Proxies{Trusted: networks("10.0.0.0/8", "fe80::/10"), Header: name}
		got, err := netip.ParseAddrPort(remoteAddr(p, peer, header))
		from, peerErr := netip.ParseAddrPort(peer)
		if err != nil {
			t.Fatalf("%q %q %q: %v", peer, name, value, err)
		}
		named := got.Port() == 0 && from.Port() != 0
		if a := got.Addr(); named && (a.Is4In6() || a.Zone() != "") {
			t.Errorf("%q %q %q: one visitor would have two addresses: %s", peer, name, value, a)
		}
		if named && !p.trusts(plainAddress(from.Addr())) {
			t.Errorf("%q %q %q: believed %s without being trusted", peer, name, value, got)
		}
		if unchanged := remoteAddr(Proxies{Header: name}, peer, header); peerErr == nil && unchanged != peer {
			t.Errorf("%q %q %q: believed without being trusted", peer, name, value)
		}
	})
}
