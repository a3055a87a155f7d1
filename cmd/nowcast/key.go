package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

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
	Name     string  `arg:"" placeholder:"NAME" help:"What it is for."`
	Admin    bool    `env:"-" help:"It may add and remove sites and keys, and read all sites."`
	AllSites bool    `env:"-" help:"It may read all sites, also those that are added later."`
	Site     domains `env:"-" placeholder:"DOMAIN" help:"Which sites it may read; repeat it or separate them by commas."`
	Write    bool    `env:"-" help:"It may change segments and annotations of the sites that it may read."`
}

// domains are the values of --site. An empty one is refused: it would read as if no site had been named.
type domains []string

// Decode implements kong.MapperValue.
func (d *domains) Decode(ctx *kong.DecodeContext) error {
	var given string
	if err := ctx.Scan.PopValueInto("domain", &given); err != nil {
		return fmt.Errorf("read --site: %w", err)
	}
	for _, name := range strings.Split(given, ",") {
		switch {
		case strings.TrimSpace(name) == "":
			return errors.New("there is an empty name: give a site, as --site example.com")
		case slices.Contains(*d, name):
			return fmt.Errorf("%s is named twice", name)
		}
		*d = append(*d, name)
	}
	return nil
}

// Validate implements kong's validation.
func (c *keyAddCmd) Validate() error {
	named := 0
	for _, given := range []bool{c.Admin, c.AllSites, len(c.Site) > 0} {
		if given {
			named++
		}
	}
	if named != 1 {
		return errors.New("say what the key may read: give one of --site DOMAIN, --all-sites and --admin")
	}
	return nil
}

// Help implements kong.HelpProvider.
func (keyAddCmd) Help() string {
	return `Examples:

	nowcast key add "the newsroom's screen" --site example.com,blog.example.com
	nowcast key add "the data team" --all-sites --write`
}

// Run runs the command.
func (c *keyAddCmd) Run(ctx context.Context, std *stdio) error {
	request := api.KeyCreate{Name: c.Name, Admin: &c.Admin}
	if c.AllSites {
		request.AllSites = &c.AllSites
	}
	if c.Write {
		request.MayWrite = &c.Write
	}
	if len(c.Site) > 0 {
		request.Sites = (*[]string)(&c.Site)
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
	fmt.Fprintln(t, "ID\tNAME\tADMIN\tSITES\tWRITES\tCREATED")
	for _, k := range list.Keys {
		sites := "none"
		switch {
		case k.Sites != nil:
			sites = strings.Join(*k.Sites, ",")
		case k.Admin || isTrue(k.AllSites):
			sites = "all"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", k.Id, k.Name, yes(k.Admin), sites,
			yes(k.Admin || isTrue(k.MayWrite)), k.Created.Format(time.DateTime))
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
