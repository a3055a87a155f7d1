// Package window is the wire schema of the topic nowcast.windows.v1: what the aggregator says of each
// second of each site, as window.proto describes.
// Bytes that a released version has written decode for ever. No input makes a decoder panic or reserve memory
// out of proportion. A record that can't be read gives ErrVersion (a newer program wrote it) or ErrCorrupt.
package window

import "errors"

// Version is the newest schema version that this package reads, and the one that it writes.
const Version = 1

// Epoch is the version of the fold's rules, 12 bits. It rises when the same log would give other rows.
const Epoch = 1

// MaxCounts bounds the values in a list of a Now row.
const MaxCounts = 100

// Reasons why a record can't be read.
var (
	ErrVersion = errors.New("emission has a newer schema version")
	ErrCorrupt = errors.New("emission is corrupt")
)

const (
	offsetBits = 51
	finalBit   = 1 << offsetBits
	epochShift = offsetBits + 1
)

// RowVersion orders the rows of one key and partition: by epoch, then final after provisional, then by
// offset.
func RowVersion(epoch uint32, final bool, offset int64) uint64 {
	v := uint64(epoch)<<epochShift | uint64(offset)&(finalBit-1)
	if final {
		v |= finalBit
	}
	return v
}

// SplitVersion is the inverse of RowVersion.
func SplitVersion(v uint64) (epoch uint32, final bool, offset int64) {
	return uint32(v >> epochShift), v&finalBit != 0, int64(v & (finalBit - 1))
}

// Emission is one record. In a decoded one the strings alias the record, and are valid only as long as its
// bytes are.
type Emission struct {
	Version   uint32
	Partition uint32
	Epoch     uint32
	Offset    int64 // of the last envelope applied
	Watermark int64 // ms UTC: every second that ends at or before it is final
	Now       int64 // ms UTC: log time, the highest record timestamp read
	Seconds   []Second
	Nows      []Now
}

// Second counts one second of one site, for the visitors of one partition. Partitions add up.
type Second struct {
	Site      string
	At        int64 // unix seconds
	Pageviews uint32
	Visitors  uint32 // distinct within the second
	Events    uint32 // page views and custom events
	Active    uint32 // distinct in the 300 s up to and with this second
	Final     bool
	Revision  uint32 // events so far, plus 1 when final
	Version   uint64 // see RowVersion
}

// Now counts the active visitors of a site by page, source, country and device, for one partition.
type Now struct {
	Site                                               string
	At                                                 int64 // unix seconds
	Version                                            uint64
	Pages, Sources, Countries, Devices                 []Count // at most MaxCounts, by Active, then Name
	RestPages, RestSources, RestCountries, RestDevices uint32  // sum of what each list leaves out
}

// Count is a value and its number of active visitors.
type Count struct {
	Name   string
	Active uint32
}
