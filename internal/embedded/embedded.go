// Package embedded gives one machine what a cluster gives otherwise: a Kafka-protocol broker and a ClickHouse, each a child
// process of this same program, on loopback and a unix socket, with its data below the data dir.
//
// It promises that what either of them has acknowledged survives a kill -9 of it, of this process and of both; that a child
// that dies is back at the same address, its callers' new requests waiting for it meanwhile; and that no child outlives its
// parent for longer than it takes to drain. When a child can't be kept alive, Ready says why and Run goes on trying; only
// what no retry mends (no library, no right to the data dir) ends in an error.
//
// Against a loss of power the ClickHouse holds what it has acknowledged (it syncs every insert), the broker only with
// Config.Sync: without it the log is synced once a second, and what was acknowledged in the last one can be lost.
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

	"github.com/prometheus/client_golang/prometheus"
)

// Config is that of either child.
type Config struct {
	// Dir is the data dir; the broker uses Dir/broker, the ClickHouse Dir/clickhouse. One process at a time may use it.
	Dir     string
	Log     *slog.Logger
	Metrics prometheus.Registerer

	// Sync has the broker sync every batch to the disk before it acknowledges it, which then costs what the disk takes for
	// two syncs, one batch after the other.
	Sync bool
	// PartitionBytes bounds each partition of the broker's log, in bytes; 0 means 256 MiB. The whole log passes through memory
	// when the broker starts.
	PartitionBytes int64

	// Library is the path of libchdb.so, as FindLibrary gives it.
	Library string
	// Sessions is how many statements the ClickHouse runs at a time, 1 to 64; 0 means 14: as many as
	// the store lane can have in flight, 6, and as questions are answered at a time, 8. Further ones wait.
	Sessions int
}

func (c *Config) validate() error {
	if c.Dir == "" || c.Log == nil {
		return errors.New("an embedded part needs Dir and Log")
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil { // the engine fails on relative paths
		return fmt.Errorf("find data dir: %w", err)
	}
	if c.PartitionBytes == 0 {
		c.PartitionBytes = 256 << 20
	}
	if c.Sessions == 0 {
		c.Sessions = 14
	}
	if c.PartitionBytes < 1<<20 || c.Sessions < 1 || c.Sessions > 64 {
		return fmt.Errorf("PartitionBytes has to be at least 1 MiB and Sessions 1 to 64, not %d and %d", c.PartitionBytes, c.Sessions)
	}
	return nil
}

const (
	brokerVerb     = "embedded-broker"
	clickhouseVerb = "embedded-clickhouse"
	listenerFD     = 3 // the first of exec.Cmd.ExtraFiles

	exitFailed   = 1
	exitHopeless = 3 // starting again changes nothing
)

// Main is the children's own main. A program that uses this package calls it with os.Args before anything else and, when the
// call was handled, exits with code.
func Main(args []string) (handled bool, code int) {
	if len(args) < 2 {
		return false, 0
	}
	var run func(ctx context.Context, c childConfig) error
	switch args[1] {
	case brokerVerb:
		run = runBroker
	case clickhouseVerb:
		run = runClickHouse
	default:
		return false, 0
	}
	c := childConfig{log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	if err := c.parse(args[1:]); err != nil {
		c.log.Error(err.Error())
		return true, exitHopeless
	}
	return true, c.main(run)
}

// childConfig is what a child learns from its command line.
type childConfig struct {
	log      *slog.Logger
	dir      string
	bytes    int64
	sync     bool
	library  string
	sessions int
}

func (c *childConfig) args(verb string) []string {
	return []string{verb, "--dir=" + c.dir, fmt.Sprintf("--bytes=%d", c.bytes), fmt.Sprintf("--sync=%t", c.sync),
		"--library=" + c.library, fmt.Sprintf("--sessions=%d", c.sessions)}
}

func (c *childConfig) parse(args []string) error {
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.dir, "dir", "", "")
	f.Int64Var(&c.bytes, "bytes", 0, "")
	f.BoolVar(&c.sync, "sync", false, "")
	f.StringVar(&c.library, "library", "", "")
	f.IntVar(&c.sessions, "sessions", 0, "")
	return f.Parse(args[1:])
}

// main runs a child until SIGTERM or until its parent, which holds the other end of its standard input, is gone.
func (c *childConfig) main(run func(context.Context, childConfig) error) int {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGINT, syscall.SIGHUP) // the engine's too; the parent decides when to end
	debug.SetGCPercent(50)                                         // idle memory counts for more than a little CPU
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go func() {
		<-ctx.Done()
		time.Sleep(drainTime)
		os.Exit(exitFailed)
	}()
	unlock, err := lock(filepath.Join(c.dir, "child.lock"), lockWait)
	if err != nil {
		c.log.Error(err.Error())
		return exitFailed
	}
	defer unlock()
	err = run(ctx, *c)
	if err != nil {
		c.log.Error(err.Error())
	}
	var h hopelessError
	switch {
	case errors.As(err, &h):
		return exitHopeless
	case err != nil:
		return exitFailed
	}
	return 0
}

// hopelessError is one that starting again doesn't mend.
type hopelessError struct{ error }

func (e hopelessError) Unwrap() error { return e.error }

// inherited is the listener that the parent holds open over the child's restarts.
func inherited() (net.Listener, error) {
	f := os.NewFile(listenerFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, hopelessError{fmt.Errorf("take over listener: %w", err)}
	}
	return l, nil
}
