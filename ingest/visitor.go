package ingest

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// visitor is the sender of a beacon of a site.
type visitor struct {
	key   []byte // see appendVisitorKey
	clock *siteClock
}

// sipKey is a key of SipHash-2-4.
type sipKey [2]uint64

func newSipKey(b [16]byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// appendVisitorKey appends what tells the visitors of a site apart: site, address and user agent.
func appendVisitorKey(b []byte, site string, addr netip.Addr, userAgent string) []byte {
	return append(appendAddress(append(append(b, site...), 0), addr), userAgent...)
}

// appendAddress appends the part of an address that identifies a sender. Of an IPv6 address that is the
// /64: a household or a phone keeps it while the rest changes by the hour, and one machine may use all
// addresses in it.
func appendAddress(b []byte, addr netip.Addr) []byte {
	switch {
	case addr.Is4():
		a := addr.As4()
		return append(append(b, 4), a[:]...)
	case addr.Is6():
		a := addr.As16()
		return append(append(b, 6), a[:8]...)
	default:
		return append(b, 0)
	}
}

// identity derives partitions from visitor keys, with a key of the cluster. That key leads from an address to
// a partition, and from nothing that is stored to an address.
type identity struct {
	partitionKey sipKey
	partitions   uint64
}

func newIdentity(key [16]byte, partitions int) *identity {
	return &identity{newSipKey(key), uint64(partitions)}
}

// partition returns the partition of a visitor. It stays the same, while the visitor's id changes every
// day.
func (i *identity) partition(visitorKey []byte) int {
	return int(siphash.Hash(i.partitionKey[0], i.partitionKey[1], visitorKey) % i.partitions)
}

// clientID hashes a client's id of an event for a site, so that a beacon for two sites is two events. The
// hash is stored only as eventID makes it.
func clientID(buffer []byte, site, id string) (out [16]byte) {
	return hash128(clientIDKey, append(append(append(buffer, site...), 0), id...))
}

// eventID hashes a client's id together with the visitor's id of the day. So a client can't collide with
// another one's events, and what is stored leads to no address once the day's salt is gone, whatever else is
// known.
func eventID(visitor uint64, client [16]byte) [16]byte {
	return hash128(sipKey{visitor, eventIDKey}, client[:])
}

// The keys of hashes whose input or key is secret: they only tell the two uses apart.
var clientIDKey = sipKey{0x6e6f7763617374, 1}

const eventIDKey = 2

func hash128(key sipKey, b []byte) (out [16]byte) {
	x, y := siphash.Hash128(key[0], key[1], b)
	binary.LittleEndian.PutUint64(out[:8], x)
	binary.LittleEndian.PutUint64(out[8:], y)
	return out
}

// visitorID returns a visitor's id on the day of a salt, never 0.
func visitorID(salt sipKey, visitorKey []byte) uint64 {
	return max(1, siphash.Hash(salt[0], salt[1], visitorKey))
}
