package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"nowcast/streamer/api"
)

type linkCmd struct {
	Add    linkAddCmd    `cmd:"" help:"Make a share link to a site and print its address, which is shown only once."`
	List   linkListCmd   `cmd:"" help:"List a site's share links, without their secrets."`
	Remove linkRemoveCmd `cmd:"" help:"Revoke a share link, which ends what was opened by it."`
}

// Help implements kong.HelpProvider.
func (linkCmd) Help() string {
	return `A share link lets its holder read one site, live and in history, without a key.

Example:

	nowcast link add example.com "the press office"`
}

func linksPath(domain string) string { return "/api/v1/sites/" + url.PathEscape(domain) + "/links" }

type linkAddCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Name   string `arg:"" placeholder:"NAME" help:"Whom or what it is for."`
}

// Help implements kong.HelpProvider.
func (linkAddCmd) Help() string {
	return `Example:

	nowcast link add example.com "the press office"`
}

// Run runs the command.
func (c *linkAddCmd) Run(ctx context.Context, std *stdio) error {
	var link api.LinkCreated
	if err := c.call(ctx, http.MethodPost, linksPath(c.Domain), api.LinkCreate{Name: c.Name},
		&link); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out,
		"%s%s\n\nThis is the only time that the link is shown. Its id, to revoke it: %s\n",
		strings.TrimSuffix(c.Server, "/"), link.Path, link.Id)
	return err
}

type linkListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (linkListCmd) Help() string {
	return `Example:

	nowcast link list example.com`
}

// Run runs the command.
func (c *linkListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.LinkList
	if err := c.call(ctx, http.MethodGet, linksPath(c.Domain), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tCREATED")
	for _, l := range list.Links {
		fmt.Fprintf(t, "%s\t%s\t%s\n", l.Id, l.Name, l.Created.Format(time.DateTime))
	}
	return t.Flush()
}

type linkRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	ID     string `arg:"" placeholder:"ID" help:"Which link, as the list shows it."`
}

// Help implements kong.HelpProvider.
func (linkRemoveCmd) Help() string {
	return `Example:

	nowcast link remove example.com 3f9a1c`
}

// Run runs the command.
func (c *linkRemoveCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.call(ctx, http.MethodDelete, linksPath(c.Domain)+"/"+url.PathEscape(c.ID), nil,
		nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is revoked\n", c.ID)
	return err
}
