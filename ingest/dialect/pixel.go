package dialect

import (
	"strings"

	"nowcast/internal/event"
)

// ParsePixel reads the query of a tracking pixel, which counts a page view: site, url and referrer. The
// default of url is referer, the page that shows the pixel; the default of site is the host of url. One
// of the results is nil.
//
// The package net/url silently leaves out a parameter with a lone %, so it isn't used here.
func ParsePixel(query, referer string) (*Beacon, FieldErrors) {
	b, errs := &Beacon{Kind: event.Pageview, Name: "pageview", Interactive: true}, FieldErrors(nil)
	var site, page string
	for pair := range strings.SplitSeq(strings.ToValidUTF8(query, "\uFFFD"), "&") {
		key, v, _ := strings.Cut(pair, "=")
		switch v = PercentDecode(v, true); key {
		case "site":
			site = v
		case "url":
			page = v
		case "referrer":
			b.Referrer = ParseLink(Truncate(v, MaxURL))
		}
	}
	if page == "" {
		page = strings.ToValidUTF8(referer, "\uFFFD")
	}
	if page == "" {
		errs.add("url", "is required, since the browser sent no Referer")
		return nil, errs
	}
	b.setURL(page, &errs)
	if site == "" {
		site = b.Page.Host
	}
	b.setDomains(site, &errs)
	if errs != nil {
		return nil, errs
	}
	return b, nil
}
