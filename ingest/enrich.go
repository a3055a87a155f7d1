package ingest

import (
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
	optedOut bool // they asked not to be counted, and that is honoured
}

func (s *Service) sender(r *http.Request) sender {
	ua := cut(strings.ToValidUTF8(r.UserAgent(), "\uFFFD"), maxAgent)
	return sender{addr: clientAddr(r, s.cfg.TrustedProxies), agent: ua, language: language(r.Header.Get("Accept-Language")), says: s.agents.parse(ua),
		optedOut: s.cfg.RespectOptOut && optsOut(r.Header)}
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
	d.Event = event.Event{
		Kind: b.kind, Name: b.name,
		Site: site, Hostname: b.hostname, Path: b.page.pathname(b.fragment),
		Country: s.countries.code(from.addr),
		Device:  from.says.device, Browser: from.says.browser, BrowserVersion: from.says.browserVersion,
		OS: from.says.os, OSVersion: from.says.osVersion, Language: from.language,
		Props: b.props, RevenueMicros: b.revenueMicros, Currency: b.currency,
		ScrollDepth: b.scrollDepth, EngagedMS: b.engagedMS, Interactive: b.interactive,
	}
	d.Referrer, d.Source = s.sources.referral(b.referrer, b.hostname)
	var source, ref string
	for pair := range strings.SplitSeq(b.page.query, "&") {
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
			source = decode(v, true)
		case "ref":
			ref = decode(v, true)
		}
	}
	for _, tag := range [...]string{d.UTMSource, source, ref} {
		if tag != "" {
			d.Source = s.sources.tagged(tag)
			break
		}
	}
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
