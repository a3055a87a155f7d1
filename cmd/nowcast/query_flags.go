package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// queryFlags build a query of the Stats API. No environment variable gives them.
type queryFlags struct {
	Site    string   `env:"-" placeholder:"DOMAIN" help:"Which site."`
	Metrics []string `env:"-" placeholder:"METRIC" help:"Which numbers (visitors); repeat it or separate them by commas."`
	Range   string   `env:"-" placeholder:"RANGE" help:"Which days: day, 24h, 7d, 30d, month, 12mo, all …, a date, or two dates or times separated by a comma (7d)."`
	By      []string `env:"-" placeholder:"DIMENSION" help:"What to break the numbers down by; repeat it or separate them by commas."`
	Filter  []string `env:"-" sep:"none" placeholder:"FILTER" help:"Count only what passes this, as 'source is Google, Bing'; repeat it."`
	Order   []string `env:"-" placeholder:"COLUMN" help:"What to sort by, as 'visitors desc' or 'time:day asc'; repeat it or separate them by commas."`
	Limit   int      `env:"-" placeholder:"N" help:"How many rows, up to 10000 (10000)."`
}

// statsQuery is the body of POST /api/v2/query, as far as flags give it.
type statsQuery struct {
	SiteID     string          `json:"site_id"`
	Metrics    []string        `json:"metrics"`
	DateRange  any             `json:"date_range"`
	Dimensions []string        `json:"dimensions,omitempty"`
	Filters    []any           `json:"filters,omitempty"`
	OrderBy    [][2]string     `json:"order_by,omitempty"`
	Include    map[string]bool `json:"include,omitempty"`
	Pagination map[string]int  `json:"pagination,omitempty"`
}

// given reports whether there is any flag.
func (f *queryFlags) given() bool {
	return f.Site != "" || f.Range != "" || f.Limit != 0 ||
		len(f.Metrics)+len(f.By)+len(f.Filter)+len(f.Order) > 0
}

// request makes the query that the flags describe.
func (f *queryFlags) request() (q statsQuery, err error) {
	q = statsQuery{SiteID: f.Site, Metrics: f.Metrics, DateRange: dateRange(f.Range)}
	if len(q.Metrics) == 0 {
		q.Metrics = []string{"visitors"}
	}
	for _, name := range f.By {
		q.Dimensions = append(q.Dimensions, dimension(name))
	}
	if len(f.By) > 0 {
		q.Include = map[string]bool{"total_rows": true}
	}
	if q.Filters, err = parseFilters(f.Filter); err != nil {
		return q, err
	}
	for _, text := range f.Order {
		name, direction, _ := strings.Cut(strings.TrimSpace(text), " ")
		if direction = strings.TrimSpace(direction); direction == "" {
			direction = "desc"
		}
		if direction != "asc" && direction != "desc" {
			return q, fmt.Errorf("--order %s: give a column and asc or desc, as 'visitors desc'", text)
		}
		q.OrderBy = append(q.OrderBy, [2]string{f.column(q, name), direction})
	}
	switch {
	case f.Limit < 0:
		return q, fmt.Errorf("--limit is %d: give 1 to 10000", f.Limit)
	case f.Limit > 0:
		q.Pagination = map[string]int{"limit": f.Limit}
	}
	return q, nil
}

// dateRange returns the date_range of a query: a name, or two dates or times; 7d of "".
func dateRange(text string) any {
	from, to, two := strings.Cut(text, ",")
	switch {
	case two:
		return []string{strings.TrimSpace(from), strings.TrimSpace(to)}
	case strings.Count(text, "-") == 2:
		return []string{text, text}
	}
	return cmp.Or(text, "7d")
}

// parseFilters reads the values of --filter.
func parseFilters(texts []string) (filters []any, err error) {
	for _, text := range texts {
		filter, err := parseFilter(text)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", text, err)
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

// column returns the full name of a column to sort by, which may be a short one of a dimension of the query.
func (f *queryFlags) column(q statsQuery, name string) string {
	for i, by := range f.By {
		if name == by {
			return q.Dimensions[i]
		}
	}
	return name
}

// dimension returns the full name of a dimension.
func dimension(name string) string {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || strings.Contains(name, ":") || name == "time":
		return name
	}
	switch name {
	case "page", "hostname", "name", "goal":
		return "event:" + name
	case "second", "minute", "hour", "day", "week", "month":
		return "time:" + name
	}
	return "visit:" + name
}

// parseFilter reads "DIMENSION OPERATOR [not] VALUE[, VALUE]…". The server says which dimensions and
// operators there are.
func parseFilter(text string) (filter []any, err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	op, rest, ok := strings.Cut(strings.TrimSpace(rest), " ")
	if !ok {
		return nil, errors.New("give a dimension, an operator and values, as 'source is Google, Bing'")
	}
	rest = strings.TrimSpace(rest)
	if word, values, ok := strings.Cut(rest, " "); ok && word == "not" {
		op, rest = op+"_not", values
	}
	values, err := splitValues(rest)
	if err != nil {
		return nil, err
	}
	return []any{op, dimension(name), values}, nil
}

// splitValues splits at commas. A value in double quotes has the escapes of Go and JSON, and may be empty.
func splitValues(text string) (values []string, err error) {
	for {
		text = strings.TrimLeft(text, " ")
		var value string
		if quoted, err := strconv.QuotedPrefix(text); err == nil && text[0] == '"' {
			if value, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("read %s: %w", quoted, err)
			}
			text = strings.TrimLeft(text[len(quoted):], " ")
			if text != "" && text[0] != ',' {
				return nil, fmt.Errorf("there is %q behind %s: separate values by commas", text, quoted)
			}
		} else {
			end := strings.IndexByte(text, ',')
			if end < 0 {
				end = len(text)
			}
			value, text = strings.TrimSpace(text[:end]), text[end:]
			switch {
			case value == "":
				return nil, errors.New(`there is an empty value: give one, or "" if an empty one is meant`)
			case value[0] == '"':
				return nil, fmt.Errorf(`%s has no closing quote: write a quote in a value as "\""`, value)
			}
		}
		values = append(values, value)
		if text == "" {
			return values, nil
		}
		text = text[1:]
	}
}
