package dialect

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"nowcast/internal/event"
)

// Limits of Umami's dialect where they differ from those of the Plausible Events API.
const (
	MaxBatch     = 1_000 // beacons in a batch
	maxUmamiName = 50    // characters; Umami's clients cut the rest off
	maxHostname  = 253   // bytes
	maxNesting   = 8     // levels of data that become properties
)

// unstoredTypes are the types of Umami's beacons that aren't events. They are accepted and not stored.
var unstoredTypes = []string{"identify", "performance", "engagement", "error"}

// UmamiBatch splits the JSON array of a batch into its beacons, each for ParseUmami. It returns false if
// body isn't an array of at most MaxBatch objects.
func UmamiBatch(body string) (beacons []string, ok bool) {
	n, objects := 0, true
	ok = utf8.ValidString(body) && eachElement(body, func(v value) {
		objects = objects && v.kind == kindObject
		if n++; n <= MaxBatch {
			beacons = append(beacons, v.raw)
		}
	})
	return beacons, ok && objects && n <= MaxBatch
}

// ParseUmami reads {"type", "payload"}. It ignores other members of the payload. Among these are ip,
// userAgent and timestamp, which any client could forge, and id, which names a person. isEvent is false
// for a type that is accepted and not stored. A problem is a sentence for the client; with it, b is nil.
func ParseUmami(body string) (b *Beacon, isEvent bool, problem string) {
	kind, payload, ok := value{}, value{}, utf8.ValidString(body)
	if ok {
		kind, payload, ok = pair(body, "type", "payload")
	}
	switch {
	case !ok:
		return nil, false, "the body must be a JSON object with type and payload"
	case kind.kind != kindString:
		return nil, false, "type: must be a string"
	case kind.text() == "event":
		isEvent = true
	case !slices.Contains(unstoredTypes, kind.text()):
		return nil, false, "type: must be event or identify"
	}
	if payload.kind != kindObject {
		return nil, false, "payload: must be an object"
	}
	b = &Beacon{}
	if problem = b.setUmamiPayload(payload.raw); problem != "" {
		return nil, false, problem
	}
	return b, isEvent, ""
}

// umamiPayload holds the members of a payload that are read, except for data. All of them are strings.
type umamiPayload struct{ website, url, referrer, hostname, language, screen, name, tag, eid string }

func (p *umamiPayload) field(key string) *string {
	switch key {
	case "website":
		return &p.website
	case "url":
		return &p.url
	case "referrer":
		return &p.referrer
	case "hostname":
		return &p.hostname
	case "language":
		return &p.language
	case "screen":
		return &p.screen
	case "name":
		return &p.name
	case "tag":
		return &p.tag
	case "eid":
		return &p.eid
	}
	return nil
}

// read sets the members from a JSON object. It also returns the member data.
func (p *umamiPayload) read(raw string) (data value, problem string) {
	eachMember(raw, func(key string, v value) {
		if key == "data" {
			data = v
			return
		}
		field := p.field(key)
		switch {
		case field == nil:
		case v.kind == kindString:
			*field = v.text()
		case v.kind == kindNull:
			*field = ""
		case problem == "":
			problem = "payload." + key + ": must be a string"
		}
	})
	return data, problem
}

func (b *Beacon) setUmamiPayload(raw string) (problem string) {
	var p umamiPayload
	data, problem := p.read(raw)
	if problem != "" {
		return problem
	}
	var errs FieldErrors
	b.setURL(p.url, &errs)
	switch website := strings.TrimSpace(p.website); {
	case errs != nil:
		return "payload.url: " + errs["url"][0]
	case website == "":
		return "payload.website: is required; it is the site's domain"
	case len(p.hostname) > maxHostname:
		return "payload.hostname: should be at most " + strconv.Itoa(maxHostname) + " bytes"
	case len(p.eid) > maxID:
		return "payload.eid: should be at most " + strconv.Itoa(maxID) + " bytes"
	default:
		b.Domains = []string{strings.ToLower(website)}
	}
	if h := TrimWWW(strings.ToLower(hostOf(p.hostname))); h != "" {
		b.Hostname = h
	}
	b.HashRouting = b.Page.Fragment != "" // Umami's page names include the fragment
	b.Interactive = true
	b.Referrer = ParseLink(Truncate(p.referrer, MaxURL))
	b.Language, b.ID = LanguageTag(p.language), p.eid
	width, _, _ := strings.Cut(p.screen, "x") // 1920x1080
	b.ScreenWidth, _ = strconv.ParseInt(width, 10, 64)
	b.Kind, b.Name = event.Pageview, "pageview"
	if strings.TrimSpace(p.name) != "" {
		b.Kind, b.Name = event.Custom, truncateChars(p.name, maxUmamiName)
	}
	return b.setUmamiData(data, p.tag)
}

// setUmamiData makes the tag and the members of data properties. As in Umami's reports, the members
// revenue and currency are also the revenue.
func (b *Beacon) setUmamiData(data value, tag string) (problem string) {
	var list propList
	list.put("tag", Truncate(tag, maxPropValue))
	switch data.kind {
	case kindObject:
		flatten(&list, "", data.raw, maxNesting)
	case kindNone, kindNull:
	default:
		return "payload.data: must be an object"
	}
	if list.tooLong {
		return "payload.data: keys should have at most " + strconv.Itoa(maxPropKey) + " bytes"
	}
	b.Props = list.encode(b.Props)
	if data.kind == kindObject {
		amount, currency, _ := pair(data.raw, "revenue", "currency")
		b.setRevenue(amount, currency)
	}
	return ""
}

// flatten makes the members of an object properties: those of an object in it with a dotted key, an array
// as its JSON. It cuts values to maxPropValue and leaves out null and what is nested deeper than levels.
//
// It stops at the first key over maxPropKey. Else a long key of an object with many members would be
// copied for each.
func flatten(list *propList, prefix, raw string, levels int) {
	eachMember(raw, func(key string, v value) {
		if list.tooLong || levels == 0 || v.kind == kindNull {
			return
		}
		if prefix != "" {
			key = prefix + "." + key
		}
		switch v.kind {
		case kindObject:
			if list.tooLong = len(key) > maxPropKey; !list.tooLong {
				flatten(list, key, v.raw, levels-1)
			}
		case kindString:
			list.put(key, Truncate(v.text(), maxPropValue))
		default:
			list.put(key, Truncate(v.raw, maxPropValue))
		}
	})
}
