package ingest

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"nowcast/internal/event"
)

// The limits of the Plausible Events API.
const (
	maxBody      = 1_000_000 // bytes
	maxURL       = 2_000     // bytes
	maxName      = 120       // characters
	maxProps     = 30
	propHead     = 10    // bytes that a prop takes beside its key and value, mostly
	maxPropKey   = 300   // bytes
	maxPropValue = 2_000 // bytes
	maxDomains   = 50
	maxID        = 64 // bytes
	maxEngaged   = int64(30 * 24 * time.Hour / time.Millisecond)
)

// problems are the errors of a beacon by field, as the dialect answers them.
type problems map[string][]string

func (p *problems) add(field, text string) {
	if *p == nil {
		*p = problems{}
	}
	(*p)[field] = append((*p)[field], text)
}

// beacon is what a client said, checked, and nothing that we found out ourselves. Its strings share the memory of the body.
type beacon struct {
	kind          event.Kind
	name          string
	page          link
	hostname      string // "(none)" where the URL has none
	domains       []string
	referrer      link
	fragment      bool // pages are told apart by the URL's fragment
	props         []byte
	revenueMicros int64
	currency      string
	scrollDepth   uint32
	engagedMS     uint32
	interactive   bool
	id            string
	width         int64 // of the window, in CSS pixels; 0: not said
}

// fields are a beacon's members by their long names; the short ones are in short, at the same place.
type fields struct {
	name, url, domain, referrer, props, meta, interactive, hash, revenue, depth, engaged, id, width value
}

// parseBeacon reads a beacon of the Plausible Events API. Keys that it doesn't know are ignored.
func parseBeacon(body string) (*beacon, problems) {
	var short, long fields
	ok := utf8.ValidString(body) && members(body, func(key string, v value) {
		switch key {
		case "n":
			short.name = v
		case "name":
			long.name = v
		case "u":
			short.url = v
		case "url":
			long.url = v
		case "d":
			short.domain = v
		case "domain":
			long.domain = v
		case "r":
			short.referrer = v
		case "referrer":
			long.referrer = v
		case "m":
			short.meta = v
		case "meta":
			long.meta = v
		case "p":
			short.props = v
		case "props":
			long.props = v
		case "i":
			short.interactive = v
		case "interactive":
			long.interactive = v
		case "h":
			short.hash = v
		case "hashMode":
			long.hash = v
		case "$":
			short.revenue = v
		case "revenue":
			long.revenue = v
		case "sd":
			short.depth = v
		case "e":
			short.engaged = v
		case "w":
			short.width = v
		case "screen_width":
			long.width = v
		case "id":
			short.id = v
		case "eid":
			long.id = v
		}
	})
	if !ok {
		return nil, problems{"request": {"Unable to parse request body as json"}}
	}
	b, errs := &beacon{}, problems(nil)
	b.setPage(either(short.url, long.url), &errs)
	b.setName(either(short.name, long.name), &errs)
	b.setDomains(either(short.domain, long.domain), &errs)
	b.setProps(either(either(short.meta, long.meta), either(short.props, long.props)), &errs)
	b.setRevenue(either(long.revenue, short.revenue))
	b.setID(either(short.id, long.id), &errs)
	if b.kind == event.Engagement {
		b.setEngagement(short.depth, short.engaged, &errs)
	}
	if r := either(short.referrer, long.referrer); r.kind == kindString {
		b.referrer = parseLink(cut(r.str(), maxURL))
	}
	b.width, _ = either(short.width, long.width).integer()
	h := either(short.hash, long.hash)
	b.fragment = h.raw == "1" || h.raw == "true"
	b.interactive = short.interactive.raw != "false" && long.interactive.raw != "false"
	if errs != nil {
		return nil, errs
	}
	return b, nil
}

func either(a, b value) value {
	if a.truthy() {
		return a
	}
	return b
}

func (b *beacon) setPage(v value, errs *problems) {
	switch {
	case !v.truthy():
		errs.add("url", "is required")
		return
	case v.kind != kindString:
		errs.add("url", "must be a valid url")
		return
	}
	b.setURL(v.str(), errs)
}

func (b *beacon) setURL(s string, errs *problems) {
	if len(s) > maxURL {
		errs.add("url", "must be a valid url of at most "+strconv.Itoa(maxURL)+" bytes")
		return
	}
	if b.page = parseLink(s); b.page.scheme == "data" {
		errs.add("url", "scheme is not allowed")
	}
	if b.hostname = bare(b.page.host); b.hostname == "" {
		b.hostname = "(none)"
	}
}

