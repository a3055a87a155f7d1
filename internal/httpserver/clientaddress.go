package httpserver

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies says which peers may name the address of a client, and in which header. The zero value believes
// no header.
type Proxies struct {
	Trusted []netip.Prefix // networks of proxies
	Unix    bool           // the peer of a unix socket is a trusted proxy too
	Header  string         // in canonical form, the only one that is believed; "": X-Forwarded-For
}

// localPeer is RemoteAddr of a request on a unix socket, whose peer has no address: it is on this machine.
const localPeer = "127.0.0.1:1"

// SetClientAddress sets RemoteAddr of a request to the client's address. That is the address of the peer,
// unless the peer is a trusted proxy whose header names another one; then the port in RemoteAddr is 0. So
// every handler reads one field, and no other header counts anywhere.
//
// X-Forwarded-For and Forwarded (RFC 7239) are lists: the last address that isn't a trusted proxy's counts,
// since a client can write anything in front of it. Any other header has to hold one address. The peer's
// address counts where the header is missing, holds several values, or can't be read.
func (p Proxies) SetClientAddress(r *http.Request) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	trusted := p.Unix
	if err == nil {
		trusted = p.trusts(plainAddress(peer.Addr()))
	}
	var named netip.Addr
	if trusted {
		named = p.namedAddress(r.Header)
	}
	switch {
	case named.IsValid():
		r.RemoteAddr = netip.AddrPortFrom(named, 0).String()
	case err != nil:
		r.RemoteAddr = localPeer
	}
}

// namedAddress returns the address that the believed header names, or the zero Addr.
func (p Proxies) namedAddress(h http.Header) netip.Addr {
	const list = "X-Forwarded-For"
	header := cmp.Or(p.Header, list)
	lines := h[header]
	switch {
	case header == list:
		return p.lastUntrusted(lines, func(s string) string { return s })
	case header == "Forwarded":
		return p.lastUntrusted(lines, forwardedFor)
	case len(lines) == 1:
		return parseAddress(lines[0])
	}
	return netip.Addr{}
}

// lastUntrusted returns the last address of a list that isn't a trusted proxy's, else the first one. An
// element that has no address ends the list. node extracts the address from an element.
func (p Proxies) lastUntrusted(lines []string, node func(string) string) (addr netip.Addr) {
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var element string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, element = rest[:comma], rest[comma+1:]
			} else {
				element, more = rest, false
			}
			a := parseAddress(node(element))
			if !a.IsValid() {
				return addr
			}
			if addr = a; !p.trusts(a) {
				return addr
			}
		}
	}
	return addr
}

func (p Proxies) trusts(addr netip.Addr) bool {
	for _, network := range p.Trusted {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// forwardedFor returns the parameter for of an element of Forwarded.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		key, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(key, "for") {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// parseAddress parses an address with or without a port. It returns the zero Addr for any other text.
func parseAddress(s string) netip.Addr {
	s = strings.TrimSpace(s)
	inner, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	if !bracketed {
		inner = s
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = ap.Addr()
	}
	return plainAddress(addr)
}

// plainAddress removes the zone, and the IPv6 form of an IPv4 address: a client has one address.
func plainAddress(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
