package imports

import (
	"io"
	"net/url"
	"strings"
)

// matomoKind says what a report of Matomo's API is of.
type matomoKind struct {
	dim     string
	metrics []tableMetric
	group   string // of reports that share a dimension: each has other values
}

// Metrics of a visit, by the names of the API and by those of reports in English.
var matomoVisits = []tableMetric{{Visitors, "nbuniqvisitors", 1}, {Visitors, "uniquevisitors", 1},
	{Visits, "nbvisits", 1}, {Visits, "visits", 1}, {Bounces, "bouncecount", 1}, {Bounces, "bounces", 1},
	{Duration, "sumvisitlength", 1000}, {Duration, "totaltimespentbyvisitorsinseconds", 1000}}

// matomoReports are the reports by the name of the API's method, which the file's name has.
var matomoReports = map[string]matomoKind{
	"VisitsSummary.get": {"", matomoVisits, ""},
	"Actions.get":       {"", []tableMetric{{Pageviews, "nbpageviews", 1}, {Pageviews, "pageviews", 1}}, ""},
	"Actions.getPageUrls": {"event:page", []tableMetric{{Visitors, "nbuniqvisitors", 1},
		{Visitors, "uniquevisitors", 1}, {Visits, "nbvisits", 1}, {Visits, "uniquepageviews", 1},
		{Pageviews, "nbhits", 1}, {Pageviews, "pageviews", 1}}, ""},
	"Actions.getEntryPageUrls": {"visit:entry_page", []tableMetric{{Visits, "entrynbvisits", 1},
		{Visits, "entrances", 1}, {Bounces, "entrybouncecount", 1}, {Bounces, "bounces", 1},
		{Duration, "entrysumvisitlength", 1000}}, ""},
	"Actions.getExitPageUrls": {"visit:exit_page", []tableMetric{{Visits, "exitnbvisits", 1},
		{Visits, "exits", 1}}, ""},
	"Events.getAction":               {"event:name", matomoEvents, ""},
	"Referrers.getWebsites":          {"visit:source", matomoVisits, "Websites"},
	"Referrers.getSearchEngines":     {"visit:source", matomoVisits, "SearchEngines"},
	"Referrers.getSocials":           {"visit:source", matomoVisits, "Socials"},
	"Referrers.getReferrerType":      {"visit:source", matomoVisits, matomoTypes}, // its direct visits
	"Referrers.getCampaigns":         {"visit:utm_campaign", matomoVisits, ""},
	"UserCountry.getCountry":         {"visit:country", matomoVisits, ""},
	"UserCountry.getCity":            {"visit:city", matomoVisits, ""},
	"UserLanguage.getLanguage":       {"visit:language", matomoVisits, ""},
	"UserLanguage.getLanguageCode":   {"visit:language", matomoVisits, ""},
	"DevicesDetection.getType":       {"visit:device", matomoVisits, ""},
	"DevicesDetection.getBrowsers":   {"visit:browser", matomoVisits, ""},
	"DevicesDetection.getOsFamilies": {"visit:os", matomoVisits, ""},
}

var matomoEvents = []tableMetric{{Visitors, "nbuniqvisitors", 1}, {Visits, "nbvisits", 1},
	{Events, "nbevents", 1}, {Events, "totalevents", 1}}

// matomoTypes is the group of the report of types of referrers.
const matomoTypes = "types"

// matomoReport returns the report that a file's name says: the longest method that it has.
func matomoReport(m member) (r matomoKind, ok bool) {
	length := 0
	for method, report := range matomoReports {
		if len(method) > length && strings.Contains(m.base(), method) {
			r, ok, length = report, true, len(method)
		}
	}
	return r, ok
}

// parseMatomo reads a report by day: module=API&method=…&format=CSV&period=day&date=2025-01-01,2025-12-31,
// with flat=1 where there are subtables and filter_limit=-1. The first column is the day.
func parseMatomo(r *run, m member, in io.Reader) error {
	report, ok := matomoReport(m)
	if !ok {
		r.skip("the file isn't named after a report that is imported, such as VisitsSummary.get")
		return nil
	}
	t, err := newTable(m, in, 0)
	if err != nil {
		return err
	}
	if !t.has("date") {
		return failed(m, 1, "there is no column date: ask for period=day and a range of days, such as "+
			"date=2025-01-01,2025-12-31")
	}
	if report.dim != "" {
		if err := t.require("label"); err != nil {
			return err
		}
	}
	r.sums.group = report.group
	for t.next() {
		if err := r.canceled(); err != nil {
			return err
		}
		if strings.TrimSpace(t.get("date")) == "" {
			r.skip(skipNoDay)
			continue
		}
		s := Sum{Dim: report.dim}
		if s.Day, err = t.day("date"); err != nil {
			return err
		}
		if err := t.counts(&s, report.metrics); err != nil {
			return err
		}
		if s.Known == 0 {
			return failed(m, t.line, "there is no column that counts")
		}
		if report.group == matomoTypes {
			s.Value, ok = "", strings.HasPrefix(t.get("label"), "Direct")
		} else {
			s.Value, ok = r.matomoValue(t, report.dim)
		}
		if !ok {
			r.skip(skipKind)
			continue
		}
		r.report.Rows++
		if err := r.add(s); err != nil {
			return err
		}
	}
	return t.err()
}

// matomoValue is our name of a row's label; false: it stands for nothing here.
func (r *run) matomoValue(t *table, dim string) (string, bool) {
	label := strings.TrimSpace(t.get("label"))
	switch label {
	case "Others", "-1":
		return "", false
	case "Unknown", "unknown", "xx", "-":
		return "", true
	}
	switch dim {
	case "event:page", "visit:entry_page", "visit:exit_page":
		if u, err := url.Parse(t.get("metadataurl")); err == nil && u.Host != "" {
			path := u.EscapedPath()
			if path == "" {
				path = "/"
			}
			return path, true
		}
		path, _, _ := strings.Cut(label, "?")
		if path == "/index" {
			path = "/"
		}
		return path, strings.HasPrefix(path, "/") // others are folders, or pages not defined
	case "visit:source":
		return r.source(label), true
	case "visit:country":
		code := t.get("metadatacode")
		return strings.ToUpper(code), len(code) == 2
	case "visit:city":
		city, _, _ := strings.Cut(label, ",")
		return city, true
	case "visit:device":
		switch l := strings.ToLower(label); l {
		case "desktop", "tablet":
			return titled(l), true
		case "smartphone", "phablet", "feature phone":
			return "Mobile", true
		}
		return "", true
	case "visit:browser":
		return browserName(label), true
	case "visit:os":
		return systemName(label), true
	case "visit:language":
		code := t.get("metadatacode")
		if code == "" {
			code = label
		}
		return code, len(code) <= 20
	}
	return label, true
}
