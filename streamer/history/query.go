package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of a query. They bound the size of a statement; Config bounds its cost.
const (
	maxDimensions = 4
	maxLimit      = 10_000
	maxOffset     = 1_000_000_000
)

// Query is the body of `POST /api/v2/query`. Decoding it with encoding/json returns *Invalid where it is not
// valid by itself; Run checks what depends on the site and the time.
type Query struct {
	SiteID     string
	Metrics    []Metric
	DateRange  DateRange
	Dimensions []string
	Filters    []Filter // all of them have to hold
	OrderBy    []Order
	Include    Include
	Limit      int // 1 to 10,000; 0 is 10,000
	Offset     int
}

// Order is one key to sort the rows by: a metric or dimension of the query.
type Order struct {
	By   string
	Desc bool
}

// Include asks for more than rows.
type Include struct {
	Imports    bool // what other tools counted, where it answers the query; meta says whether it does
	TimeLabels bool // meta.time_labels: every bucket of the range, also an empty one
	TotalRows  bool // meta.total_rows: the number of rows of all pages
}

// Response is the answer. It has no rows for empty buckets or groups; without dimensions it has exactly one
// row.
type Response struct {
	Results []Row `json:"results"`
	Meta    Meta  `json:"meta"`
	Query   Echo  `json:"query"`
}

// Row has the values in the order of the query's metrics and dimensions. A nil metric is a mean of nothing.
type Row struct {
	Metrics    []*float64 `json:"metrics"`
	Dimensions []string   `json:"dimensions"`
}

// Meta is what Include asks for, and what to know about the rows.
type Meta struct {
	TimeLabels []string  `json:"time_labels,omitempty"`
	TotalRows  *uint64   `json:"total_rows,omitempty"`
	Warnings   []Warning `json:"warnings,omitempty"`
	// Where imports are asked for: whether they are included, or why not, and a sentence about that.
	ImportsIncluded   *bool  `json:"imports_included,omitempty"`
	ImportsSkipReason string `json:"imports_skip_reason,omitempty"`
	ImportsWarning    string `json:"imports_warning,omitempty"`
}

// Warning is something to know about all rows, in the form of the metric_warnings of the Plausible Stats API.
type Warning struct {
	Code    string `json:"code"`
	Warning string `json:"warning"` // a sentence for people
}

// Echo is the query as it was understood: with resolved dates, the grain of `time`, and all defaults. As a
// query of its own it gives the same rows.
type Echo struct {
	SiteID  string   `json:"site_id"`
	Metrics []Metric `json:"metrics"`
	// ISO 8601 in the site's time zone; the second one is included
	DateRange  [2]string      `json:"date_range"`
	Dimensions []string       `json:"dimensions"`
	Filters    []Filter       `json:"filters"`
	OrderBy    []Order        `json:"order_by"`
	Include    map[string]any `json:"include"`
	Pagination Page           `json:"pagination"`
}

// Page is a part of the rows.
type Page struct {
	Limit  int `json:"limit"`
	Offset int `json:"offset"`
}

// MarshalJSON writes [by, "asc"|"desc"].
func (o Order) MarshalJSON() ([]byte, error) {
	direction := "asc"
	if o.Desc {
		direction = "desc"
	}
	return json.Marshal([]string{o.By, direction})
}

