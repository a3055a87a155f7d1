package event

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

// Decoder reads one envelope after another without an allocation an event. The zero value is ready for
// Reset. A Decoder is for one goroutine.
type Decoder struct {
	rest    []byte
	err     error
	tallies []Tally
}

// Reset starts on a record and returns its header. It fails with ErrVersion when the record's schema is
// newer (the header then has its version), and with ErrCorrupt when the record is no envelope. The record
// must not change while its events are in use.
func (d *Decoder) Reset(record []byte) (Header, error) {
	d.rest, d.err, d.tallies = nil, nil, d.tallies[:0]
	var h Header
	for b := record; len(b) > 0; {
		num, typ, v, n := field(b)
		if n < 0 {
			return h, fmt.Errorf("read header: %w", ErrCorrupt)
		}
		b = b[n:]
		switch {
		case num == fieldVersion && typ == protowire.VarintType:
			h.Version = uint32(v.num)
		case num == fieldNode && typ == protowire.Fixed64Type:
			h.Node = v.num
		case num == fieldSequence && typ == protowire.VarintType:
			h.Sequence = v.num
		case num == fieldLow && typ == protowire.VarintType:
			h.Low = int64(v.num)
		case num == fieldCloseMarker && typ == protowire.VarintType:
			h.CloseMarker = v.num != 0
		}
	}
	switch {
	case h.Version > Version:
		return h, fmt.Errorf("read header of version %d, this program knows up to %d: %w",
			h.Version,
			Version,
			ErrVersion,
		)
	case h.Version == 0 || h.Node == 0 || h.Sequence == 0:
		return h, fmt.Errorf("read header: no version, node or sequence: %w", ErrCorrupt)
	}
	d.rest = record
	return h, nil
}

// Next overwrites e with the next event. It returns false after the last event and at the first that can't
// be read; Err tells which.
func (d *Decoder) Next(e *Event) bool {
	for d.err == nil && len(d.rest) > 0 {
		num, typ, v, n := field(d.rest)
		if n < 0 {
			d.err = fmt.Errorf("read envelope: %w", ErrCorrupt)
			return false
		}
		d.rest = d.rest[n:]
		if typ != protowire.BytesType || num != fieldEvent && num != fieldTally {
			continue
		}
		if num == fieldTally {
			d.err = d.tally(v.bytes)
			continue
		}
		if d.err = d.event(e, v.bytes); d.err != nil {
			return false
		}
		return true
	}
	return false
}

// Err returns why Next stopped: nil at the end of the envelope.
func (d *Decoder) Err() error { return d.err }

// Tallies returns the envelope's tallies once Next has returned false. They are valid until the next Reset.
func (d *Decoder) Tallies() []Tally { return d.tallies }

func (d *Decoder) tally(b []byte) error {
	var t Tally
	for len(b) > 0 {
		num, typ, v, n := field(b)
		if n < 0 {
			return fmt.Errorf("read tally: %w", ErrCorrupt)
		}
		b = b[n:]
		switch {
		case num == fieldTallySite && typ == protowire.BytesType:
			t.Site = wire.AliasString(v.bytes)
		case num == fieldTallyMinute && typ == protowire.VarintType:
			t.Minute = int64(v.num)
		case num == fieldTallyReason && typ == protowire.BytesType:
			t.Reason = wire.AliasString(v.bytes)
		case num == fieldTallyCount && typ == protowire.VarintType:
			t.Count = v.num
		}
	}
	d.tallies = append(d.tallies, t)
	return nil
}

func (d *Decoder) event(e *Event, b []byte) error {
	*e = Event{}
	propsAt, propsEnd := -1, -1 // bounds in b of the contiguous properties so far
	for at := 0; at < len(b); {
		// Nearly every field is a short string whose tag takes one or two bytes. A call of field would cost
		// more than reading it here.
		tag, length := uint(b[at]), at+1
		if tag >= oneByte && length < len(b) {
			tag = tag&(oneByte-1) | uint(b[length])<<7
			length++
		}
		isString := tag < fieldID<<3 && tag >= minTag || tag >= fieldCity<<3 && tag < (fieldScreen+1)<<3
		if tag&7 == uint(protowire.BytesType) && isString && length < len(b) && b[length] < oneByte {
			if end := length + 1 + int(b[length]); end <= len(b) {
				e.setString(protowire.Number(tag>>3), b[length+1:end])
				at = end
				continue
			}
		}
		num, typ, v, n := field(b[at:])
		if n < 0 {
			return fmt.Errorf("read event: %w", ErrCorrupt)
		}
		from := at
		at += n
		switch typ {
		case protowire.VarintType, protowire.Fixed64Type:
			e.setNumber(num, typ, v.num)
		case protowire.BytesType:
			switch num {
			case fieldID:
				if e.HasID = len(v.bytes) > 0; e.HasID && len(v.bytes) != len(e.ID) {
					return fmt.Errorf("read event: id of %d bytes: %w", len(v.bytes), ErrCorrupt)
				}
				copy(e.ID[:], v.bytes)
			case fieldPreviousID:
				if e.HasPreviousID = len(v.bytes) > 0; e.HasPreviousID && len(v.bytes) != len(e.PreviousID) {
					return fmt.Errorf("read event: previous id of %d bytes: %w", len(v.bytes), ErrCorrupt)
				}
				copy(e.PreviousID[:], v.bytes)
			case fieldProps:
				switch {
				case propsAt < 0:
					propsAt = from
					e.Props = b[from:at:at]
				case propsEnd == from:
					e.Props = b[propsAt:at:at]
				default:
					// Another encoder has put other fields between the properties: join copies of them.
					e.Props = append(e.Props[:len(e.Props):len(e.Props)], b[from:at]...)
					propsEnd = -1
					continue
				}
				propsEnd = at
			default:
				e.setString(num, v.bytes)
			}
		}
	}
	return nil
}

