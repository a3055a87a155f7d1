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

type keyCmd struct {
	Add    keyAddCmd    `cmd:"" help:"Make a key and print its secret, which is shown only once."`
	List   keyListCmd   `cmd:"" help:"List the keys, without their secrets."`
	Remove keyRemoveCmd `cmd:"" help:"Remove a key, and with it the sessions made by it."`
}

// Help implements kong.HelpProvider.
func (keyCmd) Help() string {
	return `A key opens the statistics of sites: in the header "Authorization: Bearer nck_…", or in a
browser that logs in with it at /login.

Example:

	nowcast key add "the newsroom's screen" --site example.com`
}

type keyAddCmd struct {
	serverFlags
	Name  string   `arg:"" placeholder:"NAME" help:"What it is for."`
	Admin bool     `help:"It may add and remove sites and keys."`
	Site  []string `env:"-" placeholder:"DOMAIN" help:"Which sites it may read; without it, all."`
}

// Help implements kong.HelpProvider.
func (keyAddCmd) Help() string {
	return `Example:

	nowcast key add "the newsroom's screen" --site example.com,blog.example.com`
}

// Run runs the command.
func (c *keyAddCmd) Run(ctx context.Context, std *stdio) error {
	request := api.KeyCreate{Name: c.Name, Admin: &c.Admin}
	if len(c.Site) > 0 {
		request.Sites = &c.Site
	}
	var key api.KeyCreated
	if err := c.call(ctx, http.MethodPost, "/api/v1/keys", request, &key); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out,
		"%s\n\nThis is the only time that the secret is shown. The key's id, to remove it: %s\n", key.Secret,
		key.Id)
	return err
}

type keyListCmd struct{ serverFlags }

// Help implements kong.HelpProvider.
func (keyListCmd) Help() string {
	return `Example:

	nowcast key list`
}

// Run runs the command.
func (c *keyListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.KeyList
	if err := c.call(ctx, http.MethodGet, "/api/v1/keys", nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tADMIN\tSITES\tCREATED")
	for _, k := range list.Keys {
		sites := "all"
		if k.Sites != nil {
			sites = strings.Join(*k.Sites, ",")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Id, k.Name, yes(k.Admin), sites,
			k.Created.Format(time.DateTime))
	}
	return t.Flush()
}

type keyRemoveCmd struct {
	serverFlags
	ID string `arg:"" placeholder:"ID" help:"Which key, as the list shows it."`
}

// Help implements kong.HelpProvider.
func (keyRemoveCmd) Help() string {
	return `Example:

	nowcast key remove 3f9a1c`
}

// Run runs the command.
func (c *keyRemoveCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.call(ctx, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(c.ID), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is removed\n", c.ID)
	return err
}
