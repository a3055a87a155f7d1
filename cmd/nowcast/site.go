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

	"nowcast/streamer/api"
)

type siteCmd struct {
	Add    siteAddCmd    `cmd:"" help:"Add a site."`
	List   siteListCmd   `cmd:"" help:"List the sites."`
	Set    siteSetCmd    `cmd:"" help:"Change a site; settings without a flag stay."`
	Remove siteRemoveCmd `cmd:"" help:"Remove a site: its beacons are dropped from then on; its history stays until it expires, or is erased."`

	Goal       goalCmd       `cmd:"" help:"Add, list, change and remove goals."`
	Funnel     funnelCmd     `cmd:"" help:"Add, list, change and remove funnels."`
	Segment    segmentCmd    `cmd:"" help:"Save, list, change and remove segments."`
	Annotation annotationCmd `cmd:"" help:"Add, list, change and remove annotations."`
}

// Help implements kong.HelpProvider.
func (siteCmd) Help() string {
	return `Beacons are counted only for sites that exist. A public site may be read without a key.

Example:

	nowcast site add example.com --timezone Europe/Berlin`
}

func printSites(w io.Writer, sites ...api.Site) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SITE\tPUBLIC\tLISTED\tTIMEZONE\tRETENTION\tCREATED")
	for _, s := range sites {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Domain, yes(s.Public), yes(isTrue(s.Listed)),
			s.Timezone,
			days(s.RetentionDays), s.Created.Format(time.DateTime))
	}
	return t.Flush()
}

func isTrue(b *bool) bool { return b != nil && *b }

func days(n *int) string {
	if n == nil { // from a server of a version before it
		return ""
	}
	return fmt.Sprintf("%d days", *n)
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
	Listed   *bool  `help:"Show it to everybody in lists of sites, if it is public."`
	Timezone string `default:"UTC" placeholder:"ZONE" help:"In whose time its days begin (${default})."`

	RetentionDays *int `placeholder:"DAYS" help:"For how many days its history is kept, 1 to 3650; 0: 395, which is 13 months."`
}

// Help implements kong.HelpProvider.
func (siteAddCmd) Help() string {
	return `Prints the snippet for the site's pages.

Example:

	nowcast site add example.com --public --timezone Europe/Berlin`
}

// Run runs the command.
func (c *siteAddCmd) Run(ctx context.Context, std *stdio) error {
	request := api.SiteCreate{
		Domain: c.Domain, Public: &c.Public, Listed: c.Listed, Timezone: &c.Timezone,
		RetentionDays: c.RetentionDays,
	}
	var site api.Site
	if err := c.call(ctx, http.MethodPost, "/api/v1/sites", request, &site); err != nil {
		return err
	}
	if err := printSites(std.out, site); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "\nPut this into the head of its pages:\n\n  %s\n",
		snippet(strings.TrimSuffix(c.Server, "/"), site.Domain))
	return err
}

type siteListCmd struct{ serverFlags }

// Help implements kong.HelpProvider.
func (siteListCmd) Help() string {
	return `Example:

	nowcast site list`
}

// Run runs the command.
func (c *siteListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.SiteList
	if err := c.call(ctx, http.MethodGet, "/api/v1/sites", nil, &list); err != nil {
		return err
	}
	return printSites(std.out, list.Sites...)
}

