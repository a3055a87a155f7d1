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

type annotationCmd struct {
	Add    annotationAddCmd    `cmd:"" help:"Annotate a day or a time."`
	List   annotationListCmd   `cmd:"" help:"List a site's annotations."`
	Set    annotationSetCmd    `cmd:"" help:"Change an annotation; what has no flag stays."`
	Remove annotationRemoveCmd `cmd:"" help:"Remove an annotation."`
}

// Help implements kong.HelpProvider.
func (annotationCmd) Help() string {
	return `An annotation says what happened, for people who look at the history. The commands need an
admin key, or a key that may write.

Example:

	nowcast site annotation add example.com 2026-11-30 "New prices"`
}

func printAnnotations(std *stdio, annotations ...api.Annotation) error {
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tAT\tTEXT\tBY")
	for _, a := range annotations {
		text := strings.ReplaceAll(a.Text, "\n", " ")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Id, a.At, text, a.By)
	}
	return t.Flush()
}

type annotationAddCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	At     string `arg:"" placeholder:"TIME" help:"A day or a minute by the site's clock, as 2026-11-30 or 2026-11-30T14:05."`
	Text   string `arg:"" placeholder:"TEXT" help:"What happened, in at most 300 characters."`
}

// Help implements kong.HelpProvider.
func (annotationAddCmd) Help() string {
	return `Examples:

	nowcast site annotation add example.com 2026-11-30 "New prices"
	nowcast site annotation add example.com 2026-11-30T14:05 "On the evening news"`
}

// Run runs the command.
func (c *annotationAddCmd) Run(ctx context.Context, std *stdio) error {
	var a api.Annotation
	in := api.AnnotationInput{At: c.At, Text: c.Text}
	if err := c.call(ctx, http.MethodPost, partPath(c.Domain, "annotations"), in, &a); err != nil {
		return err
	}
	return printAnnotations(std, a)
}

type annotationListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (annotationListCmd) Help() string {
	return `Example:

	nowcast site annotation list example.com`
}

// Run runs the command.
func (c *annotationListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.AnnotationList
	if err := c.call(ctx, http.MethodGet, partPath(c.Domain, "annotations"), nil, &list); err != nil {
		return err
	}
	return printAnnotations(std, list.Annotations...)
}

type annotationSetCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	ID     string `arg:"" placeholder:"ID" help:"Which annotation, as the list shows it."`
	At     string `env:"-" placeholder:"TIME" help:"A day or a minute by the site's clock."`
	Text   string `env:"-" placeholder:"TEXT" help:"What happened."`
}

// Help implements kong.HelpProvider.
func (annotationSetCmd) Help() string {
	return `Example:

	nowcast site annotation set example.com 3f9a1c --text "New prices, announced by mail"`
}

// Validate implements kong's validation.
func (c *annotationSetCmd) Validate() error {
	if c.At == "" && c.Text == "" {
		return errors.New("there is nothing to change: give --at or --text")
	}
	return nil
}

// Run runs the command.
func (c *annotationSetCmd) Run(ctx context.Context, std *stdio) error {
	var list api.AnnotationList
	if err := c.call(ctx, http.MethodGet, partPath(c.Domain, "annotations"), nil, &list); err != nil {
		return err
	}
	a, err := named("annotation", list.Annotations, c.ID,
		func(a api.Annotation) (string, string) { return a.Id, "" })
	if err != nil {
		return err
	}
	in := api.AnnotationInput{At: a.At, Text: a.Text, Revision: &a.Revision}
	if c.At != "" {
		in.At = c.At
	}
	if c.Text != "" {
		in.Text = c.Text
	}
	if err := c.call(ctx, http.MethodPut, partPath(c.Domain, "annotations", a.Id), in, &a); err != nil {
		return err
	}
	return printAnnotations(std, a)
}

type annotationRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	ID     string `arg:"" placeholder:"ID" help:"Which annotation, as the list shows it."`
}

// Help implements kong.HelpProvider.
func (annotationRemoveCmd) Help() string {
	return `Example:

	nowcast site annotation remove example.com 3f9a1c`
}

// Run runs the command.
func (c *annotationRemoveCmd) Run(ctx context.Context, std *stdio) error {
	return c.removePart(ctx, std, c.ID, c.Domain, "annotations", c.ID)
}
