package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type journeyCmd struct {
	visitFlags
	After  string `env:"-" xor:"page" placeholder:"PAGE" help:"What is viewed directly after this page; * is anything up to the next slash, ** anything."`
	Before string `env:"-" xor:"page" placeholder:"PAGE" help:"What is viewed directly before this page."`
	Paths  int    `env:"-" placeholder:"N" help:"Paths of 2 to 6 pages: all, or those that begin with --after or end with --before."`
}

// Help implements kong.HelpProvider.
func (journeyCmd) Help() string {
	return `Journeys are the page views of visits, where consecutive views of the same page are one.

Examples:

	nowcast journey --site example.com --after /pricing
	nowcast journey --site example.com --before '/docs/**' --range 30d --filter 'source is Google'
	nowcast journey --site example.com --paths 3 --limit 20
	nowcast journey --site example.com --paths 4 --after /`
}

// Validate implements kong's validation.
func (c *journeyCmd) Validate() error {
	switch {
	case c.After == "" && c.Before == "" && c.Paths == 0:
		return errors.New("give --after or --before a page, or --paths with a number of pages")
	case c.Paths != 0 && (c.Paths < 2 || c.Paths > 6):
		return fmt.Errorf("--paths is %d: give 2 to 6", c.Paths)
	}
	return c.visitFlags.Validate()
}

// journeyAnswer is the answer, as far as it is printed.
type journeyAnswer struct {
	Neighbours []struct {
		Kind, Page    string
		Count, Visits int
		Share         *float64
	}
	Paths []struct {
		Pages         []string
		Count, Visits int
		Share         *float64
	}
	Count, Visits int
	TotalRows     int `json:"total_rows"`
	aboutVisits
}

// Run runs the command.
func (c *journeyCmd) Run(ctx context.Context, std *stdio) error {
	question := map[string]any{}
	switch {
	case c.After != "":
		question["page"], question["direction"] = c.After, "after"
	case c.Before != "":
		question["page"], question["direction"] = c.Before, "before"
	}
	if c.Paths != 0 {
		question["paths"] = c.Paths
	}
	var a journeyAnswer
	if ok, err := c.ask(ctx, std, "/api/v2/journeys", question, &a); !ok {
		return err
	}
	header := "before " + printable(c.Before)
	switch {
	case c.Paths != 0:
		header = "path"
	case c.After != "":
		header = "after " + printable(c.After)
	}
	lines := [][]string{{header, "times", "visits", "share"}}
	line := func(text string, count, visits int, share *float64) {
		lines = append(lines, []string{text, strconv.Itoa(count), strconv.Itoa(visits), percentOf(share)})
	}
	for _, n := range a.Neighbours {
		text := printable(n.Page)
		if n.Kind != "page" {
			text = "(" + n.Kind + ")"
		}
		line(text, n.Count, n.Visits, n.Share)
	}
	for _, p := range a.Paths {
		line(printable(strings.Join(p.Pages, " → ")), p.Count, p.Visits, p.Share)
	}
	last := fmt.Sprintf("%d times in %d visits", a.Count, a.Visits)
	if rows := len(lines) - 1; rows < a.TotalRows {
		last += fmt.Sprintf("; %d of %d rows", rows, a.TotalRows)
	}
	return c.write(ctx, std.out, a.aboutVisits, lines, 1, last)
}
