package verify

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"nowcast/internal/event"
)

// digest hashes a list of values. Different lists have different encodings.
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

// contentOf hashes the columns of an event in the table `events`, without the id.
func contentOf(e *event.Event, late, fresh bool) uint64 {
	var d digest
	d.Reset()
	for _, s := range []string{e.Site, e.Kind.String(), e.Name, e.Hostname, e.Path, e.Referrer, e.Source,
		e.UTMSource, e.UTMMedium, e.UTMCampaign,
		e.UTMContent, e.UTMTerm, e.Country, e.Region, e.Device, e.Browser, e.BrowserVersion, e.OS,
		e.OSVersion, e.Language, e.Currency,
		e.Channel, e.City, e.Screen} {
		d.text(s)
	}
	for _, n := range []uint64{uint64(e.Time), e.Visitor, uint64(e.RevenueMicros),
		uint64(min(e.ScrollDepth, 255)), uint64(e.EngagedMS), uint64(e.Day), uint64(e.UTCOffset), e.User} {
		d.number(n)
	}
	for _, b := range []bool{e.Interactive, late, fresh} {
		d.flag(b)
	}
	if len(e.Props) > 0 {
		props := map[string]string{}
		// Corrupt properties aren't stored.
		_ = event.EachProp(e.Props, func(k, v string) bool { props[k] = v; return true })
		for _, k := range slices.Sorted(maps.Keys(props)) {
			d.text(k)
			d.text(props[k])
		}
	}
	return d.Sum64()
}

// keyOf hashes the key of an event's row: FINAL keeps one row of those with one key.
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
