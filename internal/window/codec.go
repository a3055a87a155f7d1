package window

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of window.proto.
const (
	emVersion, emPartition, emEpoch, emOffset, emWatermark, emNow, emSeconds, emNows = 1, 2, 3, 4, 5, 6, 7, 8

	secSite, secAt, secPageviews, secVisitors, secEvents, secActive, secFinal, secRevision, secVersion = 1, 2, 3, 4, 5, 6, 7, 8, 9

	nowSite, nowAt, nowVersion, nowLists, nowRests = 1, 2, 3, 4, 8

	countName, countActive = 1, 2
)

func (n *Now) lists() [4]*[]Count {
	return [...]*[]Count{&n.Pages, &n.Sources, &n.Countries, &n.Devices}
}

func (n *Now) rests() [4]*uint32 {
	return [...]*uint32{&n.RestPages, &n.RestSources, &n.RestCountries, &n.RestDevices}
}

// Append encodes e at the end of b.
func (e *Emission) Append(b []byte) []byte {
	b = appendVarint(b, emVersion, uint64(e.Version))
	b = appendVarint(b, emPartition, uint64(e.Partition))
	b = appendVarint(b, emEpoch, uint64(e.Epoch))
	b = appendVarint(b, emOffset, uint64(e.Offset))
	b = appendVarint(b, emWatermark, uint64(e.Watermark))
	b = appendVarint(b, emNow, uint64(e.Now))
	for i := range e.Seconds {
		b = e.Seconds[i].Append(b)
	}
	for i := range e.Nows {
		b = e.Nows[i].Append(b)
	}
	return b
}

// Append encodes the row as a part of an emission, whose other parts may come before or after it.
func (s *Second) Append(b []byte) []byte {
	b = protowire.AppendTag(b, emSeconds, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(s.size()))
	return s.append(b)
}

// Append encodes the row as a part of an emission, whose other parts may come before or after it.
func (n *Now) Append(b []byte) []byte {
	b = protowire.AppendTag(b, emNows, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n.size()))
	return n.append(b)
}

// Size is how many bytes the row takes in an encoded emission.
func (s *Second) Size() int { return 1 + protowire.SizeBytes(s.size()) }

// Size is how many bytes the row takes in an encoded emission.
func (n *Now) Size() int { return 1 + protowire.SizeBytes(n.size()) }

func (s *Second) size() int {
	n := sizeString(s.Site) + sizeVarint(uint64(s.At)) + sizeVarint(uint64(s.Pageviews)) + sizeVarint(uint64(s.Visitors)) +
		sizeVarint(uint64(s.Events)) + sizeVarint(uint64(s.Active)) + sizeVarint(uint64(s.Revision)) + sizeVarint(s.Version)
	if s.Final {
		n += 2
	}
	return n
}

func (s *Second) append(b []byte) []byte {
	b = appendString(b, secSite, s.Site)
	b = appendVarint(b, secAt, uint64(s.At))
	b = appendVarint(b, secPageviews, uint64(s.Pageviews))
	b = appendVarint(b, secVisitors, uint64(s.Visitors))
	b = appendVarint(b, secEvents, uint64(s.Events))
	b = appendVarint(b, secActive, uint64(s.Active))
	if s.Final {
		b = appendVarint(b, secFinal, 1)
	}
	b = appendVarint(b, secRevision, uint64(s.Revision))
	return appendVarint(b, secVersion, s.Version)
}

func (c *Count) size() int { return sizeString(c.Name) + sizeVarint(uint64(c.Active)) }

func (n *Now) size() int {
	size := sizeString(n.Site) + sizeVarint(uint64(n.At)) + sizeVarint(n.Version)
	for _, l := range n.lists() {
		for i := range *l {
			size += 1 + protowire.SizeBytes((*l)[i].size())
		}
	}
	for _, r := range n.rests() {
		size += sizeVarint(uint64(*r))
	}
	return size
}

func (n *Now) append(b []byte) []byte {
	b = appendString(b, nowSite, n.Site)
	b = appendVarint(b, nowAt, uint64(n.At))
	b = appendVarint(b, nowVersion, n.Version)
	for k, l := range n.lists() {
		for i := range *l {
			c := &(*l)[i]
			b = protowire.AppendTag(b, protowire.Number(nowLists+k), protowire.BytesType)
			b = protowire.AppendVarint(b, uint64(c.size()))
			b = appendString(b, countName, c.Name)
			b = appendVarint(b, countActive, uint64(c.Active))
		}
	}
	for k, r := range n.rests() {
		b = appendVarint(b, protowire.Number(nowRests+k), uint64(*r))
	}
	return b
}

