package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of a request. They keep a statement small; what a statement may cost is in Config.
const (
	maxDimensions = 4
	maxLimit      = 10_000
	maxOffset     = 1_000_000_000
)

// Request is the question of `POST /api/v2/query`. Decode it with encoding/json: a question that isn't valid in itself is an
// *Invalid then; what depends on the site and the time is judged by Run.
type Request struct {
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

// Order is one key to sort the rows by: a metric or dimension that is asked for.
type Order struct {
	By   string
	Desc bool
}

// Include asks for more than rows.
type Include struct {
	TimeLabels bool // meta.time_labels: every bucket of the range, also the empty ones
	TotalRows  bool // meta.total_rows: how many rows there are without the limit
}

// Response is the answer. Rows without an event are left out; without dimensions there is always one row.
type Response struct {
	Results []Row `json:"results"`
	Meta    Meta  `json:"meta"`
	Query   Echo  `json:"query"`
}

// Row has the values in the order in which the request names metrics and dimensions. A nil metric is a mean of nothing.
type Row struct {
	Metrics    []*float64 `json:"metrics"`
	Dimensions []string   `json:"dimensions"`
}

// Meta is what Include asked for.
type Meta struct {
	TimeLabels []string `json:"time_labels,omitempty"`
	TotalRows  *uint64  `json:"total_rows,omitempty"`
}

// Echo is the question as it was understood: dates resolved, `time` with its grain, defaults filled in. Asked again it gives
// the same rows.
type Echo struct {
	SiteID     string         `json:"site_id"`
	Metrics    []Metric       `json:"metrics"`
	DateRange  [2]string      `json:"date_range"` // ISO 8601 in the site's time zone; the second one is included
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

// UnmarshalJSON reads the dialect of the Plausible Stats API v2. Its errors are *Invalid.
func (r *Request) UnmarshalJSON(b []byte) error {
	*r = Request{}
	var raw struct {
		site, metrics, dates, dimensions, filters, order, include, pagination json.RawMessage
	}
	err := object("", b, fields{
		"site_id": &raw.site, "metrics": &raw.metrics, "date_range": &raw.dates, "dimensions": &raw.dimensions,
		"filters": &raw.filters, "order_by": &raw.order, "include": &raw.include, "pagination": &raw.pagination,
	})
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() (err error) { r.SiteID, err = text("site_id", raw.site); return err },
		func() error { return r.readMetrics(raw.metrics) },
		func() error { return r.DateRange.read(raw.dates) },
		func() error { return r.readDimensions(raw.dimensions) },
		func() error { return r.readFilters(raw.filters) },
		func() error { return r.readOrder(raw.order) },
		func() error { return r.readInclude(raw.include) },
		func() error { return r.readPage(raw.pagination) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) readMetrics(b json.RawMessage) error {
	names, err := texts("metrics", b)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return invalid("metrics", "name at least one of %s", join(metrics))
	}
	for i, n := range names {
		m := Metric(n)
		if !m.known() {
			return invalid(at("metrics", i), "%s is not known; choose from %s", show(n), join(metrics))
		}
		if slices.Contains(r.Metrics, m) {
			return invalid(at("metrics", i), "%s is named twice", n)
		}
		r.Metrics = append(r.Metrics, m)
	}
	return nil
}

func (r *Request) readDimensions(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	names, err := texts("dimensions", b)
	if err != nil {
		return err
	}
	if len(names) > maxDimensions {
		return invalid("dimensions", "at most %d", maxDimensions)
	}
	times := 0
	for i, n := range names {
		d, ok := lookup(n)
		if !ok {
			return invalid(at("dimensions", i), "%s is not known; see the documentation for the list, e.g. event:page, visit:source, time:day", show(n))
		}
		if slices.Contains(r.Dimensions, n) {
			return invalid(at("dimensions", i), "%s is named twice", show(n))
		}
		if d.Grain != none {
			if times++; times > 1 {
				return invalid(at("dimensions", i), "at most one of time, time:second, time:minute, time:hour, time:day, time:week, time:month")
			}
		}
		r.Dimensions = append(r.Dimensions, n)
	}
	return nil
}

func (r *Request) readFilters(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	list, err := array("filters", b)
	if err != nil {
		return err
	}
	budget := filterBudget{leaves: maxLeaves, values: maxValues, bytes: maxBytes}
	for i, x := range list {
		f, err := readFilter(at("filters", i), x, 1, &budget)
		if err != nil {
			return err
		}
		r.Filters = append(r.Filters, f)
	}
	return nil
}

func (r *Request) readOrder(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	list, err := array("order_by", b)
	if err != nil {
		return err
	}
	for i, x := range list {
		field := at("order_by", i)
		pair, err := texts(field, x)
		if err != nil {
			return err
		}
		if len(pair) != 2 || pair[1] != "asc" && pair[1] != "desc" {
			return invalid(field, `want [metric or dimension, "asc" or "desc"]`)
		}
		if !slices.Contains(r.Metrics, Metric(pair[0])) && !slices.Contains(r.Dimensions, pair[0]) {
			return invalid(field, "%s is neither in metrics nor in dimensions", show(pair[0]))
		}
		if slices.ContainsFunc(r.OrderBy, func(o Order) bool { return o.By == pair[0] }) {
			return invalid(field, "%s is named twice", show(pair[0]))
		}
		r.OrderBy = append(r.OrderBy, Order{pair[0], pair[1] == "desc"})
	}
	return nil
}

func (r *Request) readInclude(b json.RawMessage) error {
	if absent(b) {
		return nil
	}
	var imports, labels, total json.RawMessage
	if err := object("include", b, fields{"imports": &imports, "time_labels": &labels, "total_rows": &total}); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		from json.RawMessage
		to   *bool
	}{
		// Nothing is ever imported here: true and false mean the same.
		{"include.imports", imports, new(bool)},
		{"include.time_labels", labels, &r.Include.TimeLabels},
		{"include.total_rows", total, &r.Include.TotalRows},
	} {
		if absent(f.from) {
			continue
		}
		if err := json.Unmarshal(f.from, f.to); err != nil {
			return invalid(f.name, "want true or false")
		}
	}
	if r.Include.TimeLabels && !slices.ContainsFunc(r.Dimensions, isTime) {
		return invalid("include.time_labels", "needs a time dimension, e.g. time:day")
	}
	return nil
}

func (r *Request) readPage(b json.RawMessage) error {
	r.Limit = maxLimit
	if absent(b) {
		return nil
	}
	var limit, offset json.RawMessage
	if err := object("pagination", b, fields{"limit": &limit, "offset": &offset}); err != nil {
		return err
	}
	for _, f := range []struct {
		name     string
		from     json.RawMessage
		to       *int
		min, max int
	}{
		{"pagination.limit", limit, &r.Limit, 1, maxLimit},
		{"pagination.offset", offset, &r.Offset, 0, maxOffset},
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

// fields are the keys that an object may have, and where their values go.
type fields map[string]*json.RawMessage

func object(field string, b []byte, to fields) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return invalid(field, "want a JSON object")
	}
	for k, v := range m {
		dst, ok := to[k]
		if !ok {
			return invalid(field, "%s is not known; there are %s", show(k), join(sortedKeys(to)))
		}
		*dst = v
	}
	return nil
}

func array(field string, b json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil || list == nil {
		return nil, invalid(field, "want a list")
	}
	return list, nil
}

func text(field string, b json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return "", invalid(field, "want a string")
	}
	return *s, nil
}

func texts(field string, b json.RawMessage) ([]string, error) {
	list, err := array(field, b)
	if err != nil {
		return nil, invalid(field, "want a list of strings")
	}
	out := make([]string, len(list))
	for i, x := range list {
		if out[i], err = text(at(field, i), x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func absent(b json.RawMessage) bool { return len(b) == 0 || bytes.Equal(b, []byte("null")) }

func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

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

// show quotes what a request said, so that an error about 10 kB stays a sentence.
func show(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
