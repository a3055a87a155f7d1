package embedded

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	brokerCommand     = "embedded-broker"
	clickhouseCommand = "embedded-clickhouse"
	listenerFD        = 3 // the first of exec.Cmd.ExtraFiles

	exitFailed    = 1
	exitPermanent = 3 // the parent doesn't start the child again
	exitAgain     = 4 // the child ended to be started again
)

// Main is the main function of the child processes. A program that uses this package calls it with
// os.Args before anything else. If handled is true, the program exits with code.
func Main(args []string) (handled bool, code int) {
	if len(args) < 2 {
		return false, 0
	}
	var run func(ctx context.Context, c childConfig) error
	switch args[1] {
	case brokerCommand:
		run = runBroker
	case clickhouseCommand:
		run = runClickHouse
	default:
		return false, 0
	}
	c := childConfig{log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	if err := c.parse(args[1:]); err != nil {
		c.log.Error(err.Error())
		return true, exitPermanent
	}
	return true, c.main(run)
}

// childConfig is the configuration of a child, passed on its command line.
type childConfig struct {
	log            *slog.Logger
	dir            string
	partitionBytes int64
	sync           bool
	library        string
	sessions       int
}

func (c *childConfig) args(command string) []string {
	return []string{command, "--dir=" + c.dir, fmt.Sprintf("--partition-bytes=%d", c.partitionBytes),
		fmt.Sprintf("--sync=%t", c.sync), "--library=" + c.library, fmt.Sprintf("--sessions=%d", c.sessions)}
}

func (c *childConfig) parse(args []string) error {
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.dir, "dir", "", "")
	f.Int64Var(&c.partitionBytes, "partition-bytes", 0, "")
	f.BoolVar(&c.sync, "sync", false, "")
	f.StringVar(&c.library, "library", "", "")
	f.IntVar(&c.sessions, "sessions", 0, "")
	return f.Parse(args[1:])
}

// main runs a child until SIGTERM, or until its parent ends: the parent holds the other end of its
// standard input.
func (c *childConfig) main(run func(context.Context, childConfig) error) int {
	// The parent decides when a child ends. An ignored signal is ignored by the engine's threads too.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGINT, syscall.SIGHUP)
	debug.SetGCPercent(50) // costs a little CPU time and saves memory, which is scarcer on one machine
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	context.AfterFunc(ctx, func() {
		// The engine can hang in C code, which only the end of the process stops.
		time.AfterFunc(drainTimeout, func() { os.Exit(exitFailed) })
	})
	unlock, err := Lock(ctx, filepath.Join(c.dir, "child.lock"), childLockTimeout)
	if err != nil {
		c.log.Error(err.Error())
		return exitFailed
	}
	defer unlock()
	err = run(ctx, *c)
	if errors.Is(err, errGrown) {
		return exitAgain
	}
	if err != nil {
		c.log.Error(err.Error())
	}
	var permanent permanentError
	switch {
	case errors.As(err, &permanent):
		return exitPermanent
	case err != nil:
		return exitFailed
	}
	return 0
}

// permanentError is an error that a restart of the child can't fix.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// inheritedListener returns the listener that the parent holds open while children end and start.
func inheritedListener() (net.Listener, error) {
	f := os.NewFile(listenerFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, permanentError{fmt.Errorf("inherit listener: %w", err)}
	}
	return l, nil
}
