package window

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

// Field numbers of window.proto.
const (
	emVersion, emPartition, emEpoch, emOffset, emWatermark, emNow, emSeconds, emNows = 1, 2, 3, 4, 5, 6, 7, 8

	secSite, secAt, secPageviews, secVisitors, secEvents = 1, 2, 3, 4, 5
	secActive, secFinal, secRevision, secVersion         = 6, 7, 8, 9

	nowSite, nowAt, nowVersion, nowLists, nowRests = 1, 2, 3, 4, 8

	countName, countActive = 1, 2
)

func (n *Now) lists() [4]*[]Count {
	return [...]*[]Count{&n.Pages, &n.Sources, &n.Countries, &n.Devices}
}

func (n *Now) rests() [4]*uint32 {
	return [...]*uint32{&n.RestPages, &n.RestSources, &n.RestCountries, &n.RestDevices}
}

// Append appends the encoded emission to b.
func (e *Emission) Append(b []byte) []byte {
	b = wire.AppendVarint(b, emVersion, uint64(e.Version))
	b = wire.AppendVarint(b, emPartition, uint64(e.Partition))
	b = wire.AppendVarint(b, emEpoch, uint64(e.Epoch))
	b = wire.AppendVarint(b, emOffset, uint64(e.Offset))
	b = wire.AppendVarint(b, emWatermark, uint64(e.Watermark))
	b = wire.AppendVarint(b, emNow, uint64(e.Now))
	for i := range e.Seconds {
		b = e.Seconds[i].Append(b)
	}
	for i := range e.Nows {
		b = e.Nows[i].Append(b)
	}
	return b
}

// Append appends the row to an encoded emission. Rows and the fields of the emission may come in any order.
func (s *Second) Append(b []byte) []byte {
	b = wire.AppendMessageHeader(b, emSeconds, s.size())
	return s.append(b)
}

// Append appends the row to an encoded emission. Rows and the fields of the emission may come in any order.
func (n *Now) Append(b []byte) []byte {
	b = wire.AppendMessageHeader(b, emNows, n.size())
	return n.append(b)
}

// Size returns the number of bytes that Append appends.
func (s *Second) Size() int { return wire.SizeMessage(emSeconds, s.size()) }

// Size returns the number of bytes that Append appends.
func (n *Now) Size() int { return wire.SizeMessage(emNows, n.size()) }

func (s *Second) size() int {
	n := wire.SizeString(secSite, s.Site) + wire.SizeVarint(secAt, uint64(s.At)) +
		wire.SizeVarint(
			secPageviews,
			uint64(s.Pageviews),
		) + wire.SizeVarint(secVisitors, uint64(s.Visitors)) +
		wire.SizeVarint(secEvents, uint64(s.Events)) + wire.SizeVarint(secActive, uint64(s.Active)) +
		wire.SizeVarint(secRevision, uint64(s.Revision)) + wire.SizeVarint(secVersion, s.Version)
	if s.Final {
		n += wire.SizeVarint(secFinal, 1)
	}
	return n
}

func (s *Second) append(b []byte) []byte {
	b = wire.AppendString(b, secSite, s.Site)
	b = wire.AppendVarint(b, secAt, uint64(s.At))
	b = wire.AppendVarint(b, secPageviews, uint64(s.Pageviews))
	b = wire.AppendVarint(b, secVisitors, uint64(s.Visitors))
	b = wire.AppendVarint(b, secEvents, uint64(s.Events))
	b = wire.AppendVarint(b, secActive, uint64(s.Active))
	b = wire.AppendBool(b, secFinal, s.Final)
	b = wire.AppendVarint(b, secRevision, uint64(s.Revision))
	return wire.AppendVarint(b, secVersion, s.Version)
}

func (c *Count) size() int {
	return wire.SizeString(countName, c.Name) + wire.SizeVarint(countActive, uint64(c.Active))
}

func (n *Now) size() int {
	size := wire.SizeString(
		nowSite,
		n.Site,
	) + wire.SizeVarint(
		nowAt,
		uint64(n.At),
	) + wire.SizeVarint(
		nowVersion,
		n.Version,
	)
	for k, l := range n.lists() {
		for i := range *l {
			size += wire.SizeMessage(protowire.Number(nowLists+k), (*l)[i].size())
		}
	}
	for k, r := range n.rests() {
		size += wire.SizeVarint(protowire.Number(nowRests+k), uint64(*r))
	}
	return size
}

func (n *Now) append(b []byte) []byte {
	b = wire.AppendString(b, nowSite, n.Site)
	b = wire.AppendVarint(b, nowAt, uint64(n.At))
	b = wire.AppendVarint(b, nowVersion, n.Version)
	for k, l := range n.lists() {
		for i := range *l {
			c := &(*l)[i]
			b = wire.AppendMessageHeader(b, protowire.Number(nowLists+k), c.size())
			b = wire.AppendString(b, countName, c.Name)
			b = wire.AppendVarint(b, countActive, uint64(c.Active))
		}
	}
	for k, r := range n.rests() {
		b = wire.AppendVarint(b, protowire.Number(nowRests+k), uint64(*r))
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

// grow adds a row and reuses the memory of the lists that an earlier row in its place had.
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
			s.Site = wire.AliasString(b)
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
	return requireSite(s.Site, err)
}

// requireSite refuses rows without a site: of these a short record could hold very many.
func requireSite(site string, err error) error {
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
			n.Site = wire.AliasString(b)
		case num == nowAt:
			n.At = int64(v)
		case num == nowVersion:
			n.Version = v
		case num >= nowLists && num < nowLists+4:
			var c Count
			err := fields(b, 1<<countName, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case countName:
					c.Name = wire.AliasString(b)
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
	return requireSite(n.Site, err)
}

// fields calls f with each field of a message: with its varint in v or, for the fields whose bit is set in
// text, with its bytes in b. It skips a field whose wire type differs from the schema's, as it skips an
// unknown one.
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
