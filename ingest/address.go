package ingest

import (
	"net/http"
	"net/netip"
)

// senderAddress returns the address of a visitor, which the server has put into RemoteAddr. named reports
// whether a proxy named it: then the port is 0.
func senderAddress(r *http.Request) (addr netip.Addr, named bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), ap.Port() == 0
}