// UnmarshalJSON decodes the dialect of the Plausible Stats API v2. Its errors are *Invalid.
func (q *Query) UnmarshalJSON(b []byte) error {
	*q = Query{}
	var raw struct {
		site, metrics, dates, dimensions, filters, order, include, pagination json.RawMessage
	}
	err := decodeObject("", b, fields{
		"site_id": &raw.site, "metrics": &raw.metrics, "date_range": &raw.dates,
		"dimensions": &raw.dimensions, "filters": &raw.filters, "order_by": &raw.order,
		"include": &raw.include, "pagination": &raw.pagination,
	})
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() (err error) { q.SiteID, err = decodeString("site_id", raw.site); return err },
		func() error { return q.readMetrics(raw.metrics) },
		func() error { return q.DateRange.read(raw.dates) },
		func() error { return q.readDimensions(raw.dimensions) },
		func() error { return q.readFilters(raw.filters) },
		func() error { return q.readOrder(raw.order) },
		func() error { return q.readInclude(raw.include) },
		func() error { return q.readPage(raw.pagination) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (q *Query) readMetrics(b json.RawMessage) error {
	names, err := decodeStrings("metrics", b)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return invalid("metrics", "name at least one of %s", join(metrics))
	}
	for i, n := range names {
		m := Metric(n)
		if !m.valid() {
			return invalid(element("metrics", i), "%s is not known; choose from %s", quote(n),
				join(allMetrics))
		}
		if slices.Contains(q.Metrics, m) {
			return invalid(element("metrics", i), "%s is named twice", n)
		}
		q.Metrics = append(q.Metrics, m)
	}
	return nil
}

func (q *Query) readDimensions(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	names, err := decodeStrings("dimensions", b)
	if err != nil {
		return err
	}
	if len(names) > maxDimensions {
		return invalid("dimensions", "at most %d", maxDimensions)
	}
	times := 0
	for i, n := range names {
		d, ok := lookup(n)
		if n == goalDimension && len(names) > 1 {
			return invalid(element("dimensions", i), "%s goes without another dimension", n)
		}
		if !ok && n != goalDimension {
			return invalid(element("dimensions", i), "%s is not known; see the documentation for the list, "+
				"e.g. event:page, visit:source, time:day", quote(n))
		}
		if slices.Contains(q.Dimensions, n) {
			return invalid(element("dimensions", i), "%s is named twice", quote(n))
		}
		if d.Grain != none {
			if times++; times > 1 {
				return invalid(element("dimensions", i), "at most one of time, time:second, time:minute, "+
					"time:hour, time:day, time:week, time:month")
			}
		}
		q.Dimensions = append(q.Dimensions, n)
	}
	return nil
}

func (q *Query) readFilters(b json.RawMessage) (err error) {
	r := NewFilterReader()
	r.budget.goals = true
	q.Filters, err = r.Read("filters", b)
	return err
}

func (q *Query) readOrder(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	list, err := decodeArray("order_by", b)
	if err != nil {
		return err
	}
	for i, x := range list {
		field := element("order_by", i)
		pair, err := decodeStrings(field, x)
		if err != nil {
			return err
		}
		if len(pair) != 2 || pair[1] != "asc" && pair[1] != "desc" {
			return invalid(field, `want [metric or dimension, "asc" or "desc"]`)
		}
		if !slices.Contains(q.Metrics, Metric(pair[0])) && !slices.Contains(q.Dimensions, pair[0]) {
			return invalid(field, "%s is neither in metrics nor in dimensions", quote(pair[0]))
		}
		if slices.ContainsFunc(q.OrderBy, func(o Order) bool { return o.By == pair[0] }) {
			return invalid(field, "%s is named twice", quote(pair[0]))
		}
		q.OrderBy = append(q.OrderBy, Order{pair[0], pair[1] == "desc"})
	}
	return nil
}

func (q *Query) readInclude(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	var imports, labels, total json.RawMessage
	keys := fields{"imports": &imports, "time_labels": &labels, "total_rows": &total}
	if err := decodeObject("include", b, keys); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		from json.RawMessage
		to   *bool
	}{
		{"include.imports", imports, &q.Include.Imports},
		{"include.time_labels", labels, &q.Include.TimeLabels},
		{"include.total_rows", total, &q.Include.TotalRows},
	} {
		if absent(f.from) {
			continue
		}
		if err := json.Unmarshal(f.from, f.to); err != nil {
			return invalid(f.name, "want true or false")
		}
	}
	if q.Include.TimeLabels && !slices.ContainsFunc(q.Dimensions, isTime) {
		return invalid("include.time_labels", "needs a time dimension, e.g. time:day")
	}
	return nil
}

func (q *Query) readPage(b json.RawMessage) error {
	q.Limit = maxLimit
	if absent(b) {
		return nil
	}
	var limit, offset json.RawMessage
	if err := decodeObject("pagination", b, fields{"limit": &limit, "offset": &offset}); err != nil {
		return err
	}
	for _, f := range []struct {
		name     string
		from     json.RawMessage
		to       *int
		min, max int
	}{
		{"pagination.limit", limit, &q.Limit, 1, maxLimit},
		{"pagination.offset", offset, &q.Offset, 0, maxOffset},
	} {
		if absent(f.from) {
			continue
		}
		if err := json.Unmarshal(f.from, f.to); err != nil || *f.to < f.min || *f.to > f.max {
			return invalid(f.name, "want a whole number from %d to %d", f.min, f.max)
		}
	}
	return nil
}

func isTime(name string) bool { return dimensions[name].Grain != none }

// fields maps the keys that an object may have to the destinations of their values.
type fields map[string]*json.RawMessage

func decodeObject(field string, b []byte, to fields) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return invalid(field, "want a JSON object")
	}
	for k, v := range m {
		dst, ok := to[k]
		if !ok {
			return invalid(field, "%s is not known; there are %s", quote(k), join(sortedKeys(to)))
		}
		*dst = v
	}
	return nil
}

func decodeArray(field string, b json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil || list == nil {
		return nil, invalid(field, "want a list")
	}
	return list, nil
}

func decodeString(field string, b json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return "", invalid(field, "want a string")
	}
	return *s, nil
}

func decodeStrings(field string, b json.RawMessage) ([]string, error) {
	list, err := decodeArray(field, b)
	if err != nil {
		return nil, invalid(field, "want a list of strings")
	}
	out := make([]string, len(list))
	for i, x := range list {
		if out[i], err = decodeString(element(field, i), x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func absent(b json.RawMessage) bool { return len(b) == 0 || bytes.Equal(b, []byte("null")) }

func element(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func sortedKeys(m fields) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func join[S ~string](list []S) string {
	s := make([]string, len(list))
	for i, x := range list {
		s[i] = string(x)
	}
	return strings.Join(s, ", ")
}

// quote quotes a value of the query, cut to 60 bytes, for an error.
func quote(s string) string { return fmt.Sprintf("%q", shorten(s, 60)) }

// shorten cuts a text to a number of bytes, at a word if there is one in its second half.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	s = strings.ToValidUTF8(s[:most], "")
	if i := strings.LastIndexByte(s, ' '); i > most/2 {
		s = s[:i]
	}
	return s + "…"
}
