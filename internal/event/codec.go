package event

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of event.proto.
const (
	envEvent, envVersion, envNode, envSequence, envLow, envFarewell = 1, 2, 3, 4, 5, 6

	evTime, evVisitor, evPrevious, evID, evKind = 1, 2, 3, 4, 5

	evFirstString, evLastString = 6, 24 // name … language, in the order of strings

	evProp, evRevenue, evCurrency, evScroll, evEngaged, evPassive = 25, 26, 27, 28, 29, 30

	propKey, propValue = 1, 2
)

// strings are the fields evFirstString to evLastString.
func (e *Event) strings() [evLastString - evFirstString + 1]*string {
	return [...]*string{&e.Name, &e.Site, &e.Hostname, &e.Path, &e.Referrer, &e.Source, &e.UTMSource, &e.UTMMedium, &e.UTMCampaign,
		&e.UTMContent, &e.UTMTerm, &e.Country, &e.Region, &e.Device, &e.Browser, &e.BrowserVersion, &e.OS, &e.OSVersion, &e.Language}
}

// AppendHeader begins an envelope. Its events follow, each by AppendEvent.
func AppendHeader(b []byte, h Header) []byte {
	b = appendVarint(b, envVersion, uint64(h.Version))
	b = protowire.AppendTag(b, envNode, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, h.Node)
	b = appendVarint(b, envSequence, h.Sequence)
	b = appendVarint(b, envLow, uint64(h.Low))
	if h.Farewell {
		b = appendVarint(b, envFarewell, 1)
	}
	return b
}

// AppendEvent adds one event to an envelope. Strings must be valid UTF-8, as protobuf demands.
func AppendEvent(b []byte, e *Event) []byte {
	b = protowire.AppendTag(b, envEvent, protowire.BytesType)
	// The length comes first and is not known yet: leave room for two bytes, which hold 16 KB, and move the rest if it needs more.
	start := len(b)
	b = append(b, 0, 0)
	b = appendBody(b, e)
	n := len(b) - start - 2
	if n < 1<<14 {
		b[start], b[start+1] = byte(n)|0x80, byte(n>>7)
		return b
	}
	size := protowire.SizeVarint(uint64(n))
	for range size - 2 {
		b = append(b, 0)
	}
	copy(b[start+size:], b[start+2:start+2+n])
	protowire.AppendVarint(b[:start], uint64(n))
	return b
}

func appendBody(b []byte, e *Event) []byte {
	b = appendVarint(b, evTime, uint64(e.Time))
	b = protowire.AppendTag(b, evVisitor, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, e.Visitor)
	if e.PreviousVisitor != 0 {
		b = protowire.AppendTag(b, evPrevious, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, e.PreviousVisitor)
	}
	if e.HasID {
		b = protowire.AppendTag(b, evID, protowire.BytesType)
		b = protowire.AppendBytes(b, e.ID[:])
	}
	b = appendVarint(b, evKind, uint64(e.Kind))
	for i, s := range e.strings() {
		b = appendString(b, protowire.Number(evFirstString+i), *s)
	}
	b = append(b, e.Props...)
	b = appendVarint(b, evRevenue, uint64(e.RevenueMicros))
	b = appendString(b, evCurrency, e.Currency)
	b = appendVarint(b, evScroll, uint64(e.ScrollDepth))
	b = appendVarint(b, evEngaged, uint64(e.EngagedMS))
	if !e.Interactive {
		b = appendVarint(b, evPassive, 1)
	}
	return b
}

