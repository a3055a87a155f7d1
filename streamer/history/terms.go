package history

import (
	"slices"
	"strings"
)

// The data of the templates of parts.sql.
type (
	termData struct {
		Value, EmptyLabel string // an SQL expression; the label of an empty value
		Grain             string // of time; the Value says which one
		Key               bool   // Value is a key
		Names             string // where the strings of the statement's keys are; "": it has strings
		Column            string // where those of this key are
	}
	filterData struct {
		Op         string // "is", "contains", "matches" or "not"
		Negated    bool
		Connective string // AND, OR
		Dimension  termData
		Param      string   // of is and contains: one parameter for all values
		Params     []string // of matches: one parameter for each pattern
		IgnoreCase bool
		Filters    []filterData
	}
	holeData   struct{ From, To string } // two parameters
	withinData struct {
		Value string
		Holes []holeData
	}
)

// Strings returns a comparison of keys as one of the values that are in `names`.
func (f filterData) Strings() filterData {
	f.Dimension.Value, f.Dimension.Key = "value", false
	return f
}

// term returns the expression of a dimension's value in the rows of a part.
func (b *builder) term(name string, p *partData) termData {
	d, _ := lookup(name)
	t := termData{EmptyLabel: d.EmptyLabel, Grain: d.Grain.String(), Value: d.Column, Column: d.names()}
	switch {
	case d.Grain != none:
		t.Value = p.moment
		b.usesZone = b.usesZone || d.Grain < day && (p.moment == "start" || p.moment == "part")
	case p.source == fromRollups:
		t.Value, t.Key = "key", true
	case d.Prop != "":
		t.Value = "props[{" + b.param(d.Prop) + ":String}]"
		p.hit("props")
	case name == page && p.class.entered:
		t.Value, t.Key, p.pages = "if(part = 2, entry, page)", p.sealed(), true
	case d.Names == "page":
		t.Key, p.pages = p.sealed(), true
	case d.Visit:
		t.Key = p.sealed() && d.Names != ""
		p.visit(d.Column)
	default:
		p.hit(d.Column)
	}
	return t
}

// filter returns a filter as a condition on the rows of a part.
func (b *builder) filter(f Filter, p *partData) filterData {
	out := filterData{Op: string(f.Op), IgnoreCase: f.IgnoreCase}
	switch f.Op {
	case And, Or:
		out.Connective = strings.ToUpper(string(f.Op))
	case Not:
		out.Negated = true
	case IsNot, ContainsNot, MatchesNot, MatchesWildcardNot:
		out.Op, out.Negated = strings.TrimSuffix(out.Op, "_not"), true
	}
	for _, sub := range f.Filters {
		out.Filters = append(out.Filters, b.filter(sub, p))
	}
	if f.Dimension == "" {
		return out
	}
	out.Dimension = b.term(f.Dimension, p)
	wildcard := Op(out.Op) == MatchesWildcard
	if !wildcard && Op(out.Op) != Matches {
		out.Param = b.param(f.Values)
		return out
	}
	out.Op = string(Matches)
	for _, v := range f.Values {
		if wildcard {
			v = wildcardPattern(v, f.IgnoreCase)
		}
		out.Params = append(out.Params, b.param(v))
	}
	return out
}

// any reports whether a comparison of the filter is of a dimension that passes a test.
func (f Filter) any(test func(name string) bool) bool {
	return f.Dimension != "" && test(f.Dimension) ||
		slices.ContainsFunc(f.Filters, func(f Filter) bool { return f.any(test) })
}

// entered returns the filter with the page on which the visit entered in place of the event's.
func (f Filter) entered() Filter {
	if f.Dimension == page {
		f.Dimension = entryPage
	}
	f.Filters = slices.Clone(f.Filters)
	for i := range f.Filters {
		f.Filters[i] = f.Filters[i].entered()
	}
	return f
}

func ofVisit(name string) bool { return dimensions[name].Visit }
func ofPage(name string) bool  { return name == page }
