package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"nowcast/aggregator/sealer"
)

type sealCmd struct {
	Rebuild    bool   `help:"Build the days again, beside those that count, and switch to all of them in one step."`
	From       *date  `placeholder:"DATE" help:"Only days from this one on, as 2026-11-01; without it, all."`
	DryRun     bool   `help:"With --rebuild: build and compare, and don't switch."`
	Abandon    bool   `help:"Give up what a rebuild has left that ended without its switch."`
	Most       uint32 `default:"50" placeholder:"N" help:"How many changed days to print (${default})."`
	Clickhouse string `secret:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user@host:9000/database; without it, that of --data-dir."`
	clickhouseAccess
	DataDir string `default:"./.nowcast" placeholder:"DIR" help:"Data dir of a running nowcast all (${default})."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (sealCmd) Help() string {
	return `Says how many days of sites are sealed, and how many are read from their events: those that
are open, that have changed since, or that older rules have sealed. The aggregators' seal lane seals them.

With --rebuild the command builds all days again from the events, as after a change of the rules, while
history answers from the builds of before. It then switches to all days in one step, and prints the days
whose sums have changed. It needs room for a second copy of the sealed rows. Progress goes to stderr.

Examples:

	nowcast seal
	nowcast seal --rebuild --dry-run --from 2026-11-01
	nowcast seal --rebuild --clickhouse clickhouse://clickhouse:9000/nowcast`
}

// date is a day, as 2026-11-01.
type date struct{ time.Time }

// UnmarshalText reads a date.
func (d *date) UnmarshalText(b []byte) (err error) {
	if d.Time, err = time.Parse(time.DateOnly, string(b)); err != nil {
		return fmt.Errorf("%q is no date: give it as 2026-11-01", b)
	}
	return nil
}

// Validate implements kong's validation.
func (c *sealCmd) Validate() error {
	switch {
	case c.DryRun && !c.Rebuild:
		return errors.New("--dry-run is for --rebuild")
	case c.Abandon && c.Rebuild:
		return errors.New("give --abandon first, and --rebuild alone")
	case c.Clickhouse == "":
		return nil
	}
	return c.check(c.Clickhouse)
}

// Run runs the command.
func (c *sealCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	dsn := c.Clickhouse
	if dsn == "" {
		ends, err := endpointsOf(c.DataDir, nil, "")
		if err != nil {
			return err
		}
		dsn = ends.Clickhouse
	}
	db, err := c.open(log, dsn)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	if err := db.Migrate(ctx); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	var from time.Time
	if c.From != nil {
		from = c.From.Time
	}
	switch {
	case c.Abandon:
		return sealer.Abandon(ctx, db)
	case c.Rebuild:
		start := time.Now()
		days, changes, err := sealer.Rebuild{From: from, DryRun: c.DryRun, Most: c.Most,
			Progress: func(days, of int, events uint64) {
				fmt.Fprintf(std.err, "%d of %d days built, %d events, %s\n", days, of, events,
					time.Since(start).Round(time.Second))
			}}.Run(ctx, db, log)
		if err != nil {
			return fmt.Errorf("rebuild sealed days: %w", err)
		}
		return c.printChanges(std, days, changes)
	}
	s, err := sealer.ReadStatus(ctx, db, from)
	if err != nil {
		return fmt.Errorf("read the state of sealed days: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(std.out).Encode(s)
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "days of sites\t%d\t\nsealed\t%d\t\nopen, or not sealed yet\t%d\t\nchanged since\t%d\t\n"+
		"sealed by older rules\t%d\t\nevents in seals\t%d\t\nseals\t%d\t\n",
		s.Days, s.Sealed, s.Never, s.Changed, s.Outdated, s.Events, s.Seals)
	if s.Oldest != "" {
		fmt.Fprintf(t, "oldest day that waits\t%s\t\n", s.Oldest)
	}
	return t.Flush()
}

// printChanges prints the days that a rebuild has changed.
func (c *sealCmd) printChanges(std *stdio, days int, changes []sealer.Change) error {
	if c.JSON {
		return json.NewEncoder(std.out).Encode(struct {
			Days    int             `json:"days"`
			Changes []sealer.Change `json:"changes"`
		}{days, changes})
	}
	what := "Built %d days again, and switched to them. %d of them have changed%s.\n"
	if c.DryRun {
		what = "Built %d days again, and dropped them. %d of them would change%s.\n"
	}
	more := ""
	if len(changes) >= int(c.Most) {
		more = " or more"
	}
	fmt.Fprintf(std.out, what, days, len(changes), more)
	if len(changes) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SITE\tDAY\tVISITORS\tVISITS\tPAGE VIEWS\tEVENTS\tBOUNCES")
	for _, x := range changes {
		fmt.Fprintf(t, "%s\t%s\t%d → %d\t%d → %d\t%d → %d\t%d → %d\t%d → %d\n", x.Site, x.Day, x.Visitors,
			x.Visitors2, x.Visits, x.Visits2, x.Pageviews, x.Pageviews2, x.Events, x.Events2, x.Bounces,
			x.Bounces2)
	}
	return t.Flush()
}
