// Command nowcast runs the roles of Nowcast, live web analytics: each is a subcommand, and `nowcast all`
// runs all of them on one machine.
//
// Exit codes: 0 done (also after SIGTERM and SIGINT, which drain), 1 failed, with one line on stderr that
// says what to do, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"nowcast/internal/embedded"
	"nowcast/internal/process"
)

// version is set by the linker.
var version string

func main() {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends a drain that takes too long
	err := run(ctx, os.Args[1:], &stdio{os.Stdin, os.Stdout, os.Stderr})
	os.Exit(report(os.Stderr, err))
}

// stdio holds a command's input and outputs.
type stdio struct {
	in  io.Reader
	out io.Writer
	err *os.File
}

// grammar is the command line.
type grammar struct {
	LogLevel slog.Level `default:"info" placeholder:"LEVEL" help:"What to log: debug, info, warn or error (${default})."`

	All        allCmd        `cmd:"" help:"Run everything on this machine."`
	Ingest     ingestCmd     `cmd:"" help:"Receive beacons and write them to the log."`
	Aggregator aggregatorCmd `cmd:"" help:"Turn the log into windows and into rows of ClickHouse."`
	Streamer   streamerCmd   `cmd:"" help:"Serve live streams, history, the dashboard and administration."`
	Topics     topicsCmd     `cmd:"" help:"Make the topics that are missing and check the others."`
	Group      groupCmd      `cmd:"" help:"Set the positions from which the aggregators read on."`
	Site       siteCmd       `cmd:"" help:"Add, list, change and remove sites, their goals, funnels, segments and annotations."`
	Key        keyCmd        `cmd:"" help:"Add, list and remove keys."`
	Login      loginCmd      `cmd:"" help:"Print a link that logs a browser in once."`
	Session    sessionCmd    `cmd:"" help:"List and end sessions."`
	Link       linkCmd       `cmd:"" help:"Add, list and revoke share links."`
	Visitor    visitorCmd    `cmd:"" help:"Print what is stored under a visitor's id."`
	Erase      eraseCmd      `cmd:"" help:"Erase the events of one visitor of a site."`
	Erasures   erasuresCmd   `cmd:"" help:"List the erasures of sites and visitors, or show one."`
	Import     importCmd     `cmd:"" help:"Import what other tools have counted, list imports and take them back."`
	Export     exportCmd     `cmd:"" help:"Write the single events of a site as CSV, NDJSON or Parquet."`
	Secret     secretCmd     `cmd:"" help:"Rotate the secret that signs."`
	Query      queryCmd      `cmd:"" help:"Ask for numbers of the past, and print them as a table, CSV or JSON."`
	Funnel     walkFunnelCmd `cmd:"" help:"Count the visits that go through the steps of a funnel."`
	Journey    journeyCmd    `cmd:"" help:"Print which pages visits view before or after one, or which paths they take."`
	MCP        mcpCmd        `cmd:"" name:"mcp" help:"Serve assistants by the Model Context Protocol."`
	Verify     verifyCmd     `cmd:"" help:"Recount a span from the log and compare it with what was streamed and stored."`
	Seal       sealCmd       `cmd:"" help:"Say how far history is sealed, or build it again."`
	Load       loadCmd       `cmd:"" help:"Send a realistic stream of visitors and measure the answers."`
	Health     healthCmd     `cmd:"" help:"Ask a running nowcast whether it is ready."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// Help is shown by `nowcast --help`.
func (grammar) Help() string {
	return `Every flag is also an environment variable: --data-dir is NOWCAST_DATA_DIR. A secret may also
come from a file: NOWCAST_ADMIN_KEY_FILE names the one with NOWCAST_ADMIN_KEY, and so on. Each
command's --help has an example.

Begin with:

	nowcast all`
}

// usageError is an invalid command line.
type usageError struct {
	error
	command string
}

// run parses and runs a command line; an invalid one is a *usageError.
func run(ctx context.Context, args []string, std *stdio) error {
	dropEmptyVariables()
	var g grammar
	helped := false
	parser, err := kong.New(
		&g,
		kong.Name("nowcast"),
		kong.Description("Web analytics of the present second."),
		kong.DefaultEnvars("NOWCAST"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120, NoExpandSubcommands: true}),
		kong.Resolvers(secretFiles{}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
		kong.Vars{"version": version, "step_help": stepHelp},
	)
	if err != nil {
		return fmt.Errorf("read the command line's grammar: %w", err)
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil // kong goes on after it has printed the help; what it then misses is no error
	}
	if err != nil {
		u := &usageError{err, "nowcast"}
		var p *kong.ParseError
		if errors.As(err, &p) && p.Context != nil && p.Context.Selected() != nil {
			u.command = p.Context.Selected().FullPath()
		}
		return u
	}
	log := process.NewLogger(std.err, g.LogLevel)
	slog.SetDefault(log) // net/http's own complaints go the same way
	warnOfUnknownVariables(log, parser.Model, os.Environ())
	return parsed.Run(log)
}

// report prints an error as one line and returns the exit code.
func report(w io.Writer, err error) int {
	var u *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		fmt.Fprintf(w, "nowcast: %s\nRun \"%s --help\" for usage.\n", oneLine(u.error), u.command)
		return 2
	}
	fmt.Fprintf(w, "nowcast: %s\n", oneLine(err))
	return 1
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