func (b *beacon) setName(v value, errs *problems) {
	switch {
	case v.kind == kindString:
		b.name = v.str()
	case v.kind == kindNumber && strings.Trim(v.raw, "-0123456789") == "":
		b.name = v.raw
	case v.truthy():
		errs.add("event_name", "is invalid")
		return
	}
	switch {
	case strings.TrimSpace(b.name) == "":
		errs.add("event_name", "can't be blank")
	case len(b.name) > maxName && utf8.RuneCountInString(b.name) > maxName:
		errs.add("event_name", "should be at most "+strconv.Itoa(maxName)+" character(s)")
	}
	switch b.name {
	case "pageview":
		b.kind = event.Pageview
	case "engagement":
		b.kind = event.Engagement
	default:
		b.kind = event.Custom
	}
}

// setDomains takes a comma list; a beacon counts for each site in it.
func (b *beacon) setDomains(v value, errs *problems) {
	list := b.page.host
	if v.kind == kindString {
		list = v.str()
	}
	b.setDomainList(list, errs)
}

func (b *beacon) setDomainList(list string, errs *problems) {
	if list = strings.TrimSpace(list); list == "" {
		errs.add("domain", "can't be blank")
		return
	}
	if strings.Count(list, ",") >= maxDomains {
		errs.add("domain", "should be at most "+strconv.Itoa(maxDomains)+" domains")
		return
	}
	for domain := range strings.SplitSeq(list, ",") {
		b.domains = append(b.domains, strings.ToLower(strings.TrimSpace(domain)))
	}
}

// setProps takes an object or a string that holds one. Values that aren't scalars, and blank ones, are left out.
func (b *beacon) setProps(v value, errs *problems) {
	raw := v.raw
	switch {
	case v.kind == kindString:
		raw = v.str()
	case v.kind != kindObject:
		return
	}
	var list propList
	ok := members(raw, func(key string, v value) {
		if v.kind == kindObject || v.kind == kindArray || v.kind == kindNull {
			return
		}
		text := v.raw
		if v.kind == kindString {
			text = v.str()
		}
		list.put(key, text)
	})
	switch {
	case !ok: // a string that is no object: the dialect takes it for none
	case list.long:
		errs.add("props", "keys should have at most "+strconv.Itoa(maxPropKey)+" bytes and values "+strconv.Itoa(maxPropValue)+" bytes")
	default:
		b.props = list.append(b.props)
	}
}

// propList collects properties: the first maxProps keys, and of each the last value. Blank ones are left out.
type propList struct {
	keys, values [maxProps]string
	n            int
	long         bool // a key or a value was over its limit
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
	l.long = l.long || len(key) > maxPropKey || len(value) > maxPropValue
}

func (l *propList) append(b []byte) []byte {
	size := 0
	for i := range l.n {
		size += len(l.keys[i]) + len(l.values[i]) + propHead
	}
	b = slices.Grow(b, size)
	for i := range l.n {
		b = event.AppendProp(b, l.keys[i], l.values[i])
	}
	return b
}

// setRevenue takes {amount, currency}, also as a string that holds it. What isn't that is left out, as in the dialect.
func (b *beacon) setRevenue(v value) {
	raw := v.raw
	switch {
	case v.kind == kindString:
		raw = v.str()
	case v.kind != kindObject:
		return
	}
	var amount, currency value
	if !members(raw, func(key string, v value) {
		switch key {
		case "amount":
			amount = v
		case "currency":
			currency = v
		}
	}) {
		return
	}
	b.setAmount(amount, currency)
}

func (b *beacon) setAmount(amount, currency value) {
	code := strings.ToUpper(currency.str())
	if amount.kind != kindNumber && amount.kind != kindString || currency.kind != kindString || len(code) != 3 || strings.Trim(code, letters) != "" {
		return
	}
	f, err := strconv.ParseFloat(amount.raw, 64)
	if f = math.Round(f * 1e6); err != nil || !(math.Abs(f) < 1<<62) {
		return
	}
	b.revenueMicros, b.currency = int64(f), code
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (b *beacon) setEngagement(depth, engaged value, errs *problems) {
	d, okD := depth.integer()
	e, okE := engaged.integer()
	okD = okD && d >= 0
	okE = okE && e > 0 && e < maxEngaged
	if !okD && !okE {
		errs.add("event_name", "engagement event requires a valid integer value for at least one of 'sd' or 'e' fields")
	}
	if okD {
		b.scrollDepth = uint32(min(d, 100))
	}
	if okE {
		b.engagedMS = uint32(e)
	}
}

func (b *beacon) setID(v value, errs *problems) {
	switch {
	case !v.truthy():
	case v.kind != kindString:
		errs.add("id", "must be a string")
	default:
		if b.id = v.str(); len(b.id) > maxID {
			errs.add("id", "should be at most "+strconv.Itoa(maxID)+" bytes")
		}
	}
}