// AppendProp adds a property to the encoded ones of an event.
func AppendProp(b []byte, key, value string) []byte {
	n := protowire.SizeTag(propKey) + protowire.SizeBytes(len(key)) + protowire.SizeTag(propValue) + protowire.SizeBytes(len(value))
	b = protowire.AppendTag(b, evProp, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	b = protowire.AppendTag(b, propKey, protowire.BytesType)
	b = protowire.AppendString(b, key)
	b = protowire.AppendTag(b, propValue, protowire.BytesType)
	return protowire.AppendString(b, value)
}

// EachProp calls f with each property until f returns false. The strings alias props. It returns ErrCorrupt when they can't be read.
func EachProp(props []byte, f func(key, value string) bool) error {
	for len(props) > 0 {
		num, typ, n := protowire.ConsumeTag(props)
		if n < 0 || num != evProp || typ != protowire.BytesType {
			return ErrCorrupt
		}
		body, m := protowire.ConsumeBytes(props[n:])
		if m < 0 {
			return ErrCorrupt
		}
		props = props[n+m:]
		var key, value string
		for len(body) > 0 {
			num, typ, n := protowire.ConsumeTag(body)
			if n < 0 {
				return ErrCorrupt
			}
			m := protowire.ConsumeFieldValue(num, typ, body[n:])
			if m < 0 {
				return ErrCorrupt
			}
			if typ == protowire.BytesType && (num == propKey || num == propValue) {
				v, _ := protowire.ConsumeBytes(body[n:])
				if num == propKey {
					key = alias(v)
				} else {
					value = alias(v)
				}
			}
			body = body[n+m:]
		}
		if !f(key, value) {
			return nil
		}
	}
	return nil
}

// Decoder reads an envelope's events one by one. The zero value is ready for Reset.
type Decoder struct {
	rest []byte
	err  error
}

// Reset begins with a record and returns its header. It walks the whole envelope once, so a record that it accepts has no broken
// field at the top level. It fails with ErrVersion or ErrCorrupt.
func (d *Decoder) Reset(record []byte) (Header, error) {
	d.rest, d.err = nil, nil
	var h Header
	for b := record; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return h, fmt.Errorf("%w: tag at byte %d", ErrCorrupt, len(record)-len(b))
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return h, fmt.Errorf("%w: field %d at byte %d", ErrCorrupt, num, len(record)-len(b))
		}
		switch {
		case typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			switch num {
			case envVersion:
				h.Version = uint32(v)
			case envSequence:
				h.Sequence = v
			case envLow:
				h.Low = int64(v)
			case envFarewell:
				h.Farewell = v != 0
			}
		case num == envNode && typ == protowire.Fixed64Type:
			h.Node, _ = protowire.ConsumeFixed64(b)
		case num <= envFarewell && (num != envEvent || typ != protowire.BytesType):
			return h, fmt.Errorf("%w: field %d has wire type %d", ErrCorrupt, num, typ)
		}
		b = b[n:]
	}
	switch {
	case h.Version > Version:
		return h, fmt.Errorf("%w: %d, this program knows %d", ErrVersion, h.Version, Version)
	case h.Version == 0:
		return h, fmt.Errorf("%w: no version", ErrCorrupt)
	}
	d.rest = record
	return h, nil
}

// Next overwrites *e with the next event. It returns false at the end, and when an event can't be read: see Err.
func (d *Decoder) Next(e *Event) bool {
	for len(d.rest) > 0 && d.err == nil {
		num, typ, n := protowire.ConsumeTag(d.rest) // Reset has checked all lengths
		m := protowire.ConsumeFieldValue(num, typ, d.rest[n:])
		if num != envEvent {
			d.rest = d.rest[n+m:]
			continue
		}
		body, _ := protowire.ConsumeBytes(d.rest[n:])
		d.rest = d.rest[n+m:]
		d.err = e.decode(body)
		return d.err == nil
	}
	return false
}

// Err is ErrCorrupt when Next stopped at an event that can't be read, else nil.
func (d *Decoder) Err() error { return d.err }

func (e *Event) decode(b []byte) error {
	*e = Event{Interactive: true}
	text := e.strings()
	props := 0 // where the run of properties began; our encoder writes them together
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: tag in an event", ErrCorrupt)
		}
		whole := b
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w: number in an event", ErrCorrupt)
			}
			b = b[n:]
			switch num {
			case evTime:
				e.Time = int64(v)
			case evKind:
				e.Kind = Kind(min(v, 255))
			case evRevenue:
				e.RevenueMicros = int64(v)
			case evScroll:
				e.ScrollDepth = uint32(v)
			case evEngaged:
				e.EngagedMS = uint32(v)
			case evPassive:
				e.Interactive = v == 0
			}
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%w: text in an event", ErrCorrupt)
			}
			b = b[n:]
			switch {
			case num >= evFirstString && num <= evLastString:
				*text[num-evFirstString] = alias(v)
			case num == evCurrency:
				e.Currency = alias(v)
			case num == evID && len(v) == len(e.ID):
				e.ID, e.HasID = [16]byte(v), true
			case num == evProp:
				one := whole[:len(whole)-len(b)]
				if props > 0 && props == len(whole) { // right behind the one before: one slice holds both
					e.Props = unsafe.Slice(unsafe.SliceData(e.Props), len(e.Props)+len(one))
				} else if e.Props == nil {
					e.Props = one
				} else {
					e.Props = append(e.Props[:len(e.Props):len(e.Props)], one...)
				}
				props = len(b)
			}
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return fmt.Errorf("%w: field %d in an event", ErrCorrupt, num)
			}
			if typ == protowire.Fixed64Type {
				v, _ := protowire.ConsumeFixed64(b)
				switch num {
				case evVisitor:
					e.Visitor = v
				case evPrevious:
					e.PreviousVisitor = v
				}
			}
			b = b[n:]
		}
	}
	return nil
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
