package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"nowcast/streamer/api"
)

type goalCmd struct {
	Add    goalAddCmd    `cmd:"" help:"Add a goal."`
	List   goalListCmd   `cmd:"" help:"List a site's goals."`
	Set    goalSetCmd    `cmd:"" help:"Change a goal; what has no flag stays."`
	Remove goalRemoveCmd `cmd:"" help:"Remove a goal that no funnel has as a step."`
}

// Help implements kong.HelpProvider.
func (goalCmd) Help() string {
	return `A goal is what visitors are wanted to do: a custom event, or a page that is viewed, or one that is
read so far or so long. In names and pages, * is any text up to the next slash and ** any text.

Example:

	nowcast site goal add example.com Signup --event Signup`
}

// partPath returns the path of a part of a site, as goals or goals/3f9a1c.
func partPath(domain string, parts ...string) string {
	path := "/api/v1/sites/" + url.PathEscape(domain)
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// conditionFlags say which events a goal is about.
type conditionFlags struct {
	Event          string   `env:"-" placeholder:"NAME" help:"A custom event of this name."`
	Page           string   `env:"-" placeholder:"PATH" help:"A view of this page."`
	ScrollDepth    int      `env:"-" placeholder:"PERCENT" help:"With --page: the page is scrolled at least so far."`
	EngagedSeconds int      `env:"-" placeholder:"SECONDS" help:"With --page: the visitor is engaged with the page at least so long in a visit."`
	Property       []string `env:"-" sep:"none" placeholder:"KEY=VALUE" help:"Only with this property; all that are given have to hold."`
}

func (f *conditionFlags) isZero() bool {
	return f.Event == "" && f.Page == "" && f.ScrollDepth == 0 && f.EngagedSeconds == 0 &&
		len(f.Property) == 0
}

// Validate implements kong's validation.
func (f *conditionFlags) Validate() error {
	_, err := f.properties()
	return err
}

// propertyOperators are the operators of --property, the longer ones first.
var propertyOperators = []struct {
	text string
	op   api.PropertyConditionOperator
}{{"!=", "is_not"}, {"!~", "contains_not"}, {"=", "is"}, {"~", "contains"}}

// properties reads --property: a key, an operator, and values separated by bars.
func (f *conditionFlags) properties() (*[]api.PropertyCondition, error) {
	if len(f.Property) == 0 {
		return nil, nil
	}
	var all []api.PropertyCondition
	for _, given := range f.Property {
		i := strings.IndexAny(given, "!=~")
		found := false
		for _, o := range propertyOperators {
			if i <= 0 || !strings.HasPrefix(given[i:], o.text) {
				continue
			}
			values := strings.Split(given[i+len(o.text):], "|")
			all = append(all, api.PropertyCondition{Key: given[:i], Operator: o.op, Values: values})
			found = true
			break
		}
		if !found {
			return nil, fmt.Errorf("--property %s: give it as plan=pro, plan!=free|trial, title~news or "+
				"title!~news", given)
		}
	}
	return &all, nil
}

// pointer returns nil for the zero value.
func pointer[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// set puts the flags into the condition of a goal.
func (f *conditionFlags) set(g *api.GoalInput) (err error) {
	g.Event, g.Page = pointer(f.Event), pointer(f.Page)
	g.ScrollDepth, g.EngagedSeconds = pointer(f.ScrollDepth), pointer(f.EngagedSeconds)
	g.Properties, err = f.properties()
	return err
}

func printGoals(std *stdio, goals ...api.Goal) error {
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tGOAL\tREVENUE")
	for _, g := range goals {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", g.Id, g.Name,
			condition(g.Event, g.Page, g.ScrollDepth, g.EngagedSeconds, g.Properties), value(g.Currency))
	}
	return t.Flush()
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// condition writes a condition for people.
func condition(
	event, page *string, depth, seconds *int, properties *[]api.PropertyCondition,
) string {
	text := "event " + value(event)
	if page != nil {
		text = "page " + *page
	}
	if depth != nil {
		text += fmt.Sprintf(", %d %% of it", *depth)
	}
	if seconds != nil {
		text += fmt.Sprintf(", for %d s", *seconds)
	}
	for _, p := range value(properties) {
		for _, o := range propertyOperators {
			if o.op == p.Operator {
				text += ", " + p.Key + o.text + strings.Join(p.Values, "|")
			}
		}
	}
	return text
}

type goalAddCmd struct {
	serverFlags
	conditionFlags
	Domain   string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Name     string `arg:"" placeholder:"NAME" help:"How lists show it; no other goal of the site has this name."`
	Currency string `env:"-" placeholder:"CODE" help:"It has revenue, in this currency, as EUR."`
}

// Help implements kong.HelpProvider.
func (goalAddCmd) Help() string {
	return `Give one of --event and --page. A goal counts from the site's first event on.

Examples:

	nowcast site goal add example.com Sale --event Purchase --currency EUR --property 'plan=pro|team'
	nowcast site goal add example.com "Reads the blog" --page '/blog/**'
	nowcast site goal add example.com "Sees the prices" --page /pricing --scroll-depth 75`
}

// Run runs the command.
func (c *goalAddCmd) Run(ctx context.Context, std *stdio) error {
	in := api.GoalInput{Name: c.Name, Currency: pointer(c.Currency)}
	if err := c.set(&in); err != nil {
		return err
	}
	var g api.Goal
	if err := c.call(ctx, http.MethodPost, partPath(c.Domain, "goals"), in, &g); err != nil {
		return err
	}
	return printGoals(std, g)
}

type goalListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (goalListCmd) Help() string {
	return `Example:

	nowcast site goal list example.com`
}

// Run runs the command.
func (c *goalListCmd) Run(ctx context.Context, std *stdio) error {
	goals, err := c.goals(ctx, c.Domain)
	if err != nil {
		return err
	}
	return printGoals(std, goals...)
}

// goals asks for the goals of a site.
func (f *serverFlags) goals(ctx context.Context, domain string) ([]api.Goal, error) {
	var list api.GoalList
	err := f.call(ctx, http.MethodGet, partPath(domain, "goals"), nil, &list)
	return list.Goals, err
}

// goal asks for a goal by its id or name.
func (f *serverFlags) goal(ctx context.Context, domain, given string) (api.Goal, error) {
	goals, err := f.goals(ctx, domain)
	if err != nil {
		return api.Goal{}, err
	}
	return named("goal", goals, given, func(g api.Goal) (string, string) { return g.Id, g.Name })
}

// named finds what has an id or, without one, a name that only one has.
func named[T any](kind string, all []T, given string, of func(T) (id, name string)) (found T, err error) {
	n := 0
	for _, v := range all {
		id, name := of(v)
		if id == given {
			return v, nil
		}
		if name == given {
			found, n = v, n+1
		}
	}
	switch n {
	case 0:
		return found, fmt.Errorf("there is no %s %q; `list` shows those that there are", kind, given)
	case 1:
		return found, nil
	}
	return found, fmt.Errorf("%d %ss have the name %q; give the id of one, as `list` shows it", n, kind,
		given)
}

type goalSetCmd struct {
	serverFlags
	conditionFlags
	Domain   string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Goal     string `arg:"" placeholder:"GOAL" help:"Which goal, by its id or name."`
	Name     string `env:"-" placeholder:"NAME" help:"Its new name."`
	Currency string `env:"-" placeholder:"CODE" help:"The currency of its revenue; none: it has no revenue."`
}

// Help implements kong.HelpProvider.
func (goalSetCmd) Help() string {
	return `With --event, --page, --scroll-depth, --engaged-seconds or --property, these flags replace the
whole condition. The answers to questions about the past change with the goal.

Example:

	nowcast site goal set example.com Sale --name "Sale of a plan" --event Purchase --property plan=pro`
}

// Validate implements kong's validation.
func (c *goalSetCmd) Validate() error {
	if c.Name == "" && c.Currency == "" && c.isZero() {
		return fmt.Errorf("there is nothing to change: give --name, --currency, --event, --page, " +
			"--scroll-depth, --engaged-seconds or --property")
	}
	return nil
}

// Run runs the command.
func (c *goalSetCmd) Run(ctx context.Context, std *stdio) error {
	g, err := c.goal(ctx, c.Domain, c.Goal)
	if err != nil {
		return err
	}
	in := api.GoalInput{
		Name: g.Name, Event: g.Event, Page: g.Page, ScrollDepth: g.ScrollDepth,
		EngagedSeconds: g.EngagedSeconds, Properties: g.Properties, Currency: g.Currency,
		Revision: &g.Revision,
	}
	if c.Name != "" {
		in.Name = c.Name
	}
	if !c.isZero() {
		if err := c.set(&in); err != nil {
			return err
		}
	}
	switch c.Currency {
	case "":
	case "none":
		in.Currency = nil
	default:
		in.Currency = &c.Currency
	}
	if err := c.call(ctx, http.MethodPut, partPath(c.Domain, "goals", g.Id), in, &g); err != nil {
		return err
	}
	return printGoals(std, g)
}

type goalRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Goal   string `arg:"" placeholder:"GOAL" help:"Which goal, by its id or name."`
}

// Help implements kong.HelpProvider.
func (goalRemoveCmd) Help() string {
	return `Example:

	nowcast site goal remove example.com Signup`
}

// Run runs the command.
func (c *goalRemoveCmd) Run(ctx context.Context, std *stdio) error {
	g, err := c.goal(ctx, c.Domain, c.Goal)
	if err != nil {
		return err
	}
	return c.removePart(ctx, std, g.Name, c.Domain, "goals", g.Id)
}

// removePart removes a part of a site and says so.
func (f *serverFlags) removePart(ctx context.Context, std *stdio, name, domain string, part ...string) error {
	if err := f.call(ctx, http.MethodDelete, partPath(domain, part...), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is removed\n", name)
	return err
}