func (e *Event) setNumber(num protowire.Number, typ protowire.Type, v uint64) {
	if typ == protowire.Fixed64Type {
		switch num {
		case fieldVisitor:
			e.Visitor = v
		case fieldPreviousVisitor:
			e.PreviousVisitor = v
		case fieldUser:
			e.User = v
		}
		return
	}
	switch num {
	case fieldTime:
		e.Time = int64(v)
	case fieldKind:
		// A kind that doesn't fit a byte is a future one and must not wrap to a known one.
		e.Kind = Kind(min(v, 255))
	case fieldRevenueMicros:
		e.RevenueMicros = int64(v)
	case fieldScrollDepth:
		e.ScrollDepth = uint32(v)
	case fieldEngagedMS:
		e.EngagedMS = uint32(v)
	case fieldInteractive:
		e.Interactive = v != 0
	case fieldDay:
		e.Day = uint32(v)
	case fieldUTCOffset:
		e.UTCOffset = int32(protowire.DecodeZigZag(v & math.MaxUint32))
	}
}

func (e *Event) setString(num protowire.Number, v []byte) {
	s := wire.AliasString(v)
	switch num {
	case fieldName:
		e.Name = s
	case fieldSite:
		e.Site = s
	case fieldHostname:
		e.Hostname = s
	case fieldPath:
		e.Path = s
	case fieldSource:
		e.Source = s
	case fieldCountry:
		e.Country = s
	case fieldRegion:
		e.Region = s
	case fieldDevice:
		e.Device = s
	case fieldBrowser:
		e.Browser = s
	case fieldBrowserVersion:
		e.BrowserVersion = s
	case fieldOS:
		e.OS = s
	case fieldOSVersion:
		e.OSVersion = s
	case fieldLanguage:
		e.Language = s
	case fieldReferrer:
		e.Referrer = s
	case fieldUTMSource:
		e.UTMSource = s
	case fieldUTMMedium:
		e.UTMMedium = s
	case fieldUTMCampaign:
		e.UTMCampaign = s
	case fieldUTMContent:
		e.UTMContent = s
	case fieldUTMTerm:
		e.UTMTerm = s
	case fieldCurrency:
		e.Currency = s
	case fieldCity:
		e.City = s
	case fieldChannel:
		e.Channel = s
	case fieldScreen:
		e.Screen = s
	}
}

// EachProp calls f with each property, in their order, until f returns false. Keys and values alias props.
// It fails with ErrCorrupt.
func EachProp(props []byte, f func(key, value string) bool) error {
	for len(props) > 0 {
		num, typ, v, n := field(props)
		if n < 0 {
			return fmt.Errorf("read properties: %w", ErrCorrupt)
		}
		props = props[n:]
		if num != fieldProps || typ != protowire.BytesType {
			continue
		}
		var key, value string
		for b := v.bytes; len(b) > 0; {
			num, typ, v, n := field(b)
			if n < 0 {
				return fmt.Errorf("read property: %w", ErrCorrupt)
			}
			b = b[n:]
			if typ != protowire.BytesType {
				continue
			}
			switch num {
			case fieldPropKey:
				key = wire.AliasString(v.bytes)
			case fieldPropValue:
				value = wire.AliasString(v.bytes)
			}
		}
		if !f(key, value) {
			return nil
		}
	}
	return nil
}

// value is a field's content.
type value struct {
	num   uint64 // of a varint or fixed64 field
	bytes []byte // of a bytes, string or message field
}

const (
	oneByte = 0x80   // a lower byte is a whole varint
	minTag  = 1 << 3 // a lower tag has the field number 0, which no field has
)

// field reads the field at the start of b; n is its size, or negative when there is none. It skips values
// of wire types that the schema doesn't use. A short string with a small field number, which nearly every
// field is, takes a shortcut.
func field(b []byte) (num protowire.Number, typ protowire.Type, v value, n int) {
	if len(b) > 2 && b[0] < oneByte && b[0] >= minTag && protowire.Type(b[0]&7) == protowire.BytesType &&
		b[1] < oneByte {
		if n = 2 + int(b[1]); n <= len(b) {
			v.bytes = b[2:n]
			return protowire.Number(b[0] >> 3), protowire.BytesType, v, n
		}
	}
	num, typ, n = protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, v, n
	}
	var m int
	switch typ {
	case protowire.VarintType:
		v.num, m = protowire.ConsumeVarint(b[n:])
	case protowire.Fixed64Type:
		v.num, m = protowire.ConsumeFixed64(b[n:])
	case protowire.BytesType:
		v.bytes, m = protowire.ConsumeBytes(b[n:])
	default:
		m = protowire.ConsumeFieldValue(num, typ, b[n:])
	}
	if m < 0 {
		return 0, 0, v, m
	}
	return num, typ, v, n + m
}
