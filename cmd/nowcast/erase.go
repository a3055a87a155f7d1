package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"

	"nowcast/internal/retry"
	"nowcast/streamer/api"
)

type eraseCmd struct {
	serverFlags
	confirmFlags
	Site    string `required:"" placeholder:"DOMAIN" help:"Which site."`
	Visitor string `required:"" placeholder:"ID" help:"The id that the visitor was shown at /api/visitor?site=DOMAIN."`
}

// Help implements kong.HelpProvider.
func (eraseCmd) Help() string {
	return `Erases the events of one visitor: their rows leave ClickHouse, and every reader of the log
leaves them out from then on. An id lasts one day; the visitor sees it at /api/visitor?site=DOMAIN on the
address of the beacons, and nobody else does. Counts by the second and by the minute name no visitor and
stay. To erase a whole site: nowcast site remove DOMAIN --with-data.

Ctrl-C ends only the watching, not the erasure: nowcast erasures shows it.

Example:

	nowcast erase --site example.com --visitor 0f1e2d3c4b5a6978`
}

// Run runs the command.
func (c *eraseCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.confirm(std, fmt.Sprintf("Erase all events of visitor %s of %s?", c.Visitor,
		c.Site)); err != nil {
		return err
	}
	var e api.Erasure
	path := "/api/v1/sites/" + url.PathEscape(c.Site) + "/erasures"
	request := api.ErasureCreate{Visitor: strings.ToLower(c.Visitor)}
	if err := c.call(ctx, http.MethodPost, path, request, &e); err != nil {
		return err
	}
	return c.watch(ctx, std, e)
}

type erasuresCmd struct {
	serverFlags
	ID string `arg:"" optional:"" placeholder:"ID" help:"Show this one, and its report."`
}

// Help implements kong.HelpProvider.
func (erasuresCmd) Help() string {
	return `Examples:

	nowcast erasures
	nowcast erasures era_7QW3K2`
}

// Run runs the command.
func (c *erasuresCmd) Run(ctx context.Context, std *stdio) error {
	if c.ID != "" {
		var e api.Erasure
		if err := c.call(ctx, http.MethodGet, "/api/v1/erasures/"+url.PathEscape(c.ID), nil,
			&e); err != nil {
			return err
		}
		return printErasure(std.out, e)
	}
	var list api.ErasureList
	if err := c.call(ctx, http.MethodGet, "/api/v1/erasures", nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSITE\tVISITOR\tREQUESTED\tSTATE")
	for _, e := range list.Erasures {
		visitor := "all, with the site"
		if e.Visitor != nil {
			visitor = *e.Visitor
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", e.Id, e.Site, visitor, e.Requested.Format(time.DateTime),
			e.State)
	}
	return t.Flush()
}

// confirmFlags ask before something is gone for good.
type confirmFlags struct {
	Yes bool `help:"Don't ask; needed where no terminal is."`
}

// confirm asks on a terminal whether to go on. Elsewhere it needs --yes.
func (f *confirmFlags) confirm(std *stdio, question string) error {
	if f.Yes {
		return nil
	}
	if !isTyped(std.in) {
		return errors.New("this can't be undone: give --yes to do it without a question")
	}
	fmt.Fprintf(std.err, "%s This can't be undone. Type yes: ", question)
	answer, err := bufio.NewReader(std.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was erased: the answer wasn't yes")
	}
	return nil
}

// isTyped reports whether a person types what is read.
func isTyped(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

const watchInterval = time.Second

// watch prints the progress of an erasure until it is done, and then the report.
func (f *serverFlags) watch(ctx context.Context, std *stdio, e api.Erasure) error {
	last := ""
	for e.State != api.Done {
		if line := progressLine(e); line != last {
			last = line
			fmt.Fprintln(std.err, line)
		}
		if retry.Sleep(ctx, watchInterval) != nil {
			return fmt.Errorf("the erasure goes on without this command: nowcast erasures %s shows it", e.Id)
		}
		if err := f.call(ctx, http.MethodGet, "/api/v1/erasures/"+e.Id, nil, &e); err != nil {
			return fmt.Errorf("%w; the erasure goes on: nowcast erasures %s shows it", err, e.Id)
		}
	}
	return printErasure(std.out, e)
}

func progressLine(e api.Erasure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Id, e.State)
	for _, t := range e.Tables {
		fmt.Fprintf(&b, ", %d of %d rows of %s removed", t.Found-t.Left, t.Found, t.Table)
	}
	if e.Reason != nil {
		fmt.Fprintf(&b, ": %s", *e.Reason)
	}
	return b.String()
}

// printErasure prints what was removed from where and when the last copy expires.
func printErasure(w io.Writer, e api.Erasure) error {
	what := "all data of " + e.Site
	if e.Visitor != nil {
		what = "the events of visitor " + *e.Visitor + " of " + e.Site
	}
	fmt.Fprintf(w, "%s: %s that were received before %s\n", e.Id, what, e.Before.Format(time.RFC3339))
	if e.State != api.Done {
		_, err := fmt.Fprintln(w, progressLine(e))
		return err
	}
	fmt.Fprintf(w, "Done at %s. Nothing reads it any more.\n\n", e.Updated.Format(time.RFC3339))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "REMOVED FROM\tROWS")
	rows := int64(0)
	for _, x := range e.Tables {
		rows += x.Found
		fmt.Fprintf(t, "ClickHouse %s\t%d\n", x.Table, x.Found)
	}
	if rows == 0 {
		fmt.Fprintln(t, "ClickHouse\t0")
	}
	fmt.Fprintln(t, "\t\nCOPY\tDELETED AT THE LATEST\tNOTE")
	for _, x := range e.Copies {
		fmt.Fprintf(t, "%s\t%s\t%s\n", x.Where, x.Expires.Format(time.RFC3339), x.Note)
	}
	return t.Flush()
}
