package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"nowcast/streamer/api"
)

type queryCmd struct {
	serverFlags
	queryFlags
	Query string `arg:"" optional:"" placeholder:"QUERY" help:"The query as JSON, as POST /api/v2/query takes it; a file that has it; or - for stdin."`
	JSON  bool   `name:"json" env:"-" xor:"format" help:"Print the whole answer as JSON."`
	CSV   bool   `name:"csv" env:"-" xor:"format" help:"Print the rows as CSV."`
}

// Help implements kong.HelpProvider.
func (queryCmd) Help() string {
	return `Give the query as JSON, in the dialect of the Plausible Stats API, or build it by flags.

Dimensions may be written short: page, hostname, name and goal are event:…, hour, day and so on are
time:…, and all others visit:…, as source for visit:source.

A filter is a dimension, an operator and values: "page is /, /pricing". Operators are is, contains,
matches (a regular expression) and matches_wildcard (* up to the next slash, ** anything), each also
with "not" behind it. A value with a comma or a quote goes in double quotes: "page is \"/a,b\"". An event
passes when one of the values fits, and all filters have to hold. What has "or" in it is asked as JSON.

Examples:

	nowcast query --site example.com --range day
	nowcast query --site example.com --range 30d --by source --metrics visitors,bounce_rate --limit 10
	nowcast query --site example.com --range 2026-11-01,2026-11-30 --by day --order 'day asc' --csv
	nowcast query --site example.com --by page --filter 'country is DE, AT' --filter 'page contains not /doc'
	nowcast query '{"site_id":"example.com","metrics":["visitors","pageviews"],"date_range":"7d"}'
	nowcast query query.json --json`
}

// Validate implements kong's validation.
func (c *queryCmd) Validate() error {
	switch {
	case c.Query == "" && c.Site == "":
		return errors.New("give a query as JSON, or --site and what to ask of it")
	case c.Query != "" && c.given():
		return errors.New("the query is in the JSON already: leave out --site and the other flags of a query")
	case c.Query == "":
		_, err := c.request()
		return err
	}
	return nil
}

// Run runs the command.
func (c *queryCmd) Run(ctx context.Context, std *stdio) error {
	var request any
	var err error
	if c.Query == "" {
		request, err = c.request()
	} else {
		request, err = readQuery(c.Query, std.in)
	}
	if err != nil {
		return err
	}
	var body json.RawMessage
	if err := c.call(ctx, http.MethodPost, "/api/v2/query", request, &body); err != nil {
		return err
	}
	if c.JSON {
		return c.writeJSON(std.out, body)
	}
	var a queryAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.Server, err)
	}
	if c.CSV {
		a.writeWarnings(std.err)
		return a.writeCSV(std.out)
	}
	return a.writeTable(std.out, c.timezone(ctx, a.Query.SiteID), terminalWidth(std.out))
}

// writeJSON prints an answer as it is.
func (f *serverFlags) writeJSON(w io.Writer, body json.RawMessage) error {
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return fmt.Errorf("read the answer of %s: %w", f.Server, err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// timezone returns the name of a site's time zone; "" if the server doesn't say it.
func (f *serverFlags) timezone(ctx context.Context, site string) string {
	var st api.Site
	if f.call(ctx, http.MethodGet, "/api/v1/sites/"+url.PathEscape(site), nil, &st) != nil {
		return ""
	}
	return st.Timezone
}

// maxQuery bounds what is read as a query, in bytes; the server takes less.
const maxQuery = 1 << 20

// readQuery reads a query that is JSON itself, the name of a file, or - for in.
func readQuery(given string, in io.Reader) (json.RawMessage, error) {
	text, where := []byte(given), "the query"
	if !strings.HasPrefix(strings.TrimSpace(given), "{") {
		from, name := in, "stdin"
		if given != "-" {
			f, err := os.Open(given)
			if err != nil {
				return nil, fmt.Errorf("read the query: %w; "+
					"a query is JSON that begins with {, a file, or - for stdin", err)
			}
			defer f.Close()
			from, name = f, given
		}
		var err error
		if text, err = io.ReadAll(io.LimitReader(from, maxQuery)); err != nil {
			return nil, fmt.Errorf("read the query: %w", err)
		}
		where = "the query in " + name
	}
	if !json.Valid(text) {
		var ignored json.RawMessage
		return nil, fmt.Errorf("%s is not JSON: %w", where, json.Unmarshal(text, &ignored))
	}
	return text, nil
}

// queryAnswer is what is printed of an answer.
type queryAnswer struct {
	Results []struct {
		Metrics    []json.RawMessage
		Dimensions []string
	}
	Meta struct {
		TotalRows *int `json:"total_rows"`
		Warnings  []warning
	}
	Query struct {
		SiteID     string    `json:"site_id"`
		DateRange  [2]string `json:"date_range"`
		Metrics    []string
		Dimensions []string
	}
}

type warning struct{ Warning string }

func (a *queryAnswer) writeWarnings(w io.Writer) { writeWarnings(w, a.Meta.Warnings) }

func writeWarnings(w io.Writer, list []warning) {
	for _, x := range list {
		fmt.Fprintln(w, "Warning:", printable(x.Warning))
	}
}

func (a *queryAnswer) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	for _, line := range a.lines(func(s string) string { return s }) {
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// lines returns the names of the columns and the rows; value makes a cell of a dimension's value.
func (a *queryAnswer) lines(value func(string) string) [][]string {
	lines := [][]string{append(append([]string{}, a.Query.Dimensions...), a.Query.Metrics...)}
	for _, r := range a.Results {
		var line []string
		for _, d := range r.Dimensions {
			line = append(line, value(d))
		}
		for _, m := range r.Metrics {
			cell := string(m)
			if cell == "null" {
				cell = ""
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	return lines
}

// terminalWidth returns the number of columns of a terminal; 0: w is none.
func terminalWidth(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(w.(*os.File).Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
