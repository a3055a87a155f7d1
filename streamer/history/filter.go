package history

import (
	"encoding/json"
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
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

// The operations: the last three combine filters, the others compare the value of a dimension.
const (
	Is                 Op = "is"
	IsNot              Op = "is_not"
	Contains           Op = "contains"
	ContainsNot        Op = "contains_not"
	MatchesWildcard    Op = "matches_wildcard" // the whole value; see wildcardPattern
	MatchesWildcardNot Op = "matches_wildcard_not"
	Matches            Op = "matches" // RE2, anywhere in the value
	MatchesNot         Op = "matches_not"
	And                Op = "and"
	Or                 Op = "or"
	Not                Op = "not"
)

var operations = []Op{
	Is, IsNot, Contains, ContainsNot, MatchesWildcard, MatchesWildcardNot, Matches, MatchesNot, And, Or, Not,
}

// wildcardNames are the dimensions in whose values a * is meant as a wildcard, as in Plausible's older API,
// rather than as itself.
var wildcardNames = []string{page, entryPage, "visit:exit_page", "event:hostname"}

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
type filterBudget struct {
	leaves, values, bytes int
	goals                 bool // event:goal may be compared
}

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
	}
	if slices.Contains(operations, f.Op) {
		return f, f.readComparison(field, parts, budget)
	}
	return f, invalid(element(field, 0), "%s is not known; choose from %s", quote(op), join(operations))
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
	if f.Dimension == goalDimension && budget.goals {
		if f.Op != Is && f.Op != IsNot || len(parts) == 4 {
			return invalid(field, `want ["is" or "is_not", "event:goal", [name, …]]`)
		}
		ok = true
	}
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
		if (f.Op == Is || f.Op == IsNot) && slices.Contains(wildcardNames, f.Dimension) &&
			strings.Contains(v, "*") {
			return invalid(element(element(field, 2), i), `%s has a *, and "%s" compares the whole value `+
				`as it is; use "%s", where * is anything up to the next slash, ** anything at all and `+
				`\* a star, or "contains", or "matches"`, quote(v), f.Op, wildcardOf[f.Op])
		}
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

var wildcardOf = map[Op]Op{Is: MatchesWildcard, IsNot: MatchesWildcardNot}

// wildcardPattern returns the regular expression of a value with wildcards: * is anything up to the next
// slash, ** anything at all, \* a star and \\ a backslash.
func wildcardPattern(v string, ignoreCase bool) string {
	var p strings.Builder
	p.WriteString("(?s)^")
	if ignoreCase {
		p.WriteString("(?i)")
	}
	for v != "" {
		switch {
		case strings.HasPrefix(v, `\*`), strings.HasPrefix(v, `\\`):
			p.WriteString(v[:2]) // the same in RE2
			v = v[2:]
		case strings.HasPrefix(v, "**"):
			p.WriteString(".*")
			v = v[2:]
		case v[0] == '*':
			p.WriteString("[^/]*")
			v = v[1:]
		default:
			end := 1 + strings.IndexAny(v[1:], `*\`)
			if end == 0 {
				end = len(v)
			}
			p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(v[:end]), "\x00", `\x00`))
			v = v[end:]
		}
	}
	p.WriteString("$")
	return p.String()
}

// maxReason bounds what the parser of patterns says, in bytes.
const maxReason = 120

// checkPattern refuses what ClickHouse would refuse, with a better sentence. Go's syntax is that of RE2
// without \C.
func checkPattern(p string) error {
	if strings.ContainsRune(p, 0) {
		return &Invalid{Reason: `write a zero byte in a pattern as \x00`}
	}
	_, err := syntax.Parse(p, syntax.Perl)
	var e *syntax.Error
	if errors.As(err, &e) {
		return &Invalid{Reason: quote(p) + " is no regular expression in RE2 syntax: " +
			e.Code.String() + ": " + shorten(e.Expr, maxReason)}
	}
	return err
}
