package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"

	"nowcast/streamer/api"
)

type funnelCmd struct {
	Add    funnelAddCmd    `cmd:"" help:"Add a funnel."`
	List   funnelListCmd   `cmd:"" help:"List a site's funnels."`
	Set    funnelSetCmd    `cmd:"" help:"Change a funnel; what has no flag stays."`
	Remove funnelRemoveCmd `cmd:"" help:"Remove a funnel."`
}

// Help implements kong.HelpProvider.
func (funnelCmd) Help() string {
	return `A funnel has 2 to 8 steps that visitors take one after the other.

Example:

	nowcast site funnel add example.com Buy --step page:/pricing --step goal:Sale`
}

const stepHelp = "A step, in their order: page:/pricing, event:Purchase, or goal: and a goal's id or name."

// readSteps reads the values of --step. goals are those of the site.
func readSteps(goals []api.Goal, given []string) ([]api.FunnelStep, error) {
	var steps []api.FunnelStep
	for _, s := range given {
		var step api.FunnelStep
		switch kind, text, _ := strings.Cut(s, ":"); kind {
		case "page":
			step.Page = &text
		case "event":
			step.Event = &text
		case "goal":
			g, err := named("goal", goals, text, func(g api.Goal) (string, string) { return g.Id, g.Name })
			if err != nil {
				return nil, err
			}
			step.Goal = &g.Id
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// checkSteps refuses what readSteps can't read.
func checkSteps(given []string) error {
	for _, s := range given {
		kind, text, _ := strings.Cut(s, ":")
		if text == "" || kind != "page" && kind != "event" && kind != "goal" {
			return fmt.Errorf("--step %s: give it as page:/pricing, event:Purchase or goal:Sale", s)
		}
	}
	return nil
}

func printFunnels(std *stdio, goals []api.Goal, funnels ...api.Funnel) error {
	names := map[string]string{}
	for _, g := range goals {
		names[g.Id] = g.Name
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tWITHIN\tSTRICT\tSTEPS")
	for _, f := range funnels {
		var steps []string
		for _, s := range f.Steps {
			if s.Goal == nil {
				steps = append(steps, condition(s.Event, s.Page, s.ScrollDepth, s.EngagedSeconds,
					s.Properties))
			} else if name, ok := names[*s.Goal]; ok {
				steps = append(steps, "goal "+name)
			} else {
				steps = append(steps, "goal "+*s.Goal)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Id, f.Name, f.Scope, yes(f.Strict),
			strings.Join(steps, " → "))
	}
	return t.Flush()
}

type funnelAddCmd struct {
	serverFlags
	Domain string   `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Name   string   `arg:"" placeholder:"NAME" help:"How lists show it; no other funnel of the site has this name."`
	Step   []string `env:"-" sep:"none" placeholder:"STEP" help:"${step_help}"`
	Within string   `env:"-" default:"visit" enum:"visit,day" placeholder:"visit|day" help:"Within what a visitor has to take all steps (${default})."`
	Strict bool     `env:"-" help:"A step has to be the next view or custom event after the step before it."`
}

// Help implements kong.HelpProvider.
func (funnelAddCmd) Help() string {
	return `Example:

	nowcast site funnel add example.com Buy --step page:/cart --step event:Pay --step goal:Sale --within day`
}

// Validate implements kong's validation.
func (c *funnelAddCmd) Validate() error {
	if len(c.Step) < 2 {
		return errors.New("a funnel has 2 to 8 steps: repeat --step, as --step page:/cart --step goal:Sale")
	}
	return checkSteps(c.Step)
}

// Run runs the command.
func (c *funnelAddCmd) Run(ctx context.Context, std *stdio) error {
	goals, err := c.goals(ctx, c.Domain)
	if err != nil {
		return err
	}
	steps, err := readSteps(goals, c.Step)
	if err != nil {
		return err
	}
	scope := api.FunnelScope(c.Within)
	in := api.FunnelInput{Name: c.Name, Steps: steps, Scope: &scope, Strict: &c.Strict}
	var f api.Funnel
	if err := c.call(ctx, http.MethodPost, partPath(c.Domain, "funnels"), in, &f); err != nil {
		return err
	}
	return printFunnels(std, goals, f)
}

type funnelListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (funnelListCmd) Help() string {
	return `Example:

	nowcast site funnel list example.com`
}

// Run runs the command.
func (c *funnelListCmd) Run(ctx context.Context, std *stdio) error {
	goals, err := c.goals(ctx, c.Domain)
	if err != nil {
		return err
	}
	funnels, err := c.funnels(ctx, c.Domain)
	if err != nil {
		return err
	}
	return printFunnels(std, goals, funnels...)
}

// funnels asks for the funnels of a site.
func (f *serverFlags) funnels(ctx context.Context, domain string) ([]api.Funnel, error) {
	var list api.FunnelList
	err := f.call(ctx, http.MethodGet, partPath(domain, "funnels"), nil, &list)
	return list.Funnels, err
}

// funnel asks for a funnel by its id or name.
func (f *serverFlags) funnel(ctx context.Context, domain, given string) (api.Funnel, error) {
	funnels, err := f.funnels(ctx, domain)
	if err != nil {
		return api.Funnel{}, err
	}
	return named("funnel", funnels, given, func(f api.Funnel) (string, string) { return f.Id, f.Name })
}

type funnelSetCmd struct {
	serverFlags
	Domain string   `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Funnel string   `arg:"" placeholder:"FUNNEL" help:"Which funnel, by its id or name."`
	Name   string   `env:"-" placeholder:"NAME" help:"Its new name."`
	Step   []string `env:"-" sep:"none" placeholder:"STEP" help:"${step_help} They replace all steps."`
	Within string   `env:"-" default:"" enum:",visit,day" placeholder:"visit|day" help:"Within what a visitor has to take all steps."`
	Strict *bool    `env:"-" negatable:"" help:"A step has to be the next view or custom event after the step before it, or not."`
}

// Help implements kong.HelpProvider.
func (funnelSetCmd) Help() string {
	return `Example:

	nowcast site funnel set example.com Buy --strict --within visit`
}

// Validate implements kong's validation.
func (c *funnelSetCmd) Validate() error {
	if c.Name == "" && len(c.Step) == 0 && c.Within == "" && c.Strict == nil {
		return errors.New("there is nothing to change: give --name, --step, --within, --strict " +
			"or --no-strict")
	}
	return checkSteps(c.Step)
}

// Run runs the command.
func (c *funnelSetCmd) Run(ctx context.Context, std *stdio) error {
	goals, err := c.goals(ctx, c.Domain)
	if err != nil {
		return err
	}
	f, err := c.funnel(ctx, c.Domain, c.Funnel)
	if err != nil {
		return err
	}
	in := api.FunnelInput{Name: f.Name, Steps: f.Steps, Scope: &f.Scope, Strict: &f.Strict,
		Revision: &f.Revision}
	if c.Name != "" {
		in.Name = c.Name
	}
	if c.Within != "" {
		scope := api.FunnelScope(c.Within)
		in.Scope = &scope
	}
	if c.Strict != nil {
		in.Strict = c.Strict
	}
	if len(c.Step) > 0 {
		if in.Steps, err = readSteps(goals, c.Step); err != nil {
			return err
		}
	}
	if err := c.call(ctx, http.MethodPut, partPath(c.Domain, "funnels", f.Id), in, &f); err != nil {
		return err
	}
	return printFunnels(std, goals, f)
}

type funnelRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Funnel string `arg:"" placeholder:"FUNNEL" help:"Which funnel, by its id or name."`
}

// Help implements kong.HelpProvider.
func (funnelRemoveCmd) Help() string {
	return `Example:

	nowcast site funnel remove example.com Buy`
}

// Run runs the command.
func (c *funnelRemoveCmd) Run(ctx context.Context, std *stdio) error {
	f, err := c.funnel(ctx, c.Domain, c.Funnel)
	if err != nil {
		return err
	}
	return c.removePart(ctx, std, f.Name, c.Domain, "funnels", f.Id)
}
