package verify

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"nowcast/internal/event"
)

// digest hashes values so that no two lists of them run into each other.
type digest struct{ xxhash.Digest }

func (d *digest) text(s string) {
	d.number(uint64(len(s)))
	_, _ = d.WriteString(s) // never fails
}

func (d *digest) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = d.Write(b[:])
}

func (d *digest) flag(b bool) {
	if b {
		d.number(1)
	} else {
		d.number(0)
	}
}

// contentOf is all that the table `events` says of an event; of the id, only one that the client gave.
func contentOf(e *event.Event, late, fresh bool) uint64 {
	var d digest
	d.Reset()
	for _, s := range []string{e.Site, e.Kind.String(), e.Name, e.Hostname, e.Path, e.Referrer, e.Source, e.UTMSource, e.UTMMedium, e.UTMCampaign,
		e.UTMContent, e.UTMTerm, e.Country, e.Region, e.Device, e.Browser, e.BrowserVersion, e.OS, e.OSVersion, e.Language, e.Currency,
		e.Channel, e.City, e.Screen} {
		d.text(s)
	}
	for _, n := range []uint64{uint64(e.Time), e.Visitor, uint64(e.RevenueMicros), uint64(min(e.ScrollDepth, 255)), uint64(e.EngagedMS)} {
		d.number(n)
	}
	for _, b := range []bool{e.Interactive, late, fresh} {
		d.flag(b)
	}
	if len(e.Props) > 0 {
		props := map[string]string{}
		// What can't be read of them isn't stored.
		_ = event.EachProp(e.Props, func(k, v string) bool { props[k] = v; return true })
		for _, k := range slices.Sorted(maps.Keys(props)) {
			d.text(k)
			d.text(props[k])
		}
	}
	return d.Sum64()
}

// keyOf is the same for two events that are one row to a reader of the table.
func keyOf(e *event.Event, h event.Header, i int) uint64 {
	var d digest
	d.Reset()
	d.text(e.Site)
	d.number(e.Visitor)
	d.number(uint64(e.Time))
	if e.HasID {
		d.text(string(e.ID[:]))
	} else {
		d.number(h.Node)
		d.number(h.Sequence)
		d.number(uint64(i))
	}
	return d.Sum64()
}
