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

type loginCmd struct{ serverFlags }

// Help implements kong.HelpProvider.
func (loginCmd) Help() string {
	return `Prints a link that logs a browser in to the dashboard, with the rights of the key. It works once,
within ten minutes. Opening the page doesn't use it up; its button does.

Examples:

	nowcast login
	nowcast login --server https://stats.example.com --key nck_…`
}

// Run runs the command.
func (c *loginCmd) Run(ctx context.Context, std *stdio) error {
	var code api.LoginCode
	if err := c.call(ctx, http.MethodPost, "/api/v1/codes", nil, &code); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s%s\n\nIt logs a browser in once, until %s.\n",
		strings.TrimSuffix(c.Server, "/"), code.Path, code.Expires.Local().Format(time.TimeOnly))
	return err
}

type sessionCmd struct {
	List sessionListCmd `cmd:"" help:"List the browsers that are logged in."`
	End  sessionEndCmd  `cmd:"" help:"End sessions, and with them their streams and tickets."`
}

// Help implements kong.HelpProvider.
func (sessionCmd) Help() string {
	return `A session is what a browser has after a login. It ends seven days after its last use, when it is
ended, and when its key is removed.

Example:

	nowcast session list`
}

const sessionsPath = "/api/v1/sessions"

type sessionListCmd struct{ serverFlags }

// Help implements kong.HelpProvider.
func (sessionListCmd) Help() string {
	return `Example:

	nowcast session list`
}

// Run runs the command.
func (c *sessionListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.SessionList
	if err := c.call(ctx, http.MethodGet, sessionsPath, nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKEY\tNAME\tCREATED\tENDS")
	for _, s := range list.Sessions {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Id, s.Key, s.Name, s.Created.Format(time.DateTime),
			s.Expires.Format(time.DateTime))
	}
	return t.Flush()
}

type sessionEndCmd struct {
	serverFlags
	ID  []string `arg:"" optional:"" placeholder:"ID" help:"Which sessions, as the list shows them."`
	All bool     `help:"All of them."`
}

// Help implements kong.HelpProvider.
func (sessionEndCmd) Help() string {
	return `Examples:

	nowcast session end 3f9a1c
	nowcast session end --all`
}

// Validate implements kong's validation.
func (c *sessionEndCmd) Validate() error {
	if c.All == (len(c.ID) > 0) {
		return fmt.Errorf("name sessions by their ids, or give --all")
	}
	return nil
}

// Run runs the command.
func (c *sessionEndCmd) Run(ctx context.Context, std *stdio) error {
	if c.All {
		var list api.SessionList
		if err := c.call(ctx, http.MethodGet, sessionsPath, nil, &list); err != nil {
			return err
		}
		for _, s := range list.Sessions {
			c.ID = append(c.ID, s.Id)
		}
	}
	for _, id := range c.ID {
		if err := c.call(ctx, http.MethodDelete, sessionsPath+"/"+url.PathEscape(id), nil, nil); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(std.out, "%s is ended\n", id); err != nil {
			return err
		}
	}
	return nil
}
