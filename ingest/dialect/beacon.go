// Package dialect reads beacons as clients send them and makes each a Beacon. There is a file for each
// dialect: the Plausible Events API, Umami's send and batch API, and the query of a tracking pixel.
//
// The package is pure: it does no I/O and keeps no state. A parser accepts any input, never panics, and
// returns either a Beacon within the limits below or what is wrong with the input. The strings of a
// Beacon are valid UTF-8 and share the memory of the input.
package dialect

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/event"
)

// Limits of a beacon, those of the Plausible Events API. Lengths are in bytes.
const (
	MaxBody      = 1_000_000 // of a request's body, also of a batch
	MaxURL       = 2_000     // of the page's URL; a longer referrer is cut
	maxName      = 120       // characters of an event's name
	maxProps     = 30        // properties; later ones are left out
	maxPropKey   = 300
	maxPropValue = 2_000
	maxDomains   = 50
	maxID        = 64 // of a client's event id
	maxEngagedMS = int64(30 * 24 * time.Hour / time.Millisecond)

	propOverhead = 10 // usual size of an encoded property beside its key and value
)

// noHostname is the hostname of a page whose URL has no host.
const noHostname = "(none)"

// FieldErrors holds what is wrong with a beacon, by field, as the Plausible Events API answers it.
type FieldErrors map[string][]string

func (e *FieldErrors) add(field, text string) {
	if *e == nil {
		*e = FieldErrors{}
	}
	(*e)[field] = append((*e)[field], text)
}

// Beacon is what a client sent, checked. It holds nothing that the server found out.
type Beacon struct {
	Kind          event.Kind
	Name          string
	ID            string // the client's event id, "" if it sent none
	Domains       []string
	Page          Link
	Hostname      string // "(none)" where the page's URL has no host
	HashRouting   bool   // the fragment of the page's URL is part of the page's path
	Referrer      Link
	Language      string // the client's language tag; "" if only the request's header tells
	ScreenWidth   int64  // of the window, in CSS pixels; 0 if the client sent none
	Props         []byte // encoded by event.AppendProp
	RevenueMicros int64  // millionths of a unit of Currency
	Currency      string // three upper-case letters, "" without revenue
	ScrollDepth   uint32 // percent, 0 to 100
	EngagedMS     uint32
	Interactive   bool
}

func (b *Beacon) setURL(s string, errs *FieldErrors) {
	if len(s) > MaxURL {
		errs.add("url", "must be a valid url of at most "+strconv.Itoa(MaxURL)+" bytes")
		return
	}
	if b.Page = ParseLink(s); b.Page.Scheme == "data" {
		errs.add("url", "scheme is not allowed")
	}
	if b.Hostname = TrimWWW(b.Page.Host); b.Hostname == "" {
		b.Hostname = noHostname
	}
}

// setDomains sets the sites that a beacon counts for, from a list separated by commas.
func (b *Beacon) setDomains(list string, errs *FieldErrors) {
	if list = strings.TrimSpace(list); list == "" {
		errs.add("domain", "can't be blank")
		return
	}
	if strings.Count(list, ",") >= maxDomains {
		errs.add("domain", "should be at most "+strconv.Itoa(maxDomains)+" domains")
		return
	}
	for domain := range strings.SplitSeq(list, ",") {
		b.Domains = append(b.Domains, strings.ToLower(strings.TrimSpace(domain)))
	}
}

// setRevenue sets the revenue if amount is a number, or a string of one, below 2⁶² millionths, and
// currency is a string of three letters. Else the beacon has no revenue.
func (b *Beacon) setRevenue(amount, currency value) {
	if amount.kind != kindNumber && amount.kind != kindString || currency.kind != kindString {
		return
	}
	code := strings.ToUpper(currency.text())
	if len(code) != 3 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return
	}
	f, err := strconv.ParseFloat(amount.raw, 64)
	if f = math.Round(f * 1e6); err != nil || !(math.Abs(f) < 1<<62) {
		return
	}
	b.RevenueMicros, b.Currency = int64(f), code
}

// propList collects properties: the first maxProps keys, and for each key its last value. It leaves blank
// keys and blank values out.
type propList struct {
	keys, values [maxProps]string
	n            int
	tooLong      bool // a key is over maxPropKey or a value over maxPropValue
}

func (l *propList) put(key, value string) {
	if strings.TrimSpace(key) == "" || strings.TrimSpace(value) == "" {
		return
	}
	at := 0
	for at < l.n && l.keys[at] != key {
		at++
	}
	if at == maxProps {
		return
	}
	l.n = max(l.n, at+1)
	l.keys[at], l.values[at] = key, value
	l.tooLong = l.tooLong || len(key) > maxPropKey || len(value) > maxPropValue
}

// encode appends the properties to b.
func (l *propList) encode(b []byte) []byte {
	size := 0
	for i := range l.n {
		size += len(l.keys[i]) + len(l.values[i]) + propOverhead
	}
	b = slices.Grow(b, size)
	for i := range l.n {
		b = event.AppendProp(b, l.keys[i], l.values[i])
	}
	return b
}
