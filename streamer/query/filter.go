package query

import (
	"encoding/json"
	"regexp/syntax"
	"strings"
)

// Limits of all filters of a request together: over HTTP a statement's values travel in the URL.
const (
	maxDepth  = 10
	maxLeaves = 50
	maxValues = 1_000
	maxBytes  = 100_000
)

// Op is what a filter does.
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

// Filter is a condition on the events that count. A condition on event:… is about the event; one on visit:… about the visit it
// belongs to. Of a visit count those that have at least one event left.
type Filter struct {
	Op         Op
	Dimension  string   // of a comparison
	Values     []string // one of them suffices; for the negated ones none may hold
	IgnoreCase bool
	Filters    []Filter // of and, or (one or more) and not (one)
}

// MarshalJSON writes the filter as it was asked.
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

type filterBudget struct{ leaves, values, bytes int }

func readFilter(field string, b json.RawMessage, depth int, left *filterBudget) (f Filter, err error) {
	if depth > maxDepth {
		return f, invalid(field, "filters are nested more than %d deep", maxDepth)
	}
	parts, err := array(field, b)
	if err != nil || len(parts) == 0 {
		return f, invalid(field, `want a filter such as ["is", "event:page", ["/"]]`)
	}
	op, err := text(at(field, 0), parts[0])
	if err != nil {
		return f, err
	}
	switch f.Op = Op(op); f.Op {
	case And, Or:
		if len(parts) != 2 {
			return f, invalid(field, `want ["%s", [filter, …]]`, op)
		}
		list, err := array(at(field, 1), parts[1])
		if err != nil || len(list) == 0 {
			return f, invalid(at(field, 1), "want a list of at least one filter")
		}
		for i, x := range list {
			sub, err := readFilter(at(at(field, 1), i), x, depth+1, left)
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
		sub, err := readFilter(at(field, 1), parts[1], depth+1, left)
		f.Filters = []Filter{sub}
		return f, err
	case Is, IsNot, Contains, ContainsNot, Matches, MatchesNot:
		return f, f.readComparison(field, parts, left)
	}
	return f, invalid(at(field, 0), "%s is not known; choose from is, is_not, contains, contains_not, matches, matches_not, and, or, not", show(op))
}

func (f *Filter) readComparison(field string, parts []json.RawMessage, left *filterBudget) (err error) {
	if len(parts) < 3 || len(parts) > 4 {
		return invalid(field, `want ["%s", dimension, [value, …]]`, f.Op)
	}
	if left.leaves--; left.leaves < 0 {
		return invalid(field, "more than %d comparisons in all", maxLeaves)
	}
	if f.Dimension, err = text(at(field, 1), parts[1]); err != nil {
		return err
	}
	d, ok := lookup(f.Dimension)
	if !ok || d.Grain != none {
		return invalid(at(field, 1), "%s can't be filtered by; name an event: or visit: dimension", show(f.Dimension))
	}
	if f.Values, err = texts(at(field, 2), parts[2]); err != nil {
		return err
	}
	if len(f.Values) == 0 {
		return invalid(at(field, 2), "want at least one value")
	}
	for i, v := range f.Values {
		left.values--
		left.bytes -= len(v)
		if f.Op == Matches || f.Op == MatchesNot {
			if err := checkPattern(v); err != nil {
				return invalid(at(at(field, 2), i), "%s", err)
			}
		}
	}
	if left.values < 0 || left.bytes < 0 {
		return invalid(at(field, 2), "more than %d values or %d bytes in all", maxValues, maxBytes)
	}
	if len(parts) == 3 {
		return nil
	}
	var sensitive json.RawMessage
	if err := object(at(field, 3), parts[3], fields{"case_sensitive": &sensitive}); err != nil {
		return err
	}
	keep := true
	if !absent(sensitive) {
		if err := json.Unmarshal(sensitive, &keep); err != nil {
			return invalid(at(field, 3)+".case_sensitive", "want true or false")
		}
	}
	if f.IgnoreCase = !keep; f.IgnoreCase && (f.Op == Matches || f.Op == MatchesNot) {
		return invalid(at(field, 3), "a pattern ignores case when it begins with (?i)")
	}
	return nil
}

// checkPattern refuses what ClickHouse would refuse, with a better sentence. Go's syntax is RE2's but for \C.
func checkPattern(p string) error {
	if strings.ContainsRune(p, 0) {
		return &Invalid{Reason: `write a zero byte in a pattern as \x00`}
	}
	if _, err := syntax.Parse(p, syntax.Perl); err != nil {
		return &Invalid{Reason: show(p) + " is no regular expression in RE2 syntax: " + show(err.Error())}
	}
	return nil
}