type siteSetCmd struct {
	serverFlags
	Domain   string  `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Public   *bool   `negatable:"" help:"Let anybody read it, or nobody without a key."`
	Listed   *bool   `negatable:"" help:"Show it to everybody in lists of sites, if it is public, or only to who has a key."`
	Timezone *string `placeholder:"ZONE" help:"In whose time its days begin."`

	RetentionDays *int `placeholder:"DAYS" help:"For how many days its history is kept, 1 to 3650; 0: the default."`

	Origins []string `placeholder:"ORIGIN" help:"Whose pages may read it in a browser, as https://app.example.com or https://*.example.com."`

	SearchParameter *string `placeholder:"NAME" help:"The parameter of its pages' addresses that holds what visitors search for, as q; none: there is none."`
	ruleFlags
}

// Help implements kong.HelpProvider.
func (siteSetCmd) Help() string {
	return `The rules say which beacons are dropped. Each flag replaces the whole list; "none" empties
it. In paths, * stands for any text up to the next slash and ** for any text. The origins are those
whose pages may read the site in a browser. Any page may read a public site. A site without origins is
readable by pages of its own domain and its subdomains.

Examples:

	nowcast site set example.com --no-public --timezone America/New_York
	nowcast site set example.com --hostname example.com --hostname '*.example.com'
	nowcast site set example.com --block-address 192.0.2.0/24 --block-country DE,FR --block-path '/admin/**'
	nowcast site set example.com --block-path none
	nowcast site set example.com --origins https://intranet.example.net
	nowcast site set example.com --search-parameter q`
}

// ruleFlags are a site's rules.
type ruleFlags struct {
	Hostname     []string `placeholder:"HOST" help:"Count only pages of these hosts, as example.com or *.example.com."`
	BlockAddress []string `placeholder:"CIDR" help:"Don't count visitors from these addresses or networks."`
	BlockCountry []string `placeholder:"CODE" help:"Don't count visitors from these countries, as DE."`
	BlockPath    []string `placeholder:"PATH" help:"Don't count these pages, as /admin/**."`
}

// replacement returns the list that a flag sets: nil to keep the old one, empty for "none".
func replacement(given []string) *[]string {
	switch {
	case len(given) == 0:
		return nil
	case len(given) == 1 && given[0] == "none":
		return &[]string{}
	}
	return &given
}

// rules returns what the flags change; nil for nothing.
func (f *ruleFlags) rules() *api.SiteRules {
	r := api.SiteRules{
		Hostnames: replacement(f.Hostname), BlockedAddresses: replacement(f.BlockAddress),
		BlockedCountries: replacement(f.BlockCountry), BlockedPaths: replacement(f.BlockPath),
	}
	if r == (api.SiteRules{}) {
		return nil
	}
	return &r
}

// printLists prints the lists of a site that have an entry.
func printLists(w io.Writer, s *api.Site) {
	type list struct {
		name    string
		entries *[]string
	}
	var lists []list
	if r := s.Rules; r != nil {
		lists = []list{
			{"counted hosts", r.Hostnames}, {"blocked addresses", r.BlockedAddresses},
			{"blocked countries", r.BlockedCountries}, {"blocked paths", r.BlockedPaths},
		}
	}
	lists = append(lists, list{"origins", s.Origins})
	if p := s.SearchParameter; p != nil && *p != "" {
		lists = append(lists, list{"search parameter", &[]string{*p}})
	}
	for _, l := range lists {
		if l.entries != nil && len(*l.entries) > 0 {
			fmt.Fprintf(w, "  %-18s %s\n", l.name, strings.Join(*l.entries, "  "))
		}
	}
}

// Validate implements kong's validation.
func (c *siteSetCmd) Validate() error {
	if c.Public == nil && c.Listed == nil && c.Timezone == nil && c.RetentionDays == nil &&
		len(c.Origins) == 0 && c.SearchParameter == nil && c.rules() == nil {
		return fmt.Errorf("there is nothing to change: give --public, --no-public, --listed, --no-listed, " +
			"--timezone, --retention-days, --origins, --search-parameter, --hostname, --block-address, " +
			"--block-country or --block-path")
	}
	return nil
}

// Run runs the command.
func (c *siteSetCmd) Run(ctx context.Context, std *stdio) error {
	request := api.SiteUpdate{
		Public: c.Public, Listed: c.Listed, Timezone: c.Timezone, RetentionDays: c.RetentionDays,
		Rules: c.rules(), Origins: replacement(c.Origins), SearchParameter: c.SearchParameter,
	}
	if p := c.SearchParameter; p != nil && *p == "none" {
		request.SearchParameter = new(string)
	}
	var site api.Site
	if err := c.call(ctx, http.MethodPatch, "/api/v1/sites/"+url.PathEscape(c.Domain), request,
		&site); err != nil {
		return err
	}
	if err := printSites(std.out, site); err != nil {
		return err
	}
	printLists(std.out, &site)
	return nil
}

type siteRemoveCmd struct {
	serverFlags
	confirmFlags
	Domain   string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	WithData bool   `help:"Erase what it has received, too."`
}

// Help implements kong.HelpProvider.
func (siteRemoveCmd) Help() string {
	return `With --with-data the command also erases what the site has received: its rows leave ClickHouse,
and every reader of the log leaves its events out from then on. It shows the progress and prints a report of
what was removed from where, and of when the last copy expires. It also erases the data of a site that was
removed before. Ctrl-C ends only the watching: nowcast erasures shows how far it is.

Examples:

	nowcast site remove example.com
	nowcast site remove example.com --with-data`
}

// Run runs the command.
func (c *siteRemoveCmd) Run(ctx context.Context, std *stdio) error {
	if c.WithData {
		return c.erase(ctx, std)
	}
	if err := c.call(ctx, http.MethodDelete, "/api/v1/sites/"+url.PathEscape(c.Domain), nil,
		nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s is removed\n", c.Domain)
	return err
}

// erase removes the site with its data.
func (c *siteRemoveCmd) erase(ctx context.Context, std *stdio) error {
	if err := c.confirm(std, "Remove "+c.Domain+" and erase all that it has received?"); err != nil {
		return err
	}
	var e api.Erasure
	path := "/api/v1/sites/" + url.PathEscape(c.Domain) + "?with_data=true"
	if err := c.call(ctx, http.MethodDelete, path, nil, &e); err != nil {
		return err
	}
	fmt.Fprintf(std.err, "%s is removed, its data is being erased\n", c.Domain)
	return c.watch(ctx, std, e)
}
