package history

import (
	"encoding/json"
	"regexp/syntax"
	"strings"
)

// Limits of all filters of a query together: over HTTP, clickhouse-go sends a statement's parameters in the
// URL.
const (
	maxDepth  = 10
	maxLeaves = 50
	maxValues = 1_000
	maxBytes  = 100_000
)

// Op is the operation of a filter.
type Op string

// The operations: the first six compare the value of a dimension, the rest combine filters.
const (
	Is          Op = "is"
	IsNot       Op = "is_not"
	Contains    Op = "contains"
	ContainsNot Op = "contains_not"
	Matches     Op = "matches" // RE2, anywhere in the value
	MatchesNot  Op = "matches_not"
	And         Op = "and"
	Or          Op = "or"
	Not         Op = "not"
)

// Filter is a condition on the events that count: on the event itself for event:…, on its visit for visit:….
// A visit counts if at least one of its events passes.
type Filter struct {
	Op         Op
	Dimension  string   // of a comparison
	Values     []string // any of them; for the negated operations, none of them
	IgnoreCase bool
	Filters    []Filter // of and, or (one or more) and not (one)
}

// MarshalJSON writes the filter as the query had it.
func (f Filter) MarshalJSON() ([]byte, error) {
	switch f.Op {
	case And, Or:
		return json.Marshal([]any{f.Op, f.Filters})
	case Not:
		return json.Marshal([]any{f.Op, f.Filters[0]})
	}
	list := []any{f.Op, f.Dimension, f.Values}
	if f.IgnoreCase {
		list = append(list, map[string]bool{"case_sensitive": false})
	}
	return json.Marshal(list)
}

// filterBudget is what the filters of a query may still have.
type filterBudget struct{ leaves, values, bytes int }

func readFilter(field string, b json.RawMessage, depth int, budget *filterBudget) (f Filter, err error) {
	if depth > maxDepth {
		return f, invalid(field, "filters are nested more than %d deep", maxDepth)
	}
	parts, err := decodeArray(field, b)
	if err != nil || len(parts) == 0 {
		return f, invalid(field, `want a filter such as ["is", "event:page", ["/"]]`)
	}
	op, err := decodeString(element(field, 0), parts[0])
	if err != nil {
		return f, err
	}
	switch f.Op = Op(op); f.Op {
	case And, Or:
		if len(parts) != 2 {
			return f, invalid(field, `want ["%s", [filter, …]]`, op)
		}
		list, err := decodeArray(element(field, 1), parts[1])
		if err != nil || len(list) == 0 {
			return f, invalid(element(field, 1), "want a list of at least one filter")
		}
		for i, x := range list {
			sub, err := readFilter(element(element(field, 1), i), x, depth+1, budget)
			if err != nil {
				return f, err
			}
			f.Filters = append(f.Filters, sub)
		}
		return f, nil
	case Not:
		if len(parts) != 2 {
			return f, invalid(field, `want ["not", filter]`)
		}
		sub, err := readFilter(element(field, 1), parts[1], depth+1, budget)
		f.Filters = []Filter{sub}
		return f, err
	case Is, IsNot, Contains, ContainsNot, Matches, MatchesNot:
		return f, f.readComparison(field, parts, budget)
	}
	return f, invalid(element(field, 0), "%s is not known; choose from is, is_not, contains, contains_not, "+
		"matches, matches_not, and, or, not", quote(op))
}

func (f *Filter) readComparison(field string, parts []json.RawMessage, budget *filterBudget) (err error) {
	if len(parts) < 3 || len(parts) > 4 {
		return invalid(field, `want ["%s", dimension, [value, …]]`, f.Op)
	}
	if budget.leaves--; budget.leaves < 0 {
		return invalid(field, "more than %d comparisons in all", maxLeaves)
	}
	if f.Dimension, err = decodeString(element(field, 1), parts[1]); err != nil {
		return err
	}
	d, ok := lookup(f.Dimension)
	if !ok || d.Grain != none {
		return invalid(element(field, 1), "%s can't be filtered by; name an event: or visit: dimension",
			quote(f.Dimension))
	}
	if f.Values, err = decodeStrings(element(field, 2), parts[2]); err != nil {
		return err
	}
	if len(f.Values) == 0 {
		return invalid(element(field, 2), "want at least one value")
	}
	for i, v := range f.Values {
		budget.values--
		budget.bytes -= len(v)
		if f.Op == Matches || f.Op == MatchesNot {
			if err := checkPattern(v); err != nil {
				return invalid(element(element(field, 2), i), "%s", err)
			}
		}
	}
	if budget.values < 0 || budget.bytes < 0 {
		return invalid(element(field, 2), "more than %d values or %d bytes in all", maxValues, maxBytes)
	}
	if len(parts) == 3 {
		return nil
	}
	var sensitive json.RawMessage
	if err := decodeObject(element(field, 3), parts[3], fields{"case_sensitive": &sensitive}); err != nil {
		return err
	}
	caseSensitive := true
	if !absent(sensitive) {
		if err := json.Unmarshal(sensitive, &caseSensitive); err != nil {
			return invalid(element(field, 3)+".case_sensitive", "want true or false")
		}
	}
	if f.IgnoreCase = !caseSensitive; f.IgnoreCase && (f.Op == Matches || f.Op == MatchesNot) {
		return invalid(element(field, 3), "a pattern ignores case when it begins with (?i)")
	}
	return nil
}

// checkPattern refuses what ClickHouse would refuse, with a better sentence. Go's syntax is that of RE2
// without \C.
func checkPattern(p string) error {
	if strings.ContainsRune(p, 0) {
		return &Invalid{Reason: `write a zero byte in a pattern as \x00`}
	}
	if _, err := syntax.Parse(p, syntax.Perl); err != nil {
		return &Invalid{Reason: quote(p) + " is no regular expression in RE2 syntax: " + quote(err.Error())}
	}
	return nil
}
