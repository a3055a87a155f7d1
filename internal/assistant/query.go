package assistant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
)

// How many rows a query answers with.
const defaultLimit, maxLimit = 100, 1000

// queryIn describes the fields of a query. The API takes others too, where it has them, and refuses what it
// doesn't know.
type queryIn struct {
	Site       string     `json:"site_id" jsonschema:"the domain of a site, as example.com"`
	Metrics    []string   `json:"metrics" jsonschema:"as visitors, visits, pageviews, events, views_per_visit, bounce_rate, visit_duration"`
	DateRange  any        `json:"date_range" jsonschema:"day, 24h, 7d, 30d, month, 12mo, year, all …, or a list of two dates (2026-11-01) or times (2026-11-01T08:00:00) of the site's clocks, both included"`
	Dimensions []string   `json:"dimensions,omitempty" jsonschema:"what to group by, as event:page, visit:source, visit:country, time:hour; up to 4"`
	Filters    []any      `json:"filters,omitempty" jsonschema:"all have to hold, each as [\"is\", \"visit:source\", [\"Google\", \"Bing\"]]; describe has all operators"`
	OrderBy    [][]string `json:"order_by,omitempty" jsonschema:"as [[\"visitors\", \"desc\"]]"`
	Include    any        `json:"include,omitempty" jsonschema:"as {\"total_rows\": true}"`
	Pagination any        `json:"pagination,omitempty" jsonschema:"as {\"limit\": 100, \"offset\": 0}; limit is at most 1000 here (100)"`
}

func (s *Server) addQuery() {
	t := readOnly("query", "Query history", "Numbers of the past, in the dialect of the Plausible Stats API "+
		"v2. The rows have metrics and dimensions in the order of the query. Describe says what there is.")
	schema, err := jsonschema.For[queryIn](nil)
	if err != nil {
		panic(err) // a mistake in queryIn, which every test finds
	}
	schema.AdditionalProperties = nil
	t.InputSchema = schema
	addTool(s, t, s.query)
}

// query answers as the API does, with a bounded number of rows.
func (s *Server) query(ctx context.Context, key string, in map[string]any) (any, error) {
	limit := limitRows(in)
	a, err := s.api.query(ctx, key, in)
	if err != nil {
		return nil, err
	}
	var parts map[string]json.RawMessage
	if err := s.api.unmarshal(a.body, &parts); err != nil {
		return nil, err
	}
	var rows []json.RawMessage
	if err := s.api.unmarshal(parts["results"], &rows); err != nil {
		return nil, err
	}
	rest := maxRows
	for name, part := range parts {
		if name != "results" {
			rest -= len(part)
		}
	}
	if rest < maxRows/4 {
		return nil, errors.New("the answer would be too long: " +
			"leave out include.time_labels, or give fewer values to filter by")
	}
	out := make(map[string]any, len(parts)+1)
	for name, part := range parts {
		out[name] = part
	}
	n := fitting(rows, rest)
	out["results"] = rows[:n]
	if n < len(rows) || n == limit {
		out["note"] = fmt.Sprintf("%d rows, and there may be more: narrow the query, "+
			"or go on with pagination.offset", n)
	}
	return out, nil
}

// limitRows bounds the page that a query asks for, and returns the number of its rows. What isn't a page is
// left to the API to refuse.
func limitRows(in map[string]any) int {
	page, ok := in["pagination"].(map[string]any)
	if !ok && in["pagination"] != nil {
		return 0
	}
	limited := map[string]any{"limit": float64(defaultLimit)}
	for k, v := range page {
		limited[k] = v
	}
	n, ok := limited["limit"].(float64)
	if ok && n > maxLimit {
		n = maxLimit
		limited["limit"] = n
	}
	in["pagination"] = limited
	return int(n)
}
