package imports

import (
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// ga4Dimensions are the dimensions of the Data API, by normalized name, also as reports and BigQuery write
// them.
var ga4Dimensions = map[string]string{
	"pagepath": "event:page", "pagepathplusquerystring": "event:page", "unifiedpagepathscreen": "event:page",
	"pagepathandscreenclass": "event:page", "hostname": "event:hostname", "eventname": "event:name",
	"landingpage": "visit:entry_page", "landingpageplusquerystring": "visit:entry_page",
	"sessionsource": "visit:source", "sessiondefaultchannelgroup": "visit:channel",
	"sessiondefaultchannelgrouping": "visit:channel", "sessionprimarychannelgroup": "visit:channel",
	"sessionmanualsource": "visit:utm_source", "sessionmanualmedium": "visit:utm_medium",
	"sessionmedium": "visit:utm_medium", "sessioncampaignname": "visit:utm_campaign",
	"sessioncampaign": "visit:utm_campaign", "sessionmanualcampaignname": "visit:utm_campaign",
	"sessionmanualterm": "visit:utm_term", "sessionmanualadcontent": "visit:utm_content",
	"countryid": "visit:country", "city": "visit:city", "devicecategory": "visit:device",
	"browser": "visit:browser", "operatingsystem": "visit:os", "operatingsystemversion": "visit:os_version",
	"languagecode": "visit:language",
}

// ga4Metrics are the columns of metrics; of those of one metric, the first that a file has counts.
var ga4Metrics = []tableMetric{{Visitors, "totalusers", 1}, {Visitors, "activeusers", 1},
	{Visitors, "users", 1}, {Visits, "sessions", 1}, {Pageviews, "screenpageviews", 1},
	{Pageviews, "views", 1}, {Pageviews, "pageviews", 1}, {Events, "eventcount", 1}}

func ga4Metric(names map[string]int) bool {
	for _, x := range ga4Metrics {
		if _, ok := names[x.column]; ok {
			return true
		}
	}
	return false
}

// parseGA4 reads a report by date and any dimensions. A file without a dimension has the totals of days.
// Where a file has several dimensions, the metrics that don't add up over them are unknown.
func parseGA4(r *run, m member, in io.Reader) error {
	t, err := newTable(m, in, '#')
	if err != nil {
		return err
	}
	if err := t.require("date"); err != nil {
		return err
	}
	dims, unknown := ga4Columns(t)
	lost := ga4Lost(dims, unknown)
	for t.next() {
		if err := r.canceled(); err != nil {
			return err
		}
		if strings.TrimSpace(t.get("date")) == "" { // the grand total
			r.skip(skipNoDay)
			continue
		}
		day, err := t.day("date")
		if err != nil {
			return err
		}
		s := Sum{Day: day}
		if err := t.ga4Counts(&s); err != nil {
			return err
		}
		r.report.Rows++
		s.drop(lost)
		if len(dims) == 0 {
			if unknown > 0 {
				r.skip("by a dimension that isn't imported")
				continue
			}
			s.drop(setOf(Events)) // Google counts session_start and the like
		}
		if err := r.addGA4(t, s, dims); err != nil {
			return err
		}
	}
	return t.err()
}

// ga4Column is a column that is a dimension.
type ga4Column struct{ name, dim string }

// ga4Columns returns the columns that are dimensions, the first of those of one dimension, and how many
// others are dimensions that aren't imported.
func ga4Columns(t *table) (dims []ga4Column, unknown int) {
	for _, name := range slices.Sorted(maps.Keys(t.columns)) {
		d, ok := ga4Dimensions[name]
		switch {
		case !ok && !ga4Ignored(name):
			unknown++
		case ok && !slices.ContainsFunc(dims, func(c ga4Column) bool { return c.dim == d }):
			dims = append(dims, ga4Column{name, d})
		}
	}
	return dims, unknown
}

func (r *run) addGA4(t *table, s Sum, dims []ga4Column) error {
	if len(dims) == 0 {
		if s.Known == 0 {
			return nil
		}
		return r.add(s)
	}
	for _, d := range dims {
		of := s
		of.Dim = d.dim
		var ok bool
		if of.Value, ok = r.ga4Value(d.dim, t.get(d.name)); !ok {
			r.skip(skipKind)
			continue
		}
		if d.dim != "event:name" {
			of.drop(setOf(Events))
		}
		if d.dim == "event:page" {
			of.drop(setOf(Bounces, Duration))
		}
		if of.Known == 0 {
			continue
		}
		if err := r.add(of); err != nil {
			return err
		}
	}
	return nil
}

// ga4Ignored reports whether a column is no dimension: the day, a metric, or what reports add.
func ga4Ignored(name string) bool {
	switch name {
	case "date", "engagedsessions", "engagementrate", "bouncerate", "averagesessionduration",
		"averagesessiondurationpersession", "userengagementduration", "newusers", "conversions", "keyevents",
		"totalrevenue", "eventvalue", "sessionsperuser", "screenpageviewspersession",
		"averageengagementtime", "averageengagementtimepersession", "eventcountperuser",
		"sessionkeyeventrate", "userkeyeventrate", "propertyid":
		return true
	}
	for _, x := range ga4Metrics {
		if x.column == name {
			return true
		}
	}
	return false
}

// ga4Lost returns the metrics that don't add up over the dimensions of a file.
func ga4Lost(dims []ga4Column, unknown int) Set {
	if len(dims)+unknown <= 1 {
		return 0
	}
	for _, d := range dims {
		if strings.HasPrefix(d.dim, "event:") {
			return setOf(Visitors, Visits, Bounces, Duration)
		}
	}
	if unknown > 0 {
		return setOf(Visitors, Visits, Bounces, Duration)
	}
	return setOf(Visitors)
}

func (t *table) ga4Counts(s *Sum) error {
	if err := t.counts(s, ga4Metrics); err != nil || !s.Known.Has(Visits) {
		return err
	}
	visits := float64(s.Counts[Visits])
	switch {
	case t.has("engagedsessions"):
		engaged, err := t.number("engagedsessions")
		if err != nil {
			return err
		}
		s.set(Bounces, s.Counts[Visits]-min(engaged, s.Counts[Visits]))
	case t.has("bouncerate"):
		rate, err := t.fraction("bouncerate")
		if err != nil {
			return err
		}
		if rate < 0 || rate > 1 {
			return failed(t.m, t.line, "a bounce rate of %g: want 0 to 1", rate)
		}
		s.set(Bounces, uint64(math.Round(rate*visits)))
	}
	if t.has("averagesessionduration") {
		mean, err := t.fraction("averagesessionduration")
		if err != nil {
			return err
		}
		if mean < 0 || mean > 1e7 {
			return failed(t.m, t.line, "an average session duration of %g s", mean)
		}
		s.set(Duration, uint64(math.Round(min(mean*visits*1000, maxCount))))
	}
	return nil
}

// ga4Value is our name of a value; false: it stands for nothing here.
func (r *run) ga4Value(dim, v string) (string, bool) {
	switch v {
	case "(not set)", "(none)", "(direct)", "(organic)", "(referral)":
		return "", true
	}
	switch dim {
	case "event:page", "visit:entry_page":
		v, _, _ = strings.Cut(v, "?")
	case "event:name":
		switch v {
		case "page_view":
			return "pageview", true
		case "session_start", "first_visit", "user_engagement":
			return "", false
		}
	case "visit:utm_medium":
		if v == "organic" || v == "referral" {
			return "", true
		}
	case "visit:source":
		return r.source(v), true
	case "visit:country":
		return strings.ToUpper(v), len(v) == 2
	case "visit:device":
		return titled(v), true
	case "visit:os":
		return systemName(v), true
	case "visit:browser":
		return browserName(v), true
	case "visit:language":
		v, _, _ = strings.Cut(strings.ToLower(v), "-")
	}
	return v, true
}
