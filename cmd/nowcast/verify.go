package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/verify"
	"nowcast/internal/warehouse"
)

type verifyCmd struct {
	Site  []string `placeholder:"DOMAIN" help:"Only these sites; without it, all."`
	From  moment   `default:"1h" placeholder:"TIME" help:"Where the span begins: 2026-11-24T08:00:00Z, or how long ago, as 90m (1h)."`
	To    moment   `default:"0s" placeholder:"TIME" help:"Where it ends, in the same way; without it, now. What isn't final yet is left out."`
	Kafka []string `placeholder:"HOST:PORT" help:"One or more of Kafka's brokers; without it, those of the nowcast all that runs on --data-dir."`
	kafkaAccess
	Clickhouse string `secret:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user@host:9000/database; without it, that of --data-dir."`
	clickhouseAccess
	DataDir string        `default:"./.nowcast" placeholder:"DIR" help:"Data dir of a running nowcast all (${default})."`
	Wait    time.Duration `default:"30s" placeholder:"TIME" help:"How long to wait for lanes that are behind (${default})."`
	Most    int           `default:"50" placeholder:"N" help:"How many differences to print (${default})."`
	JSON    bool          `name:"json" help:"Print the report as JSON, with up to 10000 differences."`
}

// Help implements kong.HelpProvider.
func (verifyCmd) Help() string {
	return `Recounts a span from the log, by brute force and with its own code. It compares each second
of each site and partition with what was streamed (the windows topic) and stored (ClickHouse's
tables windows and events), and each minute with the ledger (received is the sum of counted, late,
stale, duplicate and dropped). It lists late events with their reason. Progress goes to stderr. It only
reads.

Exit code 0: everything agrees. 1: a difference that can't be explained.

Examples:

	nowcast verify
	nowcast verify --site example.com --from 2026-11-24T08:00:00Z --to 2026-11-24T09:00:00Z
	nowcast verify --kafka kafka-1:9092 --clickhouse clickhouse://clickhouse:9000/nowcast --from 24h --json`
}

// moment is a point in time, given as one or as a duration before now.
type moment struct{ time.Time }

// UnmarshalText reads RFC 3339 or a duration.
func (m *moment) UnmarshalText(b []byte) error {
	if d, err := time.ParseDuration(string(b)); err == nil && d >= 0 {
		m.Time = time.Now().Add(-d)
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("%q is no time: give it as 2026-11-24T08:00:00Z, or as how long ago, as 90m", b)
	}
	m.Time = t
	return nil
}

// Validate implements kong's validation.
func (c *verifyCmd) Validate() error {
	if !c.From.Before(c.To.Time) {
		return fmt.Errorf("--from is not before --to")
	}
	return checkEnds(&c.kafkaAccess, c.Kafka, &c.clickhouseAccess, c.Clickhouse)
}

// Run runs the command.
func (c *verifyCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	ends, err := endpointsOf(c.DataDir, c.Kafka, c.Clickhouse)
	if err != nil {
		return err
	}
	kafka, db, err := connect(ends, &c.kafkaAccess, &c.clickhouseAccess, verifyTopics, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	defer db.Close() //nolint:errcheck // it was only read
	p := &progress{w: std.err}
	report, err := verify.Run(ctx, verify.Config{Sites: c.Site, From: c.From.Time, To: c.To.Time,
		Wait: c.Wait, Progress: p.print}, verify.Deps{Broker: kafka, Warehouse: db})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if c.JSON {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = report.Print(std.out, c.Most)
	}
	if err != nil {
		return err
	}
	return report.Err()
}

// checkEnds checks flags of a command that takes what they leave out from a data dir. There the flags may be
// about the Kafka or ClickHouse that the running `nowcast all` uses.
func checkEnds(k *kafkaAccess, kafka []string, c *clickhouseAccess, clickhouse string) error {
	var err error
	if len(kafka) > 0 {
		err = k.check(kafka)
	}
	if clickhouse != "" {
		err = errors.Join(err, c.check(clickhouse))
	}
	return err
}

// connect opens Kafka and ClickHouse.
func connect(
	ends endpoints, k *kafkaAccess, c *clickhouseAccess, topics []string, log *slog.Logger,
) (*broker.Client, *warehouse.DB, error) {
	addrs := strings.Split(ends.Kafka, ",")
	if err := errors.Join(k.check(addrs), c.check(ends.Clickhouse)); err != nil {
		return nil, nil, err
	}
	db, err := c.open(log, ends.Clickhouse)
	if err != nil {
		return nil, nil, err
	}
	kafka, err := k.open(log, addrs, topics)
	if err != nil {
		db.Close() //nolint:errcheck // nothing was done with it
		return nil, nil, err
	}
	return kafka, db, nil
}

// endpointsOf completes the given addresses by those of the `nowcast all` that runs on the data dir.
func endpointsOf(dataDir string, kafka []string, clickhouse string) (endpoints, error) {
	e := endpoints{Kafka: strings.Join(kafka, ","), Clickhouse: clickhouse}
	if e.Kafka != "" && e.Clickhouse != "" {
		return e, nil
	}
	b, err := os.ReadFile(filepath.Join(dataDir, "endpoints.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("no nowcast all runs on data dir %s: start it, name another with --data-dir, "+
			"or give --kafka and --clickhouse", dataDir)
	}
	var running endpoints
	if err == nil {
		err = json.Unmarshal(b, &running)
	}
	if err != nil {
		return e, fmt.Errorf("read the addresses of the running nowcast all: %w", err)
	}
	if e.Kafka == "" {
		e.Kafka = running.Kafka
	}
	if e.Clickhouse == "" {
		e.Clickhouse = running.Clickhouse
	}
	return e, nil
}

// progress prints once a second how far a run has come.
type progress struct {
	w    io.Writer
	last time.Time
}

func (p *progress) print(x verify.Progress) {
	if now := time.Now(); p.last.IsZero() {
		p.last = now
	} else if now.Sub(p.last) >= time.Second {
		p.last = now
		fmt.Fprintf(p.w, "partition %d of %d: %s, %.0f %%, %d events so far\n", x.Partition+1, x.Partitions,
			x.Doing, 100*x.Done, x.Events)
	}
}
