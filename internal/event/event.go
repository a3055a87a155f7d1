// Package event is the wire schema of the topic nowcast.events.v1, which ingest writes.
//
// The published form is event.proto. Bytes that a released version has written decode for ever: fields are
// only added and unknown ones are skipped. A record of a newer schema version gives ErrVersion and bytes
// that are no envelope give ErrCorrupt; neither panics, and neither makes the decoder allocate. Encoding
// doesn't check that strings are valid UTF-8: ingest sees to that.
package event

import "errors"

// Version of the schema, written into every header.
const Version = 1

// Reasons why a record cannot be read.
var (
	// ErrVersion means that a record's schema is newer than Version: keep the record and upgrade the reader.
	ErrVersion = errors.New("newer schema version")
	// ErrCorrupt means that a record is no envelope.
	ErrCorrupt = errors.New("corrupt envelope")
)

// Kind of an event.
type Kind uint8

// The kinds of events. A reader treats an unknown kind as Custom.
const (
	Pageview   Kind = 1
	Custom     Kind = 2
	Engagement Kind = 3
)

// String returns the name that queries use.
func (k Kind) String() string {
	switch k {
	case Pageview:
		return "pageview"
	case Engagement:
		return "engagement"
	default:
		return "custom"
	}
}

// Header is an envelope's. An envelope is one Kafka record.
type Header struct {
	Version     uint32
	Node        uint64 // random for each start of an ingest process, never 0
	Sequence    uint64 // per node and partition, from 1, rising by 1
	Low         int64  // low watermark, ms UTC: every event from here on was received after it
	CloseMarker bool   // last envelope of a node that stops on purpose
}

// Event is one thing that a visitor did. Decoded strings and Props alias the record: copy what must outlive
// it.
type Event struct {
	Time            int64    // of receipt, ms since 1970 UTC
	Visitor         uint64   // salted with the salt of Day, or of the UTC day in events without one
	PreviousVisitor uint64   // by the salt of the day before, in the first 10 minutes of a day, else 0
	User            uint64   // keyed hash of the site's own id of the user; 0: none
	ID              [16]byte // the client's id of the event, hashed with Visitor; see HasID
	PreviousID      [16]byte // the same, hashed with PreviousVisitor; see HasPreviousID
	Day             uint32   // date on the site's clocks at Time, since 1970; 0: of before it was added
	UTCOffset       int32    // of the site's clocks at Time, seconds; known where Day is
	HasID           bool
	HasPreviousID   bool
	Interactive     bool // counts against a bounce
	Kind            Kind
	ScrollDepth     uint32 // percent
	EngagedMS       uint32
	RevenueMicros   int64 // millionths of Currency
	Currency        string
	Name            string // "pageview", "engagement" or the custom event's name

	Site, Hostname, Path, Referrer, Source string

	Channel string // "Organic Search", "Direct", …; "" in events from before it was added

	UTMSource, UTMMedium, UTMCampaign, UTMContent, UTMTerm string

	Country, Region, City string // ISO 3166-1 alpha-2, ISO 3166-2, English name; or ""
	Device                string // "Desktop", "Mobile", "Tablet" or ""
	Screen                string // class by width: "Mobile", "Tablet", "Laptop", "Desktop" or ""

	Browser, BrowserVersion, OS, OSVersion, Language string

	Props []byte // built by AppendProp, read by EachProp
}

// Tally is how many beacons of a site a node took in a minute. Decoded strings alias the record.
type Tally struct {
	Site   string
	Minute int64  // since 1970 UTC
	Reason string // why they were dropped; "": all that were received, dropped ones included
	Count  uint64
}

// Field numbers of event.proto.
const (
	fieldEvent       = 1
	fieldVersion     = 2
	fieldNode        = 3
	fieldSequence    = 4
	fieldLow         = 5
	fieldCloseMarker = 6
	fieldTally       = 7

	fieldTime            = 1
	fieldVisitor         = 2
	fieldKind            = 3
	fieldName            = 4
	fieldSite            = 5
	fieldHostname        = 6
	fieldPath            = 7
	fieldSource          = 8
	fieldCountry         = 9
	fieldRegion          = 10
	fieldDevice          = 11
	fieldBrowser         = 12
	fieldBrowserVersion  = 13
	fieldOS              = 14
	fieldOSVersion       = 15
	fieldLanguage        = 16
	fieldReferrer        = 17
	fieldUTMSource       = 18
	fieldUTMMedium       = 19
	fieldUTMCampaign     = 20
	fieldUTMContent      = 21
	fieldUTMTerm         = 22
	fieldPreviousVisitor = 23
	fieldID              = 24
	fieldProps           = 25
	fieldRevenueMicros   = 26
	fieldCurrency        = 27
	fieldScrollDepth     = 28
	fieldEngagedMS       = 29
	fieldInteractive     = 30
	fieldCity            = 31
	fieldChannel         = 32
	fieldScreen          = 33
	fieldPreviousID      = 34
	fieldDay             = 35
	fieldUTCOffset       = 36
	fieldUser            = 37

	fieldPropKey   = 1
	fieldPropValue = 2

	fieldTallySite   = 1
	fieldTallyMinute = 2
	fieldTallyReason = 3
	fieldTallyCount  = 4
)
