package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

type visitorCmd struct {
	serverFlags
	Site    string `required:"" placeholder:"DOMAIN" help:"Which site."`
	Visitor string `required:"" placeholder:"ID" help:"The id that the visitor was shown at /api/visitor?site=DOMAIN."`
}

// Help implements kong.HelpProvider.
func (visitorCmd) Help() string {
	return `Prints all events that are stored under a visitor's id, as JSON: the answer to a visitor who asks
what is known about them. An id lasts one day; the visitor sees it at /api/visitor?site=DOMAIN.

Example:

	nowcast visitor --site example.com --visitor 0f1e2d3c4b5a6978`
}

// Run runs the command.
func (c *visitorCmd) Run(ctx context.Context, std *stdio) error {
	var events json.RawMessage
	path := "/api/v1/sites/" + url.PathEscape(c.Site) + "/visitors/" +
		url.PathEscape(strings.ToLower(c.Visitor))
	if err := c.call(ctx, http.MethodGet, path, nil, &events); err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, events, "", "  "); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.Server, err)
	}
	_, err := fmt.Fprintln(std.out, indented.String())
	return err
}
