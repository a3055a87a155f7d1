package ingest

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// seam is how long into a UTC day an event also carries its visitor's id of the day before, in ms.
const seam = 10 * 60 * 1000

// day is a UTC day as days since 1970.
type day int64

func dayOf(ms int64) day { return day(ms / 86_400_000) }

// sipKey is the key of a SipHash-2-4.
type sipKey [2]uint64

func newSipKey(b [16]byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// appendIdentity appends what tells visitors of a site apart: site, address and user agent.
func appendIdentity(b []byte, site string, addr netip.Addr, agent string) []byte {
	return append(appendAddr(append(append(b, site...), 0), addr), agent...)
}

// appendAddr appends what of an address counts. Of an IPv6 one it is the /64, which is what a household or a phone keeps while the rest
// changes by the hour, and of which one machine may have every address.
func appendAddr(b []byte, addr netip.Addr) []byte {
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

// identity holds the keys that don't change: whoever has the cluster's secret finds the partition of a visitor, no one their
// address.
type identity struct {
	partition, event sipKey
	partitions       uint64
}

func newIdentity(secret [32]byte, partitions int) *identity {
	return &identity{newSipKey([16]byte(secret[:16])), newSipKey([16]byte(secret[16:])), uint64(partitions)}
}

// partitionOf keeps a visitor in one partition for good, although their id changes every day.
func (i *identity) partitionOf(who []byte) int {
	return int(siphash.Hash(i.partition[0], i.partition[1], who) % i.partitions)
}

// eventID hashes a client's event id together with who sent it: the ids of one client say nothing about another's events, and
// one beacon for two sites is two events.
func (i *identity) eventID(who []byte, id string) (out [16]byte) {
	a, b := siphash.Hash128(i.event[0], i.event[1], append(append(who, 0), id...))
	binary.LittleEndian.PutUint64(out[:8], a)
	binary.LittleEndian.PutUint64(out[8:], b)
	return out
}

// visitorID is a visitor's id for the day of the salt, never 0.
func visitorID(salt sipKey, who []byte) uint64 {
	return max(1, siphash.Hash(salt[0], salt[1], who))
}
