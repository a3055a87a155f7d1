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
// `COPY (SELECT …) TO … CSV HEADER` of a server of one's own; or a dump of the whole database. A visitor is a
// session_id; visits are cut by our rules, not by visit_id.
func parseUmami(r *run, m member, in io.Reader) error {
	head, err := m.head()
	if err != nil {
		return err
	}
	if isDump(head) {
		return newUmamiDump(r, m, in).read()
	}
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
		h, ok, err := r.umamiHit(t.get)
		if err == nil && ok {
			r.report.Rows++
			a := umamiAttributes(t.get)
			h.Country, h.Region, h.City, h.Language = a.Country, a.Region, a.City, a.Language
			h.Browser, h.OS, h.Device = a.Browser, a.OS, a.Device
			h.Attributes = h.clone()
			err = r.days.add(h)
		}
		if err != nil {
			return failed(m, t.line, "%w", err)
		}
	}
	return t.err()
}

// umamiHit reads an event without what its session says; false: it is of a kind that isn't imported.
func (r *run) umamiHit(get func(string) string) (h hit, ok bool, err error) {
	h = hit{visitor: r.visitors.of(get("sessionid"))}
	if h.at, err = umamiTime(get("createdat")); err != nil {
		return h, false, err
	}
	switch get("eventtype") {
	case umamiView:
	case umamiCustom:
		h.name = cmp.Or(strings.Clone(get("eventname")), "custom")
	default:
		r.skip(skipKind)
		return h, false, nil
	}
	p := Page{Hostname: get("hostname"), Path: get("urlpath")}
	if q := get("urlquery"); q != "" {
		p.Path += "?" + q
	}
	if domain := get("referrerdomain"); domain != "" {
		p.Referrer = "https://" + domain + get("referrerpath")
	}
	h.path, h.Attributes, _ = r.cfg.Classify.Classify(p)
	h.hostname = strings.Clone(strings.TrimPrefix(p.Hostname, "www."))
	h.UTMSource, h.UTMMedium = cmp.Or(get("utmsource"), h.UTMSource), cmp.Or(get("utmmedium"), h.UTMMedium)
	h.UTMCampaign = cmp.Or(get("utmcampaign"), h.UTMCampaign)
	h.UTMContent, h.UTMTerm = cmp.Or(get("utmcontent"), h.UTMContent), cmp.Or(get("utmterm"), h.UTMTerm)
	return h, true, nil
}

// umamiAttributes reads what a session says of the visitor.
func umamiAttributes(get func(string) string) (a Attributes) {
	a.Country, a.City, a.Language = get("country"), get("city"), get("language")
	a.Region = cmp.Or(get("region"), get("subdivision1"))
	a.Browser, a.OS = browserName(get("browser")), systemName(get("os"))
	if a.Device = titled(get("device")); a.Device == "Laptop" {
		a.Device = "Desktop"
	}
	return a
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
