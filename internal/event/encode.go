package event

import (
	"google.golang.org/protobuf/encoding/protowire"

	"nowcast/internal/wire"
)

// AppendHeader begins an envelope. A zero h.Version is written as Version.
func AppendHeader(b []byte, h Header) []byte {
	if h.Version == 0 {
		h.Version = Version
	}
	b = wire.AppendVarint(b, fieldVersion, uint64(h.Version))
	b = wire.AppendFixed64(b, fieldNode, h.Node)
	b = wire.AppendVarint(b, fieldSequence, h.Sequence)
	b = wire.AppendVarint(b, fieldLow, uint64(h.Low))
	return wire.AppendBool(b, fieldCloseMarker, h.CloseMarker)
}

// AppendEvent adds e to the envelope that b holds. Strings must be valid UTF-8.
func AppendEvent(b []byte, e *Event) []byte {
	b = protowire.AppendTag(b, fieldEvent, protowire.BytesType)
	// Nearly every event takes 128 to 16,383 bytes, so a guess of two bytes for its length rarely moves the
	// content.
	const guess = 2
	b = append(b, 0, 0)
	start := len(b)

	b = wire.AppendVarint(b, fieldTime, uint64(e.Time))
	b = wire.AppendFixed64(b, fieldVisitor, e.Visitor)
	b = wire.AppendVarint(b, fieldKind, uint64(e.Kind))
	b = wire.AppendString(b, fieldName, e.Name)
	b = wire.AppendString(b, fieldSite, e.Site)
	b = wire.AppendString(b, fieldHostname, e.Hostname)
	b = wire.AppendString(b, fieldPath, e.Path)
	b = wire.AppendString(b, fieldSource, e.Source)
	b = wire.AppendString(b, fieldCountry, e.Country)
	b = wire.AppendString(b, fieldRegion, e.Region)
	b = wire.AppendString(b, fieldDevice, e.Device)
	b = wire.AppendString(b, fieldBrowser, e.Browser)
	b = wire.AppendString(b, fieldBrowserVersion, e.BrowserVersion)
	b = wire.AppendString(b, fieldOS, e.OS)
	b = wire.AppendString(b, fieldOSVersion, e.OSVersion)
	b = wire.AppendString(b, fieldLanguage, e.Language)
	b = wire.AppendString(b, fieldReferrer, e.Referrer)
	b = wire.AppendString(b, fieldUTMSource, e.UTMSource)
	b = wire.AppendString(b, fieldUTMMedium, e.UTMMedium)
	b = wire.AppendString(b, fieldUTMCampaign, e.UTMCampaign)
	b = wire.AppendString(b, fieldUTMContent, e.UTMContent)
	b = wire.AppendString(b, fieldUTMTerm, e.UTMTerm)
	b = wire.AppendFixed64(b, fieldPreviousVisitor, e.PreviousVisitor)
	if e.HasID {
		b = protowire.AppendTag(b, fieldID, protowire.BytesType)
		b = protowire.AppendBytes(b, e.ID[:])
	}
	b = append(b, e.Props...)
	b = wire.AppendVarint(b, fieldRevenueMicros, uint64(e.RevenueMicros))
	b = wire.AppendString(b, fieldCurrency, e.Currency)
	b = wire.AppendVarint(b, fieldScrollDepth, uint64(e.ScrollDepth))
	b = wire.AppendVarint(b, fieldEngagedMS, uint64(e.EngagedMS))
	b = wire.AppendBool(b, fieldInteractive, e.Interactive)
	b = wire.AppendString(b, fieldCity, e.City)
	b = wire.AppendString(b, fieldChannel, e.Channel)
	b = wire.AppendString(b, fieldScreen, e.Screen)
	if e.HasPreviousID {
		b = protowire.AppendTag(b, fieldPreviousID, protowire.BytesType)
		b = protowire.AppendBytes(b, e.PreviousID[:])
	}
	b = wire.AppendVarint(b, fieldDay, uint64(e.Day))
	b = wire.AppendVarint(b, fieldUTCOffset, protowire.EncodeZigZag(int64(e.UTCOffset)))
	b = wire.AppendFixed64(b, fieldUser, e.User)

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
	b = wire.AppendMessageHeader(b, fieldTally,
		wire.SizeString(fieldTallySite, t.Site)+wire.SizeVarint(fieldTallyMinute, uint64(t.Minute))+
			wire.SizeString(fieldTallyReason, t.Reason)+wire.SizeVarint(fieldTallyCount, t.Count))
	b = wire.AppendString(b, fieldTallySite, t.Site)
	b = wire.AppendVarint(b, fieldTallyMinute, uint64(t.Minute))
	b = wire.AppendString(b, fieldTallyReason, t.Reason)
	return wire.AppendVarint(b, fieldTallyCount, t.Count)
}

// AppendProp adds a property to an event's Props. Keys and values must be valid UTF-8. A later property
// replaces an earlier one with the same key.
func AppendProp(b []byte, key, value string) []byte {
	b = wire.AppendMessageHeader(b, fieldProps,
		wire.SizeString(fieldPropKey, key)+wire.SizeString(fieldPropValue, value))
	b = wire.AppendString(b, fieldPropKey, key)
	return wire.AppendString(b, fieldPropValue, value)
}
