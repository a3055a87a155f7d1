package ingest

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"

	"nowcast/internal/event"
)

// sender is what the request says about who sent it.
type sender struct {
	addr     netip.Addr
	agent    string // the user agent, cut
	language string
	says     agent
	early    bool // a page that nobody looks at yet
	optedOut bool // they asked not to be counted, and that is honoured
}

func (s *Service) sender(r *http.Request, addr netip.Addr) sender {
	ua := cut(strings.ToValidUTF8(r.UserAgent(), "\uFFFD"), maxAgent)
	return sender{addr: addr, agent: ua, language: language(r.Header.Get("Accept-Language")), says: s.agents.parse(ua),
		early: prefetched(r.Header), optedOut: s.cfg.RespectOptOut && optsOut(r.Header)}
}

// optsOut is Do Not Track, or Global Privacy Control.
func optsOut(h http.Header) bool { return h.Get("Dnt") == "1" || h.Get("Sec-Gpc") == "1" }

// language is the first tag of Accept-Language.
func language(header string) string {
	tag, _, _ := strings.Cut(header, ",")
	tag, _, _ = strings.Cut(tag, ";")
	tag = strings.TrimSpace(tag)
	if len(tag) > 20 {
		return ""
	}
	for i := range len(tag) {
		if c := tag[i]; c != '-' && c-'0' > 9 && (c|0x20)-'a' > 25 {
			return ""
		}
	}
	return tag
}

// fill makes a beacon an event of a site: all but its time and what depends on that.
func (s *Service) fill(d *draft, b *beacon, from *sender, site string) {
	d.who = appendIdentity(d.who[:0], site, from.addr, from.agent)
	where := s.places.of(from.addr)
	d.Event = event.Event{
		Kind: b.kind, Name: b.name,
		Site: site, Hostname: b.hostname, Path: b.page.pathname(b.fragment),
		Country: where.country, Region: where.region, City: where.city,
		Device: from.says.device, Browser: from.says.browser, BrowserVersion: from.says.browserVersion,
		OS: from.says.os, OSVersion: from.says.osVersion, Language: from.language,
		Props: b.props, RevenueMicros: b.revenueMicros, Currency: b.currency,
		ScrollDepth: b.scrollDepth, EngagedMS: b.engagedMS, Interactive: b.interactive,
	}
	d.Screen = screenClass(b.width)
	s.acquire(d, b)
}

// acquire says where a visitor came from, and by which channel. Of the page's query it reads the parameters below and nothing else; the
// rest of it is kept nowhere.
func (s *Service) acquire(d *draft, b *beacon) {
	var from source
	var a acquisition
	d.Referrer, from = s.sources.referral(&b.referrer, b.hostname)
	var tag, ref string
	for query := b.page.query; query != ""; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, v, _ := strings.Cut(pair, "=")
		switch key {
		case "utm_source":
			d.UTMSource = decode(v, true)
		case "utm_medium":
			d.UTMMedium = decode(v, true)
		case "utm_campaign":
			d.UTMCampaign = decode(v, true)
		case "utm_content":
			d.UTMContent = decode(v, true)
		case "utm_term":
			d.UTMTerm = decode(v, true)
		case "source":
			tag = decode(v, true)
		case "ref":
			ref = decode(v, true)
		default:
			if found, ok := clickOf(key); ok && v != "" && !a.click.paid {
				a.click = found
			}
		}
	}
	if word := cmp.Or(d.UTMSource, tag, ref); word != "" {
		from = s.sources.tagged(word)
	} else if from.name == "" {
		from = source{a.click.source, a.click.medium}
	}
	d.Source = from.name
	a.source, a.medium, a.utmSource, a.utmMedium, a.utmCampaign = from.name, from.medium, d.UTMSource, d.UTMMedium, d.UTMCampaign
	d.Channel = a.channel()
}

// stamp gives a draft its time, and its visitor the ids of that day.
func (s *Service) stamp(d *draft, at int64) (err error) {
	var ok bool
	d.Time = at
	if d.Visitor, d.PreviousVisitor, ok = s.salts.ids(at, d.who); !ok {
		return errNoSalt
	}
	return nil
}
