package event

import "google.golang.org/protobuf/encoding/protowire"

// AppendHeader begins an envelope. A zero h.Version is written as Version.
func AppendHeader(b []byte, h Header) []byte {
	if h.Version == 0 {
		h.Version = Version
	}
	b = appendUint(b, fieldVersion, uint64(h.Version))
	b = appendFixed(b, fieldNode, h.Node)
	b = appendUint(b, fieldSequence, h.Sequence)
	b = appendUint(b, fieldLow, uint64(h.Low))
	return appendBool(b, fieldCloseMarker, h.CloseMarker)
}

// AppendEvent adds e to the envelope that b holds. Strings must be valid UTF-8.
func AppendEvent(b []byte, e *Event) []byte {
	b = protowire.AppendTag(b, fieldEvent, protowire.BytesType)
	// Nearly every event takes 128 to 16383 bytes, so two bytes for its length is the guess that seldom moves anything.
	const guess = 2
	b = append(b, 0, 0)
	start := len(b)

	b = appendUint(b, fieldTime, uint64(e.Time))
	b = appendFixed(b, fieldVisitor, e.Visitor)
	b = appendUint(b, fieldKind, uint64(e.Kind))
	b = appendString(b, fieldName, e.Name)
	b = appendString(b, fieldSite, e.Site)
	b = appendString(b, fieldHostname, e.Hostname)
	b = appendString(b, fieldPath, e.Path)
	b = appendString(b, fieldSource, e.Source)
	b = appendString(b, fieldCountry, e.Country)
	b = appendString(b, fieldRegion, e.Region)
	b = appendString(b, fieldDevice, e.Device)
	b = appendString(b, fieldBrowser, e.Browser)
	b = appendString(b, fieldBrowserVersion, e.BrowserVersion)
	b = appendString(b, fieldOS, e.OS)
	b = appendString(b, fieldOSVersion, e.OSVersion)
	b = appendString(b, fieldLanguage, e.Language)
	b = appendString(b, fieldReferrer, e.Referrer)
	b = appendString(b, fieldUTMSource, e.UTMSource)
	b = appendString(b, fieldUTMMedium, e.UTMMedium)
	b = appendString(b, fieldUTMCampaign, e.UTMCampaign)
	b = appendString(b, fieldUTMContent, e.UTMContent)
	b = appendString(b, fieldUTMTerm, e.UTMTerm)
	b = appendFixed(b, fieldPreviousVisitor, e.PreviousVisitor)
	if e.HasID {
		b = protowire.AppendTag(b, fieldID, protowire.BytesType)
		b = protowire.AppendBytes(b, e.ID[:])
	}
	b = append(b, e.Props...)
	b = appendUint(b, fieldRevenueMicros, uint64(e.RevenueMicros))
	b = appendString(b, fieldCurrency, e.Currency)
	b = appendUint(b, fieldScrollDepth, uint64(e.ScrollDepth))
	b = appendUint(b, fieldEngagedMS, uint64(e.EngagedMS))
	b = appendBool(b, fieldInteractive, e.Interactive)
	b = appendString(b, fieldCity, e.City)
	b = appendString(b, fieldChannel, e.Channel)
	b = appendString(b, fieldScreen, e.Screen)

	size := len(b) - start
	var length [10]byte
	l := protowire.AppendVarint(length[:0], uint64(size))
	if d := len(l) - guess; d > 0 {
		b = append(b, length[:d]...)
		copy(b[start+d:], b[start:start+size])
	} else if d < 0 {
		copy(b[start+d:], b[start:])
		b = b[:len(b)+d]
	}
	copy(b[start-guess:], l)
	return b
}

// AppendTally adds t to the envelope that b holds.
func AppendTally(b []byte, t Tally) []byte {
	n := sizeString(fieldTallySite, t.Site) + sizeUint(fieldTallyMinute, uint64(t.Minute)) + sizeString(fieldTallyReason, t.Reason) + sizeUint(fieldTallyCount, t.Count)
	b = protowire.AppendTag(b, fieldTally, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	b = appendString(b, fieldTallySite, t.Site)
	b = appendUint(b, fieldTallyMinute, uint64(t.Minute))
	b = appendString(b, fieldTallyReason, t.Reason)
	return appendUint(b, fieldTallyCount, t.Count)
}

// AppendProp adds a property to an event's Props. Keys and values must be valid UTF-8. Of two with the same key the later one counts.
func AppendProp(b []byte, key, value string) []byte {
	n := sizeString(fieldPropKey, key) + sizeString(fieldPropValue, value)
	b = protowire.AppendTag(b, fieldProps, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	b = appendString(b, fieldPropKey, key)
	return appendString(b, fieldPropValue, value)
}

func sizeString(n protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return protowire.SizeTag(n) + protowire.SizeBytes(len(s))
}

func sizeUint(n protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(n) + protowire.SizeVarint(v)
}

func appendString(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendFixed(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), v)
}

func appendBool(b []byte, n protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, n, 1)
}
