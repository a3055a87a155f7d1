package ingest

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress returns the address of a visitor: that of the peer, unless the peer is a trusted proxy
// that names another one. Of a list (X-Forwarded-For, Forwarded) it takes the last address that isn't a
// trusted proxy's, since a client can write anything in front of it. A trusted proxy has to set or remove
// the other headers: their value counts as it is.
func clientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := peerAddress(r)
	if !containsAddress(trusted, peer) {
		return peer
	}
	for _, name := range [...]string{"X-Plausible-Ip", "Cf-Connecting-Ip", "B-Forwarded-For"} {
		first, _, _ := strings.Cut(r.Header.Get(name), ",")
		if addr := parseAddress(first); addr.IsValid() {
			return addr
		}
	}
	identical := func(s string) string { return s }
	if addr := lastUntrusted(r.Header["X-Forwarded-For"], trusted, identical); addr.IsValid() {
		return addr
	}
	if addr := lastUntrusted(r.Header["Forwarded"], trusted, forwardedFor); addr.IsValid() {
		return addr
	}
	return peer
}

// peerAddress returns the address at the other end of the connection.
func peerAddress(r *http.Request) netip.Addr {
	// Servers set address and port. parseAddress would try the address alone first, and allocate an
	// error.
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	return parseAddress(r.RemoteAddr)
}

// lastUntrusted returns the last address of a list that isn't a trusted proxy's, else the first one. An
// element that has no address ends the list. node extracts the address from an element.
func lastUntrusted(lines []string, trusted []netip.Prefix, node func(string) string) (addr netip.Addr) {
	elements := strings.Split(strings.Join(lines, ","), ",")
	for i := len(elements) - 1; i >= 0; i-- {
		a := parseAddress(node(elements[i]))
		if !a.IsValid() {
			return addr
		}
		if addr = a; !containsAddress(trusted, a) {
			return addr
		}
	}
	return addr
}

// forwardedFor returns the parameter for of an element of Forwarded (RFC 7239).
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		key, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(key, "for") {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// parseAddress parses an address with or without a port. It returns the zero Addr for any other text. The
// result has no zone, and isn't an IPv4 address in IPv6 form: a visitor has one address.
func parseAddress(s string) netip.Addr {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone("")
}

func containsAddress(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
