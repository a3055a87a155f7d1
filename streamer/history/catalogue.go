package history

import (
	"slices"
	"strings"

	"nowcast/streamer/api"
)

// A dimension is a property to group or filter by. Its column and label come from the table below and from
// nowhere else, because they are written into SQL unquoted.
type dimension struct {
	Name       string
	Column     string // of hits and visits; "" for event:props:… and time
	EmptyLabel string // the label of an empty value
	Visit      bool   // the value is the visit's: that of its first event, or of its first or last page view
	Prop       string // key of event:props:…
	Grain      grain  // of time
	Names      string // where sealed rows have keys: in which of `names` their strings are
	Stored     string // the name of its sums, where it isn't the Column
}

// stored is the name of the dimension's sums; "": it has none, or those of everything.
func (d dimension) stored() string {
	if d.Stored != "" {
		return d.Stored
	}
	return d.Column
}

// names is in which of `names` the strings of the dimension's sums are.
func (d dimension) names() string {
	if d.Names != "" {
		return d.Names
	}
	return d.Column
}

const (
	page      = "event:page"
	entryPage = "visit:entry_page"

	notSet  = "(not set)"
	noProp  = "(none)"
	props   = "event:props:"
	maxProp = 300 // bytes of a property's key
)

var dimensions = func() map[string]dimension {
	m := map[string]dimension{}
	for _, d := range []dimension{
		{Name: page, Column: "page", EmptyLabel: notSet, Names: "page"},
		{Name: "event:name", Column: "name", EmptyLabel: notSet},
		{Name: "event:hostname", Column: "hostname", EmptyLabel: notSet},
		{Name: entryPage, Column: "entry", EmptyLabel: notSet, Visit: true, Names: "page",
			Stored: "entry_page"},
		{Name: "visit:exit_page", Column: "exit", EmptyLabel: notSet, Visit: true, Names: "page",
			Stored: "exit_page"},
		{Name: "visit:source", Column: "source", EmptyLabel: api.DirectSource, Visit: true},
		{Name: "visit:channel", Column: "channel", EmptyLabel: notSet, Visit: true},
		{Name: "visit:referrer", Column: "referrer", EmptyLabel: api.DirectSource, Visit: true,
			Names: "referrer"},
		{Name: "visit:utm_source", Column: "utm_source", EmptyLabel: notSet, Visit: true},
		{Name: "visit:utm_medium", Column: "utm_medium", EmptyLabel: notSet, Visit: true},
		{Name: "visit:utm_campaign", Column: "utm_campaign", EmptyLabel: notSet, Visit: true},
		{Name: "visit:utm_content", Column: "utm_content", EmptyLabel: notSet, Visit: true},
		{Name: "visit:utm_term", Column: "utm_term", EmptyLabel: notSet, Visit: true},
		{Name: "visit:country", Column: "country", EmptyLabel: notSet, Visit: true},
		{Name: "visit:region", Column: "region", EmptyLabel: notSet, Visit: true},
		{Name: "visit:city", Column: "city", EmptyLabel: notSet, Visit: true},
		{Name: "visit:city_name", Column: "city", EmptyLabel: notSet, Visit: true}, // the name of Plausible
		{Name: "visit:screen", Column: "screen", EmptyLabel: notSet, Visit: true},
		{Name: "visit:device", Column: "device", EmptyLabel: notSet, Visit: true},
		{Name: "visit:browser", Column: "browser", EmptyLabel: notSet, Visit: true},
		{Name: "visit:browser_version", Column: "browser_version", EmptyLabel: notSet, Visit: true},
		{Name: "visit:os", Column: "os", EmptyLabel: notSet, Visit: true},
		{Name: "visit:os_version", Column: "os_version", EmptyLabel: notSet, Visit: true},
		{Name: "visit:language", Column: "language", EmptyLabel: notSet, Visit: true},
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

// lookup finds a dimension by its name in a query.
func lookup(name string) (dimension, bool) {
	if d, ok := dimensions[name]; ok {
		return d, true
	}
	if key, ok := strings.CutPrefix(name, props); ok && key != "" && len(key) <= maxProp {
		return dimension{Name: name, Prop: key, EmptyLabel: noProp}, true
	}
	return dimension{}, false
}

// A Metric is a number that a query asks for.
type Metric string

// The metrics.
const (
	Visitors  Metric = "visitors"  // distinct visitors with a page view or custom event
	Visits    Metric = "visits"    // visits that began in the range
	Pageviews Metric = "pageviews" // page views
	Events    Metric = "events"    // page views and custom events
	// page views of the visits by visits, two decimals; null without a visit
	ViewsPerVisit Metric = "views_per_visit"
	// whole percent of the visits, by event:page of those that entered on the page; null without a visit
	BounceRate Metric = "bounce_rate"
	// mean of the same visits as of bounce_rate, whole seconds; null without a visit
	VisitDuration Metric = "visit_duration"
	// of all visitors that pass the filters, one decimal; null without a visitor
	Percentage Metric = "percentage"
	// of all visitors that pass the filters but those of goals, percent with two decimals; null without a
	// visitor
	ConversionRate Metric = "conversion_rate"

	// Metrics of a page, which a query has to name with event:page.

	// mean of the greatest depth that each visit saw of the page, whole percent; null where none is known
	ScrollDepth Metric = "scroll_depth"
	// mean of the time that visits were engaged with the page, whole seconds; null where none is known
	TimeOnPage Metric = "time_on_page"
	// percent of the page's views with which the visit ended, one decimal; null without a view
	ExitRate Metric = "exit_rate"
)

var metrics = []Metric{
	Visitors, Visits, Pageviews, Events, ViewsPerVisit, BounceRate, VisitDuration, Percentage,
}

var pageMetrics = []Metric{ScrollDepth, TimeOnPage, ExitRate}

// allMetrics has also those that only some queries may name.
var allMetrics = slices.Concat(metrics, pageMetrics, []Metric{ConversionRate})

func (m Metric) valid() bool { return slices.Contains(allMetrics, m) }

// column is the name in SQL. A share of visitors is computed once their total is known, and orders rows the
// same.
func (m Metric) column() string {
	if m == Percentage || m == ConversionRate {
		return string(Visitors)
	}
	return string(m)
}
