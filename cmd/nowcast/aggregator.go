package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nowcast/aggregator"
	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/warehouse"
)

type aggregatorCmd struct {
	opsFlags
	Kafka []string `placeholder:"HOST:PORT" help:"One or more of Kafka's brokers."`
	kafkaAccess
	Clickhouse string `secret:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user@host:9000/database; needed by the lanes store and seal."`
	clickhouseAccess
	Lanes    []string `default:"windows,store,seal" enum:"windows,store,seal" placeholder:"LANE" help:"What to do: windows, store, seal or several (${default})."`
	Instance string   `placeholder:"NAME" help:"A name that stays the same over restarts and is unique among the aggregators, as a StatefulSet's pod name: a restart within 10 s keeps the partitions. Without it, a stop hands them over at once."`
	From     *moment  `placeholder:"TIME" help:"With --lanes store: write ClickHouse's rows again from the log since then (2026-11-24T08:00:00Z, or how long ago, as 90m), and end."`
	DataDir  string   `default:"./.nowcast" placeholder:"DIR" help:"With --from, and without --kafka and --clickhouse: the data dir of a running nowcast all (${default})."`
}

// Help implements kong.HelpProvider.
func (aggregatorCmd) Help() string {
	return `Several aggregators share the partitions of the log. When one stops, it hands its partitions
over to the others at once. When one dies, the others take its partitions over after 10 s. One with an
--instance keeps its partitions for 10 s after a stop as well: a restart within that time causes no
rebalance. That suits instances that are restarted one after the other.

With --from the command writes the rows of all tables again from the log and ends. Use it when
ClickHouse has lost rows; "nowcast verify" says which. The rows equal the lost ones, so the command may
run beside aggregators and more than once.

Examples:

	nowcast aggregator --kafka kafka-1:9092 --clickhouse clickhouse://nowcast:secret@clickhouse:9000/nowcast
	nowcast aggregator --lanes store --from 24h --kafka kafka-1:9092 --clickhouse clickhouse://ch:9000/stats
	nowcast aggregator --lanes store --from 2026-11-24T08:00:00Z --data-dir ./.nowcast`
}

// Validate implements kong's validation.
func (c *aggregatorCmd) Validate() error {
	windows, store, seal := c.lanes()
	if c.From != nil {
		if windows || seal {
			return fmt.Errorf("--from writes again what the store lane writes: give --lanes store with it")
		}
		return checkEnds(&c.kafkaAccess, c.Kafka, &c.clickhouseAccess, c.Clickhouse)
	}
	if len(c.Kafka) == 0 {
		return fmt.Errorf("missing flags: --kafka")
	}
	if (store || seal) && c.Clickhouse == "" {
		return fmt.Errorf("the lanes store and seal need --clickhouse: give it, or --lanes windows")
	}
	return errors.Join(c.kafkaAccess.check(c.Kafka), c.clickhouseAccess.check(c.Clickhouse))
}

func (c *aggregatorCmd) lanes() (windows, store, seal bool) {
	for _, lane := range c.Lanes {
		windows = windows || lane == "windows"
		store = store || lane == "store"
		seal = seal || lane == "seal"
	}
	return windows, store, seal
}

// Run runs the command.
func (c *aggregatorCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	if c.From != nil {
		return c.rewind(ctx, std, log)
	}
	h, err := newHost(log, c.opsFlags, "")
	if err != nil {
		return err
	}
	kafka, err := h.kafka(&c.kafkaAccess, c.Kafka, aggregatorTopics, 0)
	if err != nil {
		return err
	}
	defer kafka.Close()
	windows, store, seal := c.lanes()
	var db *warehouse.DB
	if store || seal {
		quiet := slog.New(slog.DiscardHandler)
		if db, err = h.warehouse(&c.clickhouseAccess, c.Clickhouse, quiet); err != nil {
			return err
		}
		defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	}
	cfg := aggregator.Config{Windows: windows, Store: store, Seal: seal, Instance: c.Instance}
	if err := addAggregator(h, cfg, kafka, h.erasures(kafka), db); err != nil {
		return err
	}
	return h.run(ctx)
}

// rewind runs the command with --from.
func (c *aggregatorCmd) rewind(ctx context.Context, std *stdio, log *slog.Logger) error {
	ends, err := endpointsOf(c.DataDir, c.Kafka, c.Clickhouse)
	if err != nil {
		return err
	}
	kafka, db, err := connect(ends, &c.kafkaAccess, &c.clickhouseAccess, aggregatorTopics, log)
	if err != nil {
		return err
	}
	defer kafka.Close()
	defer db.Close() //nolint:errcheck // everything in it was acknowledged or wasn't
	erasures, stop, err := erasure.Follow(ctx, kafka, log)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	defer stop()
	start := time.Now()
	p, err := aggregator.Rewind{From: c.From.Time, Progress: func(p aggregator.RewindProgress) {
		fmt.Fprintf(std.err,
			"%3.0f %% of %d records read, %d event rows, %d window rows and %d ledger rows written\n",
			100*float64(p.Read)/float64(max(1, p.Records)), p.Records, p.Events, p.Windows, p.Ledger)
	}}.Run(ctx, aggregator.Deps{Broker: kafka, Erasures: erasures, Warehouse: db, Log: log})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out,
		"Wrote %d event rows, %d window rows and %d ledger rows again since %s, in %s. To compare them "+
			"with the log: nowcast verify --from %[4]s\n", p.Events, p.Windows, p.Ledger,
		c.From.UTC().Format(time.RFC3339), time.Since(start).Round(100*time.Millisecond))
	return nil
}

// addAggregator adds the role to the process.
func addAggregator(h *host, cfg aggregator.Config, kafka *broker.Client, erasures *erasure.Log,
	db *warehouse.DB) error {
	s, err := aggregator.New(cfg, aggregator.Deps{Broker: kafka, Erasures: erasures, Warehouse: db,
		Log: h.log, Metrics: h.metrics})
	if err != nil {
		return fmt.Errorf("set up aggregator: %w", err)
	}
	h.add("aggregator", s)
	if cfg.Windows && cfg.Store { // else the store is its main work, and the lane isn't ready
		h.needWarehouse = append(h.needWarehouse, "store")
	}
	return nil
}
