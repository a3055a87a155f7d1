package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type walkFunnelCmd struct {
	visitFlags
	Step   []string `env:"-" sep:"none" placeholder:"STEP" help:"A step, as page:/pricing or event:Signup; * is anything up to the next slash, ** anything. Repeat it, 2 to 8 times."`
	Within string   `env:"-" enum:"visit,day" default:"visit" help:"Within what all steps have to be: visit or day (${default})."`
	Strict bool     `env:"-" help:"A step has to be the next view or event after the step before it."`
	By     string   `env:"-" placeholder:"DIMENSION" help:"What to break the counts down by, as source."`
}

// Help implements kong.HelpProvider.
func (walkFunnelCmd) Help() string {
	return `Counts the visits that reach each step, one after the other, and the time that they take from the
step before. With --within day it counts all that a visitor does on one day, also in several visits.

Examples:

	nowcast funnel --site example.com --step page:/pricing --step 'page:/signup/**' --step event:Signup
	nowcast funnel --site example.com --range 30d --step page:/ --step event:Buy --within day --by source
	nowcast funnel --site example.com --step page:/ --step page:/pricing --strict --filter 'country is DE'`
}

// Validate implements kong's validation.
func (c *walkFunnelCmd) Validate() error {
	if err := c.visitFlags.Validate(); err != nil {
		return err
	}
	if len(c.Step) < 2 || len(c.Step) > 8 {
		return errors.New("a funnel has 2 to 8 steps: repeat --step, as --step page:/cart --step event:Sale")
	}
	_, err := c.steps()
	return err
}

func (c *walkFunnelCmd) steps() (out []map[string]string, err error) {
	for _, text := range c.Step {
		kind, value, _ := strings.Cut(text, ":")
		if kind != "page" && kind != "event" || value == "" {
			return nil, fmt.Errorf("--step %s: give page:PATH or event:NAME", text)
		}
		out = append(out, map[string]string{kind: value})
	}
	return out, nil
}

// The answer, as far as it is printed.
type (
	funnelAnswer struct {
		Unit string
		funnelCounts
		Breakdown   []funnelValue
		TotalValues int `json:"total_values"`
		aboutVisits
	}
	funnelValue struct {
		Value string
		funnelCounts
	}
	funnelCounts struct {
		Steps []struct {
			Count          int
			Rate           *float64
			RateOfPrevious *float64 `json:"rate_of_previous"`
			Dropped        *int
			Seconds        *struct{ Median, P90 float64 }
		}
	}
)

// Run runs the command.
func (c *walkFunnelCmd) Run(ctx context.Context, std *stdio) error {
	steps, err := c.steps()
	if err != nil {
		return err
	}
	question := map[string]any{"steps": steps, "scope": c.Within, "strict": c.Strict}
	if c.By != "" {
		question["breakdown"] = dimension(c.By)
	}
	var a funnelAnswer
	if ok, err := c.ask(ctx, std, "/api/v2/funnel", question, &a); !ok {
		return err
	}
	header := []string{"step", strings.ReplaceAll(a.Unit, "_", " "), "of step 1",
		"of the one before", "dropped", "median", "p90"}
	if c.By == "" {
		lines := append([][]string{header}, c.rows(a.funnelCounts)...)
		return c.write(ctx, std.out, a.aboutVisits, lines, 1, "")
	}
	lines := [][]string{append([]string{dimension(c.By)}, header...)}
	for _, v := range append([]funnelValue{{"all", a.funnelCounts}}, a.Breakdown...) {
		for i, row := range c.rows(v.funnelCounts) {
			value := ""
			if i == 0 {
				value = printable(v.Value)
			}
			lines = append(lines, append([]string{value}, row...))
		}
	}
	last := ""
	if a.TotalValues > len(a.Breakdown) {
		last = fmt.Sprintf("%d of %d values", len(a.Breakdown), a.TotalValues)
	}
	return c.write(ctx, std.out, a.aboutVisits, lines, 2, last)
}

// rows are the lines of the steps.
func (c *walkFunnelCmd) rows(counts funnelCounts) (lines [][]string) {
	for i, s := range counts.Steps {
		line := []string{printable(c.Step[i]), strconv.Itoa(s.Count), percentOf(s.Rate),
			percentOf(s.RateOfPrevious), "", "", ""}
		if s.Dropped != nil {
			line[4] = strconv.Itoa(*s.Dropped)
		}
		if s.Seconds != nil {
			line[5], line[6] = pause(s.Seconds.Median), pause(s.Seconds.P90)
		}
		lines = append(lines, line)
	}
	return lines
}
