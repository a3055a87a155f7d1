package access

import (
	"net/netip"

	"github.com/gin-gonic/gin"
)

// network is what counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one customer of
// a provider has. The zero Prefix is that of an address that can't be read.
func network(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 32
	}
	p, _ := a.WithZone("").Prefix(bits) // fails only on other numbers of bits
	return p
}

// addressOf is the client's network, by X-Forwarded-For behind a trusted proxy.
func addressOf(c *gin.Context) netip.Prefix { return network(c.ClientIP()) }
