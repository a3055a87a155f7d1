package query

import (
	"slices"
	"strings"
)

// A dimension is a thing to group or filter by. Its column and blank come from the table below and from nowhere else: they
// are written into SQL as they are.
type dimension struct {
	Name   string
	Column string // of `events`; "" for event:props:… and time
	Blank  string // what an empty value is called
	Visit  bool   // the value belongs to the visit: that of its first event, or of its first or last page view
	Prop   string // key of event:props:…
	Grain  grain  // of time
}

// Direct is what the source of visits that came directly is called.
const Direct = "Direct / None"

const (
	notSet  = "(not set)"
	noProp  = "(none)"
	props   = "event:props:"
	maxProp = 300 // bytes of a property's key
)

var dimensions = func() map[string]dimension {
	m := map[string]dimension{}
	for _, d := range []dimension{
		{Name: "event:page", Column: "path", Blank: notSet},
		{Name: "event:name", Column: "name", Blank: notSet},
		{Name: "event:hostname", Column: "hostname", Blank: notSet},
		{Name: "visit:entry_page", Column: "entry_page", Blank: notSet, Visit: true},
		{Name: "visit:exit_page", Column: "exit_page", Blank: notSet, Visit: true},
		{Name: "visit:source", Column: "source", Blank: Direct, Visit: true},
		{Name: "visit:channel", Column: "channel", Blank: notSet, Visit: true},
		{Name: "visit:referrer", Column: "referrer", Blank: Direct, Visit: true},
		{Name: "visit:utm_source", Column: "utm_source", Blank: notSet, Visit: true},
		{Name: "visit:utm_medium", Column: "utm_medium", Blank: notSet, Visit: true},
		{Name: "visit:utm_campaign", Column: "utm_campaign", Blank: notSet, Visit: true},
		{Name: "visit:utm_content", Column: "utm_content", Blank: notSet, Visit: true},
		{Name: "visit:utm_term", Column: "utm_term", Blank: notSet, Visit: true},
		{Name: "visit:country", Column: "country", Blank: notSet, Visit: true},
		{Name: "visit:region", Column: "region", Blank: notSet, Visit: true},
		{Name: "visit:city", Column: "city", Blank: notSet, Visit: true},
		{Name: "visit:city_name", Column: "city", Blank: notSet, Visit: true}, // what Plausible calls the city by its name
		{Name: "visit:screen", Column: "screen", Blank: notSet, Visit: true},
		{Name: "visit:device", Column: "device", Blank: notSet, Visit: true},
		{Name: "visit:browser", Column: "browser", Blank: notSet, Visit: true},
		{Name: "visit:browser_version", Column: "browser_version", Blank: notSet, Visit: true},
		{Name: "visit:os", Column: "os", Blank: notSet, Visit: true},
		{Name: "visit:os_version", Column: "os_version", Blank: notSet, Visit: true},
		{Name: "time", Grain: auto},
		{Name: "time:second", Grain: second},
		{Name: "time:minute", Grain: minute},
		{Name: "time:hour", Grain: hour},
		{Name: "time:day", Grain: day},
		{Name: "time:week", Grain: week},
		{Name: "time:month", Grain: month},
	} {
		m[d.Name] = d
	}
	return m
}()

// lookup finds a dimension by the name that a request gives.
func lookup(name string) (dimension, bool) {
	if d, ok := dimensions[name]; ok {
		return d, true
	}
	if key, ok := strings.CutPrefix(name, props); ok && key != "" && len(key) <= maxProp {
		return dimension{Name: name, Prop: key, Blank: noProp}, true
	}
	return dimension{}, false
}

// A Metric is a number to ask for.
type Metric string

// What can be asked for.
const (
	Visitors      Metric = "visitors"        // distinct visitors with a page view or custom event
	Visits        Metric = "visits"          // visits that began in the range
	Pageviews     Metric = "pageviews"       // page views
	Events        Metric = "events"          // page views and custom events
	ViewsPerVisit Metric = "views_per_visit" // page views of the visits by visits, two decimals; null without a visit
	BounceRate    Metric = "bounce_rate"     // whole percent of the visits; null without a visit
	VisitDuration Metric = "visit_duration"  // mean, whole seconds; null without a visit
	Percentage    Metric = "percentage"      // of all visitors that pass the filters, one decimal; null without a visitor
)

var metrics = []Metric{Visitors, Visits, Pageviews, Events, ViewsPerVisit, BounceRate, VisitDuration, Percentage}

func (m Metric) known() bool { return slices.Contains(metrics, m) }

// ofVisits tells metrics that count visits from those that count events.
func (m Metric) ofVisits() bool {
	return m == Visits || m == ViewsPerVisit || m == BounceRate || m == VisitDuration
}

// column is the name in SQL: a percentage is the visitors until the total is known, and orders rows the same way.
func (m Metric) column() string {
	if m == Percentage {
		return string(Visitors)
	}
	return string(m)
}
