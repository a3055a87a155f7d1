package imports

import (
	"io"
	"regexp"
)

// plausibleDim is a column that is a dimension.
type plausibleDim struct {
	column, dim string
	lost        Set // metrics that don't add up over the other columns of the table
}

// plausibleTables are the tables of https://plausible.io/docs/csv-import, with the columns that are
// dimensions. A table without any has the totals.
var plausibleTables = map[string][]plausibleDim{
	"imported_visitors": nil,
	"imported_sources": {{column: "source", dim: "visit:source"}, {column: "referrer", dim: "visit:referrer"},
		{column: "utmsource", dim: "visit:utm_source"}, {column: "utmmedium", dim: "visit:utm_medium"},
		{column: "utmcampaign", dim: "visit:utm_campaign"}, {column: "utmcontent", dim: "visit:utm_content"},
		{column: "utmterm", dim: "visit:utm_term"}},
	"imported_pages": {{column: "page", dim: "event:page"},
		{column: "hostname", dim: "event:hostname", lost: setOf(Visitors, Visits)}},
	"imported_entry_pages":   {{column: "entrypage", dim: "visit:entry_page"}},
	"imported_exit_pages":    {{column: "exitpage", dim: "visit:exit_page"}},
	"imported_custom_events": {{column: "name", dim: "event:name"}},
	// cities are numbers of GeoNames there, and names here
	"imported_locations": {{column: "country", dim: "visit:country"},
		{column: "region", dim: "visit:region"}},
	"imported_devices": {{column: "device", dim: "visit:device"}},
	"imported_browsers": {{column: "browser", dim: "visit:browser"},
		{column: "browserversion", dim: "visit:browser_version"}},
	"imported_operating_systems": {{column: "operatingsystem", dim: "visit:os"},
		{column: "operatingsystemversion", dim: "visit:os_version"}},
}

var plausibleName = regexp.MustCompile(`^(imported_[a-z_]+?)(_\d{8}_\d{8})?\.csv(\.gz)?$`)

// plausibleTable returns the table that a file's name says, "" if it is none.
func plausibleTable(m member) string {
	name := plausibleName.FindStringSubmatch(m.base())
	if name == nil {
		return ""
	}
	if _, ok := plausibleTables[name[1]]; !ok {
		return ""
	}
	return name[1]
}

func parsePlausible(r *run, m member, in io.Reader) error {
	name := plausibleTable(m)
	if name == "" {
		r.skip("the file's name is that of no table of Plausible")
		return nil
	}
	t, err := newTable(m, in, 0)
	if err != nil {
		return err
	}
	if err := t.require("date"); err != nil {
		return err
	}
	visits := "visits"
	switch {
	case t.has("entrances"):
		visits = "entrances"
	case name == "imported_exit_pages":
		visits = "exits"
	}
	for t.next() {
		if err := r.canceled(); err != nil {
			return err
		}
		day, err := t.day("date")
		if err != nil {
			return err
		}
		s := Sum{Day: day}
		err = t.counts(&s, []tableMetric{{Visitors, "visitors", 1}, {Visits, visits, 1},
			{Pageviews, "pageviews", 1}, {Events, "events", 1}, {Bounces, "bounces", 1},
			{Duration, "visitduration", 1000}})
		if err != nil {
			return err
		}
		if name == "imported_exit_pages" || name == "imported_pages" {
			s.drop(setOf(Bounces, Duration))
		}
		r.report.Rows++
		if err := r.addPlausible(t, s, plausibleTables[name]); err != nil {
			return err
		}
	}
	return t.err()
}

func (r *run) addPlausible(t *table, s Sum, dims []plausibleDim) error {
	if dims == nil {
		return r.add(s)
	}
	for _, d := range dims {
		if !t.has(d.column) {
			continue
		}
		of := s
		of.Dim, of.Value = d.dim, plausibleValue(d.dim, t.get(d.column))
		if of.drop(d.lost); of.Known == 0 {
			continue
		}
		if err := r.add(of); err != nil {
			return err
		}
	}
	return nil
}

// plausibleValue is our name of a value.
func plausibleValue(dim, v string) string {
	switch {
	case v == "Direct / None" && (dim == "visit:source" || dim == "visit:referrer"), v == "(not set)":
		return ""
	case v == "Laptop" && dim == "visit:device":
		return "Desktop" // a laptop is a class of screens here
	case dim == "visit:browser":
		return browserName(v)
	case dim == "visit:os":
		return systemName(v)
	}
	return v
}

// tableMetric is a column that counts a metric, in units of unit.
type tableMetric struct {
	metric Metric
	column string
	unit   uint64
}

// counts sets the metrics whose columns the table has.
func (t *table) counts(s *Sum, list []tableMetric) error {
	for _, x := range list {
		if s.Known.Has(x.metric) || !t.has(x.column) {
			continue
		}
		n, err := t.number(x.column)
		if err != nil {
			return err
		}
		s.set(x.metric, n*x.unit)
	}
	return nil
}

// drop makes metrics unknown.
func (s *Sum) drop(lost Set) {
	for m := range metrics {
		if lost.Has(m) {
			s.Known &^= 1 << m
			s.Counts[m] = 0
		}
	}
}
