package main

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/dialect"
	"nowcast/ingest/enrich"
	"nowcast/internal/event"
	"nowcast/internal/imports"
)

// classifier gives hits of other tools the values that ingest gives to events.
type classifier struct {
	site     string
	enricher *enrich.Enricher
	header   http.Header // of the current hit
	event    event.Event
}

func newClassifier(site string, log *slog.Logger) (*classifier, error) {
	e, err := enrich.New(enrich.Config{}, log, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	return &classifier{site: site, enricher: e, header: http.Header{}}, nil
}

// Classify implements imports.Classifier.
func (c *classifier) Classify(p imports.Page) (path string, a imports.Attributes, robot bool) {
	hostname := p.Hostname
	if hostname == "" {
		hostname = c.site
	}
	b := dialect.Beacon{Kind: event.Pageview, Name: "pageview", ScreenWidth: p.ScreenWidth,
		Hostname: dialect.TrimWWW(hostname), Page: dialect.ParseLink("https://" + hostname + p.Path),
		Referrer: dialect.ParseLink(p.Referrer)}
	c.header.Set("User-Agent", p.UserAgent)
	c.header.Set("Accept-Language", p.Language)
	facts := c.enricher.Facts(c.header, p.Address)
	ev := &c.event
	c.enricher.Fill(ev, &b, &facts, c.site)
	return ev.Path, imports.Attributes{Source: ev.Source, Channel: ev.Channel, Referrer: ev.Referrer,
		UTMSource: ev.UTMSource, UTMMedium: ev.UTMMedium, UTMCampaign: ev.UTMCampaign,
		UTMContent: ev.UTMContent, UTMTerm: ev.UTMTerm, Country: ev.Country, Region: ev.Region, City: ev.City,
		Device: ev.Device, Screen: ev.Screen, Browser: ev.Browser, BrowserVersion: ev.BrowserVersion,
		OS: ev.OS, OSVersion: ev.OSVersion, Language: ev.Language,
	}, facts.Bot || c.enricher.FromSpammer(&b)
}
