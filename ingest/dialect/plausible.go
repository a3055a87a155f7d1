package dialect

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"nowcast/internal/event"
)

// fields are the members of a beacon of the Plausible Events API.
type fields struct {
	name, url, domain, referrer, props, meta, interactive, hash, revenue, depth, engaged, id, width value
}

// plausibleMembers are a beacon's members by their short and by their long keys.
type plausibleMembers struct{ short, long fields }

// field returns where the value of a key belongs, nil for a key that the API doesn't have.
func (m *plausibleMembers) field(key string) *value {
	switch key {
	case "n":
		return &m.short.name
	case "name":
		return &m.long.name
	case "u":
		return &m.short.url
	case "url":
		return &m.long.url
	case "d":
		return &m.short.domain
	case "domain":
		return &m.long.domain
	case "r":
		return &m.short.referrer
	case "referrer":
		return &m.long.referrer
	case "m":
		return &m.short.meta
	case "meta":
		return &m.long.meta
	case "p":
		return &m.short.props
	case "props":
		return &m.long.props
	case "i":
		return &m.short.interactive
	case "interactive":
		return &m.long.interactive
	case "h":
		return &m.short.hash
	case "hashMode":
		return &m.long.hash
	case "$":
		return &m.short.revenue
	case "revenue":
		return &m.long.revenue
	case "sd":
		return &m.short.depth
	case "e":
		return &m.short.engaged
	case "w":
		return &m.short.width
	case "screen_width":
		return &m.long.width
	case "id":
		return &m.short.id
	case "eid":
		return &m.long.id
	}
	return nil
}

// ParsePlausible reads a beacon of the Plausible Events API. It ignores keys that the API doesn't have.
// One of the results is nil.
func ParsePlausible(body string) (*Beacon, FieldErrors) {
	var m plausibleMembers
	ok := utf8.ValidString(body) && eachMember(body, func(key string, v value) {
		if field := m.field(key); field != nil {
			*field = v
		}
	})
	if !ok {
		return nil, FieldErrors{"request": {"Unable to parse request body as json"}}
	}
	short, long := &m.short, &m.long
	b, errs := &Beacon{}, FieldErrors(nil)
	b.setPlausibleURL(or(short.url, long.url), &errs)
	b.setPlausibleName(or(short.name, long.name), &errs)
	b.setPlausibleDomain(or(short.domain, long.domain), &errs)
	b.setPlausibleProps(or(or(short.meta, long.meta), or(short.props, long.props)), &errs)
	b.setPlausibleRevenue(or(long.revenue, short.revenue))
	b.setPlausibleID(or(short.id, long.id), &errs)
	if b.Kind == event.Engagement {
		b.setEngagement(short.depth, short.engaged, &errs)
	}
	if r := or(short.referrer, long.referrer); r.kind == kindString {
		b.Referrer = ParseLink(Truncate(r.text(), MaxURL))
	}
	b.ScreenWidth, _ = or(short.width, long.width).integer()
	hash := or(short.hash, long.hash)
	b.HashRouting = hash.raw == "1" || hash.raw == "true"
	b.Interactive = short.interactive.raw != "false" && long.interactive.raw != "false"
	if errs != nil {
		return nil, errs
	}
	return b, nil
}

// or is JavaScript's a || b, by which the API chooses between the short and the long key. Here, null and
// false are falsy; 0 and "" aren't.
func or(a, b value) value {
	if a.truthy() {
		return a
	}
	return b
}

func (b *Beacon) setPlausibleURL(v value, errs *FieldErrors) {
	switch {
	case !v.truthy():
		errs.add("url", "is required")
	case v.kind != kindString:
		errs.add("url", "must be a valid url")
	default:
		b.setURL(v.text(), errs)
	}
}

// setPlausibleName sets name and kind. The API also takes an integer for a name.
func (b *Beacon) setPlausibleName(v value, errs *FieldErrors) {
	switch {
	case v.kind == kindString:
		b.Name = v.text()
	case v.kind == kindNumber && strings.Trim(v.raw, "-0123456789") == "":
		b.Name = v.raw
	case v.truthy():
		errs.add("event_name", "is invalid")
		return
	}
	switch {
	case strings.TrimSpace(b.Name) == "":
		errs.add("event_name", "can't be blank")
	case len(b.Name) > maxName && utf8.RuneCountInString(b.Name) > maxName:
		errs.add("event_name", "should be at most "+strconv.Itoa(maxName)+" character(s)")
	}
	switch b.Name {
	case "pageview":
		b.Kind = event.Pageview
	case "engagement":
		b.Kind = event.Engagement
	default:
		b.Kind = event.Custom
	}
}

// setPlausibleDomain sets the sites, by default that of the page's host.
func (b *Beacon) setPlausibleDomain(v value, errs *FieldErrors) {
	list := b.Page.Host
	if v.kind == kindString {
		list = v.text()
	}
	b.setDomains(list, errs)
}

// setPlausibleProps reads properties from an object, or from a string that holds one. It leaves out
// values that aren't scalars. A string that holds no object means no properties.
func (b *Beacon) setPlausibleProps(v value, errs *FieldErrors) {
	raw, ok := v.object()
	if !ok {
		return
	}
	var list propList
	ok = eachMember(raw, func(key string, v value) {
		if v.kind == kindObject || v.kind == kindArray || v.kind == kindNull {
			return
		}
		text := v.raw
		if v.kind == kindString {
			text = v.text()
		}
		list.put(key, text)
	})
	switch {
	case !ok:
	case list.tooLong:
		errs.add("props", "keys should have at most "+strconv.Itoa(maxPropKey)+" bytes and values "+
			strconv.Itoa(maxPropValue)+" bytes")
	default:
		b.Props = list.encode(b.Props)
	}
}

// setPlausibleRevenue reads {amount, currency}, or a string that holds it. Any other value means no
// revenue.
func (b *Beacon) setPlausibleRevenue(v value) {
	raw, ok := v.object()
	if !ok {
		return
	}
	if amount, currency, ok := pair(raw, "amount", "currency"); ok {
		b.setRevenue(amount, currency)
	}
}

// setEngagement sets scroll depth (sd, percent) and time of engagement (e, ms), of which one has to be
// valid.
func (b *Beacon) setEngagement(depth, engaged value, errs *FieldErrors) {
	d, okDepth := depth.integer()
	e, okEngaged := engaged.integer()
	okDepth = okDepth && d >= 0
	okEngaged = okEngaged && e > 0 && e < maxEngagedMS
	if !okDepth && !okEngaged {
		errs.add("event_name",
			"engagement event requires a valid integer value for at least one of 'sd' or 'e' fields")
	}
	if okDepth {
		b.ScrollDepth = uint32(min(d, 100))
	}
	if okEngaged {
		b.EngagedMS = uint32(e)
	}
}

func (b *Beacon) setPlausibleID(v value, errs *FieldErrors) {
	switch {
	case !v.truthy():
	case v.kind != kindString:
		errs.add("id", "must be a string")
	default:
		if b.ID = v.text(); len(b.ID) > maxID {
			errs.add("id", "should be at most "+strconv.Itoa(maxID)+" bytes")
		}
	}
}