// Decode overwrites e with a record, and reuses its slices. It fails with ErrVersion or ErrCorrupt.
func (e *Emission) Decode(record []byte) error {
	*e = Emission{Seconds: e.Seconds[:0], Nows: e.Nows[:0]}
	err := fields(record, 1<<emSeconds|1<<emNows, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case emVersion:
			if e.Version = uint32(v); v > Version {
				return fmt.Errorf("%w: %d, this program knows %d", ErrVersion, v, Version)
			}
		case emPartition:
			e.Partition = uint32(v)
		case emEpoch:
			e.Epoch = uint32(v)
		case emOffset:
			e.Offset = int64(v)
		case emWatermark:
			e.Watermark = int64(v)
		case emNow:
			e.Now = int64(v)
		case emSeconds:
			e.Seconds = append(e.Seconds, Second{})
			return e.Seconds[len(e.Seconds)-1].decode(b)
		case emNows:
			e.Nows = grow(e.Nows)
			return e.Nows[len(e.Nows)-1].decode(b)
		}
		return nil
	})
	if err == nil && e.Version == 0 {
		return fmt.Errorf("%w: no version", ErrCorrupt)
	}
	return err
}

// grow adds a row and keeps the lists that a former one in its place had, emptied.
func grow(rows []Now) []Now {
	if len(rows) == cap(rows) {
		return append(rows, Now{})
	}
	rows = rows[:len(rows)+1]
	n := &rows[len(rows)-1]
	*n = Now{Pages: n.Pages[:0], Sources: n.Sources[:0], Countries: n.Countries[:0], Devices: n.Devices[:0]}
	return rows
}

func (s *Second) decode(b []byte) error {
	err := fields(b, 1<<secSite, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case secSite:
			s.Site = alias(b)
		case secAt:
			s.At = int64(v)
		case secPageviews:
			s.Pageviews = uint32(v)
		case secVisitors:
			s.Visitors = uint32(v)
		case secEvents:
			s.Events = uint32(v)
		case secActive:
			s.Active = uint32(v)
		case secFinal:
			s.Final = v != 0
		case secRevision:
			s.Revision = uint32(v)
		case secVersion:
			s.Version = v
		}
		return nil
	})
	return named(s.Site, err)
}

// named refuses rows without a site, of which a short record could otherwise hold very many.
func named(site string, err error) error {
	if err == nil && site == "" {
		return fmt.Errorf("%w: row without a site", ErrCorrupt)
	}
	return err
}

func (n *Now) decode(b []byte) error {
	lists, rests := n.lists(), n.rests()
	err := fields(b, 1<<nowSite|0xf<<nowLists, func(num protowire.Number, v uint64, b []byte) error {
		switch {
		case num == nowSite:
			n.Site = alias(b)
		case num == nowAt:
			n.At = int64(v)
		case num == nowVersion:
			n.Version = v
		case num >= nowLists && num < nowLists+4:
			var c Count
			err := fields(b, 1<<countName, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case countName:
					c.Name = alias(b)
				case countActive:
					c.Active = uint32(v)
				}
				return nil
			})
			*lists[num-nowLists] = append(*lists[num-nowLists], c)
			return err
		case num >= nowRests && num < nowRests+4:
			*rests[num-nowRests] = uint32(v)
		}
		return nil
	})
	return named(n.Site, err)
}

// fields calls f with each field of a message: the number in v or, for those whose bit is set in text, the bytes in b. A field of
// another wire type than the schema's is skipped like an unknown one.
func fields(m []byte, text uint32, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return fmt.Errorf("%w: broken tag", ErrCorrupt)
		}
		m = m[n:]
		n = protowire.ConsumeFieldValue(num, typ, m)
		if n < 0 {
			return fmt.Errorf("%w: broken field %d", ErrCorrupt, num)
		}
		isText := num < 32 && text>>num&1 == 1
		var err error
		switch {
		case typ == protowire.VarintType && !isText:
			v, _ := protowire.ConsumeVarint(m)
			err = f(num, v, nil)
		case typ == protowire.BytesType && isText:
			b, _ := protowire.ConsumeBytes(m)
			err = f(num, 0, b)
		}
		if err != nil {
			return err
		}
		m = m[n:]
	}
	return nil
}

func sizeVarint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// alias makes a string of b without a copy.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
