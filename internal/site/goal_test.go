package site

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGoalMatches(t *testing.T) {
	view := func(path string, props ...string) Event {
		return Event{Name: "pageview", Path: path, Properties: pairs(props)}
	}
	custom := func(name string, props ...string) Event {
		return Event{Name: name, Path: "/pricing", Properties: pairs(props)}
	}
	read := func(path string, depth int, engaged time.Duration) Event {
		return Event{Name: "engagement", Path: path, ScrollDepth: depth, Engaged: engaged}
	}
	is := func(op PropertyOperator, key string, values ...string) []PropertyCondition {
		return []PropertyCondition{{key, op, values}}
	}
	signup := Condition{Event: "Signup"}
	for _, row := range []struct {
		name string
		c    Condition
		e    Event
		want bool
	}{
		{"event", signup, custom("Signup"), true},
		{"another event", signup, custom("signup"), false},
		{"event on a page", signup, Event{Name: "Signup", Path: "/else"}, true},
		{"wildcard of events", Condition{Event: "Download *"}, custom("Download PDF"), true},
		{"a view is no event", Condition{Event: "**"}, view("/"), false},
		{"an engagement is no event", Condition{Event: "**"}, read("/", 100, time.Hour), false},
		{"page", Condition{Page: "/pricing"}, view("/pricing"), true},
		{"an event is no view", Condition{Page: "/pricing"}, custom("Signup"), false},
		{"an engagement is no view", Condition{Page: "/pricing"}, read("/pricing", 100, time.Hour), false},
		{"wildcard of pages", Condition{Page: "/blog/**"}, view("/blog/a/b"), true},
		{"another page", Condition{Page: "/blog/*"}, view("/blog/a/b"), false},
		{"depth", Condition{Page: "/a", ScrollDepth: 75}, read("/a", 75, 0), true},
		{"less depth", Condition{Page: "/a", ScrollDepth: 75}, read("/a", 74, time.Hour), false},
		{"depth elsewhere", Condition{Page: "/a", ScrollDepth: 75}, read("/b", 100, 0), false},
		{"a view has no depth", Condition{Page: "/a", ScrollDepth: 1}, Event{Name: "pageview", Path: "/a",
			ScrollDepth: 100}, false},
		{"time", Condition{Page: "/*", EngagedSeconds: 30}, read("/a", 0, 30*time.Second), true},
		{"less time", Condition{Page: "/*", EngagedSeconds: 30}, read("/a", 100, 30*time.Second-1), false},
		{"property", Condition{Event: "Signup", Properties: is("is", "plan", "pro", "team")},
			custom("Signup", "plan", "team"), true},
		{"another value", Condition{Event: "Signup", Properties: is("is", "plan", "pro")},
			custom("Signup", "plan", "free"), false},
		{"no property", Condition{Event: "Signup", Properties: is("is", "plan", "pro")}, custom("Signup"),
			false},
		{"is_not", Condition{Event: "Signup", Properties: is("is_not", "plan", "free", "trial")},
			custom("Signup", "plan", "trial"), false},
		{"is_not of none", Condition{Event: "Signup", Properties: is("is_not", "plan", "free")},
			custom("Signup"), true},
		{"contains", Condition{Page: "/", Properties: is("contains", "by", "Lee", "Ada")},
			view("/", "by", "Ada L."), true},
		{"contains_not", Condition{Page: "/", Properties: is("contains_not", "by", "Ada")},
			view("/", "by", "Ada L."), false},
		{"all of them", Condition{Page: "/", Properties: append(is("is", "a", "1"), is("is", "b", "2")...)},
			view("/", "a", "1", "b", "3"), false},
		{"no values", Condition{Event: "Signup", Properties: is("is_not", "plan")}, custom("Signup"), false},
		{"an operator of later", Condition{Event: "Signup", Properties: is("like", "plan", "p")},
			custom("Signup", "plan", "p"), false},
		{"nothing", Condition{}, custom("Signup"), false},
		{"nothing, of a view", Condition{}, view("/"), false},
		{"both", Condition{Event: "Signup", Page: "/pricing"}, custom("Signup"), false},
	} {
		if got := (Goal{Condition: row.c}).Matches(row.e); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

func pairs(list []string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

func TestGoalsThatAreRefused(t *testing.T) {
	property := func(key string, op PropertyOperator, values ...string) Condition {
		return Condition{Event: "Signup", Properties: []PropertyCondition{{key, op, values}}}
	}
	for _, row := range []struct {
		g    Goal
		want string
	}{
		{Goal{Condition: Condition{Event: "a"}}, "needs a name"},
		{Goal{Name: "x"}, "exactly one of event and page"},
		{Goal{Name: "x", Condition: Condition{Event: " "}}, "exactly one of event and page"},
		{Goal{Name: "x", Condition: Condition{Event: "a", Page: "/"}}, "exactly one of event and page"},
		{Goal{Name: "x", Condition: Condition{Event: "a", ScrollDepth: 5}}, "are of a page"},
		{Goal{Name: "x", Condition: Condition{Event: "pageview"}}, "is no custom event"},
		{Goal{Name: "x", Condition: Condition{Event: "engagement"}}, "is no custom event"},
		{Goal{Name: "x", Condition: Condition{Event: "a\x00"}}, "no control characters"},
		{Goal{Name: "x", Condition: Condition{Page: "pricing"}}, "is no page"},
		{Goal{Name: "x", Condition: Condition{Page: Pattern("/" + strings.Repeat("a", 500))}}, "at most 500"},
		{Goal{Name: "x", Condition: Condition{Page: "/", ScrollDepth: 101}}, "give 1 to 100"},
		{Goal{Name: "x", Condition: Condition{Page: "/", ScrollDepth: -1}}, "give 1 to 100"},
		{Goal{Name: "x", Condition: Condition{Page: "/", EngagedSeconds: -1}}, "give 1 to 86400"},
		{Goal{Name: "x", Condition: Condition{Page: "/", ScrollDepth: 5, EngagedSeconds: 5}}, "only one of"},
		{Goal{Name: "x", Condition: property("", "is", "a")}, "a property's key"},
		{Goal{Name: "x", Condition: property("plan", "like", "a")}, "give is, is_not, contains"},
		{Goal{Name: "x", Condition: property("plan", "is")}, "compared with 0 values"},
		{Goal{Name: "x", Condition: property("plan", "is", "")}, "1 to 500 bytes"},
		{Goal{Name: "x", Condition: Condition{Page: "/", ScrollDepth: 5,
			Properties: property("a", "is", "b").Properties}}, "engagements have no properties"},
		{Goal{Name: "x", Currency: "EUR", Condition: Condition{Page: "/"}}, "only custom events have"},
		{Goal{Name: "x", Currency: "EURO", Condition: Condition{Event: "a"}}, "is no currency"},
		{Goal{Name: "x", Currency: "E1R", Condition: Condition{Event: "a"}}, "is no currency"},
	} {
		err := row.g.clean()
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v, want %q", row.g, err, row.want)
		}
	}
	g := Goal{Name: " Sale ", Currency: "eur", Condition: Condition{Event: " Purchase "}}
	if err := g.clean(); err != nil || g.Name != "Sale" || g.Currency != "EUR" || g.Event != "Purchase" {
		t.Errorf("%+v %v", g, err)
	}
}

func TestFunnelsThatAreRefused(t *testing.T) {
	page, goal := Step{Condition: Condition{Page: "/"}}, Step{Goal: "g"}
	for _, row := range []struct {
		f    Funnel
		want string
	}{
		{Funnel{Steps: []Step{page, goal}}, "needs a name"},
		{Funnel{Name: "x", Steps: []Step{page}}, "has 1 steps; give 2 to 8"},
		{Funnel{Name: "x", Steps: make([]Step, 9)}, "has 9 steps; give 2 to 8"},
		{Funnel{Name: "x", Steps: []Step{page, {}}}, "step 2: not valid: give exactly one of"},
		{Funnel{Name: "x", Steps: []Step{page, {Goal: "h"}}}, `step 2: not valid: there is no goal "h"`},
		{Funnel{Name: "x", Steps: []Step{{Goal: "g", Condition: page.Condition}, page}}, "a condition of"},
		{Funnel{Name: "x", Steps: []Step{{Goal: "g", Name: "n"}, page}}, "a condition of the step's own"},
		{Funnel{Name: "x", Steps: []Step{page, goal}, Scope: "week"}, "give visit or day"},
	} {
		err := row.f.clean(func(id string) bool { return id == "g" })
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v, want %q", row.f, err, row.want)
		}
	}
}
