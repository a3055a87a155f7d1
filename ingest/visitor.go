package ingest

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// previousIDSpan is how long into a UTC day an event also has its visitor's id of the day before, in ms.
const previousIDSpan = 10 * 60 * 1000

const dayMS = 86_400_000

// day is a UTC day, as days since 1970.
type day int64

func dayOf(ms int64) day { return day(ms / dayMS) }

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

// identity derives partitions and event ids from visitor keys, with the secret of the cluster. The secret
// leads from a visitor's key to their partition, and never from an id to an address.
type identity struct {
	partitionKey, eventKey sipKey
	partitions             uint64
}

func newIdentity(secret [32]byte, partitions int) *identity {
	return &identity{newSipKey([16]byte(secret[:16])), newSipKey([16]byte(secret[16:])), uint64(partitions)}
}

// partition returns the partition of a visitor. It stays the same, while the visitor's id changes every
// day.
func (i *identity) partition(visitorKey []byte) int {
	return int(siphash.Hash(i.partitionKey[0], i.partitionKey[1], visitorKey) % i.partitions)
}

// eventID hashes a client's event id together with the visitor and site. So a client can't collide with
// another one's events, and a beacon for two sites is two events. It overwrites the bytes after
// visitorKey.
func (i *identity) eventID(visitorKey []byte, id string) (out [16]byte) {
	a, b := siphash.Hash128(i.eventKey[0], i.eventKey[1], append(append(visitorKey, 0), id...))
	binary.LittleEndian.PutUint64(out[:8], a)
	binary.LittleEndian.PutUint64(out[8:], b)
	return out
}

// visitorID returns a visitor's id on the day of a salt, never 0.
func visitorID(salt sipKey, visitorKey []byte) uint64 {
	return max(1, siphash.Hash(salt[0], salt[1], visitorKey))
}
