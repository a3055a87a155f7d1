package imports

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// The kinds of Umami's events.
const (
	umamiView   = "1"
	umamiCustom = "2"
)

// parseUmami reads the rows of Umami's table website_event, joined with session: its export in the cloud, or
// `COPY (SELECT …) TO … CSV HEADER` of a server of one's own. A visitor is a session_id; visits are cut
// by our rules, not by visit_id.
func parseUmami(r *run, m member, in io.Reader) error {
	if !strings.HasSuffix(strings.TrimSuffix(m.base(), ".gz"), ".csv") {
		r.skip("the file is no CSV file")
		return nil
	}
	t, err := newTable(m, in, 0)
	if err != nil {
		return err
	}
	if !t.has("eventtype") { // session_data, event_data
		r.skip("the file isn't website_event")
		return nil
	}
	if err := t.require("sessionid", "createdat", "urlpath"); err != nil {
		return err
	}
	for t.next() {
		if err := r.canceled(); err != nil {
			return err
		}
		at, err := umamiTime(t.get("createdat"))
		if err != nil {
			return failed(m, t.line, "%w", err)
		}
		h := hit{at: at, visitor: r.visitors.of(t.get("sessionid"))}
		switch kind := t.get("eventtype"); kind {
		case umamiView:
		case umamiCustom:
			if h.name = t.text("eventname"); h.name == "" {
				h.name = "custom"
			}
		default:
			r.skip(skipKind)
			continue
		}
		r.umamiPage(t, &h)
		r.report.Rows++
		if err := r.days.add(h); err != nil {
			return failed(m, t.line, "%w", err)
		}
	}
	return t.err()
}

// umamiPage sets what a row says of the page and of the visitor.
func (r *run) umamiPage(t *table, h *hit) {
	p := Page{Hostname: t.get("hostname"), Path: t.get("urlpath"), Language: t.get("language")}
	if q := t.get("urlquery"); q != "" {
		p.Path += "?" + q
	}
	if domain := t.get("referrerdomain"); domain != "" {
		p.Referrer = "https://" + domain + t.get("referrerpath")
	}
	var a Attributes
	h.path, a, _ = r.cfg.Classify.Classify(p)
	h.hostname = strings.TrimPrefix(p.Hostname, "www.")
	a.UTMSource = cmp.Or(t.get("utmsource"), a.UTMSource)
	a.UTMMedium = cmp.Or(t.get("utmmedium"), a.UTMMedium)
	a.UTMCampaign = cmp.Or(t.get("utmcampaign"), a.UTMCampaign)
	a.UTMContent, a.UTMTerm = cmp.Or(t.get("utmcontent"), a.UTMContent), cmp.Or(t.get("utmterm"), a.UTMTerm)
	a.Country, a.Region, a.City = t.get("country"), t.get("region"), t.get("city")
	if a.Region == "" {
		a.Region = t.get("subdivision1")
	}
	a.Browser, a.OS = browserName(t.get("browser")), systemName(t.get("os"))
	if a.Device = titled(t.get("device")); a.Device == "Laptop" {
		a.Device = "Desktop"
	}
	h.Attributes = a.clone()
}

// umamiTime reads the times of ClickHouse, PostgreSQL and MySQL, which are in UTC where they have no zone.
func umamiTime(s string) (time.Time, error) {
	for _, layout := range [...]string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07",
		time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s is no time: want it as 2026-01-31 23:59:59", quoted(s))
}
