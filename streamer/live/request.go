package live

import (
	"fmt"
	"strings"

	"nowcast/streamer/api"
	"nowcast/streamer/frame"
	"nowcast/streamer/hub"
)

// The limits of a request for a stream.
const (
	maxSites       = 50
	maxTop         = 100
	maxFilterBytes = 2048
	defaultTop     = 10
	defaultRate    = "1s"
)

// streamKey parses the query into a FeedKey; the caller sets Sites. The error is a sentence for the client.
func streamKey(p api.StreamEventsParams) (k hub.FeedKey, err error) {
	name := defaultRate
	if p.Rate != nil {
		name = string(*p.Rate)
	}
	var ok bool
	if k.Rate, ok = hub.ParseRate(name); !ok {
		return k, fmt.Errorf("rate has to be one of %s", strings.Join(hub.RateNames(), ", "))
	}
	k.Top = defaultTop
	if p.Top != nil {
		if k.Top = *p.Top; k.Top < 0 || k.Top > maxTop {
			return k, fmt.Errorf("top has to be 0 to %d", maxTop)
		}
	}
	if err := readFilter(&k, p); err != nil {
		return k, err
	}
	if p.Site != nil && len(*p.Site) > maxSites {
		return k, fmt.Errorf("a stream has at most %d sites; open another one for the others", maxSites)
	}
	return k, nil
}

// readFilter parses the filter. A filtered stream has no lists.
func readFilter(k *hub.FeedKey, p api.StreamEventsParams) error {
	for _, f := range []struct {
		name  string
		value *string
	}{{"page", p.Page}, {"source", p.Source}, {"country", p.Country}, {"device", p.Device}} {
		switch {
		case f.value == nil:
			continue
		case *f.value == "" || len(*f.value) > maxFilterBytes:
			return fmt.Errorf("%s has to have 1 to %d bytes", f.name, maxFilterBytes)
		case k.Filter.Name != "":
			return fmt.Errorf("send only one of page, source, country and device; " +
				"POST /api/v2/query combines filters")
		}
		k.Filter, k.ListValue, k.Top = frame.Filter{Name: f.name, Value: *f.value}, *f.value, 0
		if f.name == "source" && *f.value == api.DirectSource {
			k.ListValue = "" // the lists have an empty source for direct visits
		}
	}
	return nil
}
