package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

type siteCmd struct {
	Add    siteAddCmd    `cmd:"" help:"Add a site."`
	List   siteListCmd   `cmd:"" help:"List the sites."`
	Set    siteSetCmd    `cmd:"" help:"Change a site; what isn't given stays."`
	Remove siteRemoveCmd `cmd:"" help:"Remove a site: its beacons are dropped from then on, its history stays until it expires."`
}

// Help is shown by --help.
func (siteCmd) Help() string {
	return `Beacons are counted only for sites that exist. A public site may be read without a key.

Example:

	nowcast site add example.com --timezone Europe/Berlin`
}

// siteJSON is a site as the API has it.
type siteJSON struct {
	Domain   string    `json:"domain"`
	Public   bool      `json:"public"`
	Timezone string    `json:"timezone"`
	Created  time.Time `json:"created"`
}

func printSites(w io.Writer, sites ...siteJSON) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SITE\tPUBLIC\tTIMEZONE\tCREATED")
	for _, s := range sites {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Domain, yes(s.Public), s.Timezone, s.Created.Format(time.DateTime))
	}
	return t.Flush()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type siteAddCmd struct {
	serverFlags
	Domain   string `arg:"" placeholder:"DOMAIN" help:"The host name of its pages."`
	Public   bool   `help:"Let anybody read it."`
	Timezone string `default:"UTC" placeholder:"ZONE" help:"In whose time its days begin (${default})."`
}

// Help is shown by --help.
func (siteAddCmd) Help() string {
	return `Prints the snippet for the site's pages.

Example:

	nowcast site add example.com --public --timezone Europe/Berlin`
}

// Run is the command.
func (c *siteAddCmd) Run(ctx context.Context, std *stdio) error {
	var made siteJSON
	in := siteJSON{Domain: c.Domain, Public: c.Public, Timezone: c.Timezone}
	if err := c.call(ctx, http.MethodPost, "/api/v1/sites", struct {
		Domain   string `json:"domain"`
		Public   bool   `json:"public"`
		Timezone string `json:"timezone"`
	}{in.Domain, in.Public, in.Timezone}, &made); err != nil {
		return err
	}
	if err := printSites(std.out, made); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "\nPut this into the head of its pages:\n\n  %s\n", snippet(strings.TrimSuffix(c.Server, "/"), made.Domain))
	return err
}

type siteListCmd struct{ serverFlags }

// Help is shown by --help.
func (siteListCmd) Help() string {
	return `Example:

	nowcast site list`
}

// Run is the command.
func (c *siteListCmd) Run(ctx context.Context, std *stdio) error {
	var list struct{ Sites []siteJSON }
	if err := c.call(ctx, http.MethodGet, "/api/v1/sites", nil, &list); err != nil {
		return err
	}
	return printSites(std.out, list.Sites...)
}

type siteSetCmd struct {
	serverFlags
	Domain   string  `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Public   *bool   `negatable:"" help:"Let anybody read it, or nobody without a key."`
	Timezone *string `placeholder:"ZONE" help:"In whose time its days begin."`
}

// Help is shown by --help.
func (siteSetCmd) Help() string {
	return `Example:

	nowcast site set example.com --no-public --timezone America/New_York`
}

// Validate says what is missing.
func (c *siteSetCmd) Validate() error {
	if c.Public == nil && c.Timezone == nil {
		return fmt.Errorf("there is nothing to change: give --public, --no-public or --timezone")
	}
	return nil
}

// Run is the command.
func (c *siteSetCmd) Run(ctx context.Context, std *stdio) error {
	var now siteJSON
	if err := c.call(ctx, http.MethodPatch, "/api/v1/sites/"+url.PathEscape(c.Domain), struct {
		Public   *bool   `json:"public,omitempty"`
		Timezone *string `json:"timezone,omitempty"`
	}{c.Public, c.Timezone}, &now); err != nil {
		return err
	}
	return printSites(std.out, now)
}

type siteRemoveCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help is shown by --help.
func (siteRemoveCmd) Help() string {
	return `Example:

	nowcast site remove example.com`
}

// Run is the command.
func (c *siteRemoveCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.call(ctx, http.MethodDelete, "/api/v1/sites/"+url.PathEscape(c.Domain), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is removed\n", c.Domain)
	return err
}
