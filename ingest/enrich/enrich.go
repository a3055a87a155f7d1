// Package enrich makes an event of a beacon and of what the request shows about its sender: device,
// browser and system from the user agent, country, region and city from the address, and source and
// channel of the visit from the page's URL and the referrer. It also reports
// senders that are no visitors: crawlers, prefetching browsers, referrer spam.
//
// The package is pure: an event follows from beacon, request and the data files beside this one. The only
// exception is the operator's database of places, which Run loads again when it changes. The package
// knows neither the log nor gin.
package enrich

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/dialect"
	"nowcast/internal/event"
)

// Config is what an operator decides.
type Config struct {
	// GeoFile is a database in the MaxMind format for countries, regions and cities, in place of the
	// built-in one for countries. "" means the built-in one. Run loads the file again when it is
	// replaced.
	GeoFile string
}

// Enricher makes events of beacons. It is safe for concurrent use.
type Enricher struct {
	agents   *agentParser
	places   *places
	geoFile  *geoFile // nil without Config.GeoFile
	sources  *sources
	spammers spammers
}

// New loads the data files. It fails if Config.GeoFile can't be used. A data file that the build left out
// is logged.
func New(cfg Config, log *slog.Logger, metrics prometheus.Registerer) (*Enricher, error) {
	e := &Enricher{sources: newSources(sourceList), spammers: newSpammers(spammerList)}
	var err error
	if e.places, err = newPlaces(log); err != nil {
		return nil, err
	}
	if cfg.GeoFile != "" {
		if e.geoFile, err = newGeoFile(cfg.GeoFile, e.places, log, metrics); err != nil {
			return nil, err
		}
	}
	crawlers, err := newCrawlers(log)
	if err != nil {
		return nil, err
	}
	e.agents = newAgentParser(crawlers)
	return e, nil
}

// Run keeps the database of places up to date until ctx ends.
func (e *Enricher) Run(ctx context.Context) {
	if e.geoFile != nil {
		e.geoFile.watch(ctx)
	}
}

// Facts is what a request shows about its sender.
type Facts struct {
	Addr       netip.Addr
	UserAgent  string // valid UTF-8, at most 1 KB
	Bot        bool   // the user agent is that of a crawler, or of a browser that a program drives
	Prefetched bool   // the browser loads the page in advance, unseen
	OptOut     bool   // the browser asks for no tracking: DNT: 1 or Sec-GPC: 1

	language string
	agent    agent
}

// Facts reads the header of a request from addr.
func (e *Enricher) Facts(h http.Header, addr netip.Addr) Facts {
	userAgent := dialect.Truncate(strings.ToValidUTF8(h.Get("User-Agent"), "\uFFFD"), maxUserAgent)
	a := e.agents.parse(userAgent)
	return Facts{
		Addr: addr, UserAgent: userAgent, Bot: a.bot, Prefetched: prefetched(h), OptOut: optsOut(h),
		language: dialect.LanguageTag(h.Get("Accept-Language")), agent: a,
	}
}

// optsOut reports Do Not Track or Global Privacy Control.
func optsOut(h http.Header) bool { return h.Get("Dnt") == "1" || h.Get("Sec-Gpc") == "1" }

// prefetched reports whether a browser loads the page in advance: it prefetches, prerenders or previews
// it. When the visitor opens the page, its tracker sends the beacon again, without these headers.
func prefetched(h http.Header) bool {
	for _, name := range [...]string{"Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"} {
		v := h[name]
		if len(v) == 0 {
			continue
		}
		purpose := strings.ToLower(v[0])
		for _, prefix := range [...]string{"prefetch", "prerender", "preview"} {
			if strings.HasPrefix(purpose, prefix) {
				return true
			}
		}
	}
	return false
}

// FromSpammer reports whether the referrer of a beacon is on the list of referrer spam.
func (e *Enricher) FromSpammer(b *dialect.Beacon) bool { return e.spammers.has(b.Referrer.Host) }

// Fill sets all fields of an event for a site, except for time, id and visitor.
func (e *Enricher) Fill(ev *event.Event, b *dialect.Beacon, f *Facts, site string) {
	where := e.places.find(f.Addr)
	*ev = event.Event{
		Kind: b.Kind, Name: b.Name,
		Site: site, Hostname: b.Hostname, Path: b.Page.Pathname(b.HashRouting),
		Country: where.country, Region: where.region, City: where.city,
		Device: f.agent.device, Browser: f.agent.browser, BrowserVersion: f.agent.browserVersion,
		OS: f.agent.os, OSVersion: f.agent.osVersion, Language: cmp.Or(b.Language, f.language),
		Screen: screenClass(b.ScreenWidth),
		Props:  b.Props, RevenueMicros: b.RevenueMicros, Currency: b.Currency,
		ScrollDepth: b.ScrollDepth, EngagedMS: b.EngagedMS, Interactive: b.Interactive,
	}
	e.attribute(ev, b)
}

// attribute sets referrer, source, campaign and channel of a visit. Of the page's query it reads the
// parameters below alone; no other part of a query is kept.
func (e *Enricher) attribute(ev *event.Event, b *dialect.Beacon) {
	var from source
	var a attribution
	ev.Referrer, from = e.sources.referral(&b.Referrer, b.Hostname)
	var sourceParam, refParam string
	for query := b.Page.Query; query != ""; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, v, _ := strings.Cut(pair, "=")
		switch key {
		case "utm_source":
			ev.UTMSource = dialect.PercentDecode(v, true)
		case "utm_medium":
			ev.UTMMedium = dialect.PercentDecode(v, true)
		case "utm_campaign":
			ev.UTMCampaign = dialect.PercentDecode(v, true)
		case "utm_content":
			ev.UTMContent = dialect.PercentDecode(v, true)
		case "utm_term":
			ev.UTMTerm = dialect.PercentDecode(v, true)
		case "source":
			sourceParam = dialect.PercentDecode(v, true)
		case "ref":
			refParam = dialect.PercentDecode(v, true)
		default:
			if found, ok := clickOf(key); ok && v != "" && !a.click.paid {
				a.click = found
			}
		}
	}
	if tag := cmp.Or(ev.UTMSource, sourceParam, refParam); tag != "" {
		from = e.sources.byTag(tag)
	} else if from.name == "" {
		from = source{a.click.source, a.click.medium}
	}
	ev.Source = from.name
	a.source, a.medium = from.name, from.medium
	a.utmSource, a.utmMedium, a.utmCampaign = ev.UTMSource, ev.UTMMedium, ev.UTMCampaign
	ev.Channel = a.channel()
}

// screenClass is the class of a window's width in CSS pixels, by the limits of Plausible's screen sizes.
func screenClass(width int64) string {
	switch {
	case width <= 0:
		return ""
	case width < 576:
		return "Mobile"
	case width < 992:
		return "Tablet"
	case width < 1440:
		return "Laptop"
	}
	return "Desktop"
}
