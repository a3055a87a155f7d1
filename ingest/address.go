package ingest

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr is the visitor's address: that of the socket, unless the peer is a trusted proxy and names another. A list (of
// X-Forwarded-For, Forwarded) is read from its end up to the first address that isn't a trusted proxy's, because a client can
// write anything in front. The other headers are taken as they are, so a trusted proxy must set or remove them.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := peerAddr(r)
	if !contains(trusted, peer) {
		return peer
	}
	for _, name := range [...]string{"X-Plausible-Ip", "Cf-Connecting-Ip", "B-Forwarded-For"} {
		first, _, _ := strings.Cut(r.Header.Get(name), ",")
		if addr := parseAddr(first); addr.IsValid() {
			return addr
		}
	}
	if addr := lastUntrusted(r.Header["X-Forwarded-For"], trusted, func(s string) string { return s }); addr.IsValid() {
		return addr
	}
	if addr := lastUntrusted(r.Header["Forwarded"], trusted, forwardedFor); addr.IsValid() {
		return addr
	}
	return peer
}

// peerAddr is the address of the socket.
func peerAddr(r *http.Request) netip.Addr {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil { // what it is behind a real server: parseAddr would make an error first
		return ap.Addr().Unmap().WithZone("")
	}
	return parseAddr(r.RemoteAddr)
}

func lastUntrusted(lines []string, trusted []netip.Prefix, take func(string) string) (addr netip.Addr) {
	parts := strings.Split(strings.Join(lines, ","), ",")
	for i := len(parts) - 1; i >= 0; i-- {
		a := parseAddr(take(parts[i]))
		if !a.IsValid() {
			return addr
		}
		if addr = a; !contains(trusted, a) {
			return addr
		}
	}
	return addr
}

// forwardedFor finds for= in an element of Forwarded (RFC 7239).
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		key, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(key, "for") {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// parseAddr takes an address with or without a port; what isn't one becomes the zero Addr.
func parseAddr(s string) netip.Addr {
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

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
