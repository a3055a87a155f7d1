package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

type topicsCmd struct {
	kafkaFlags
	Partitions  int           `default:"4" placeholder:"N" help:"Partitions of the events topic, 1 to 256; fixed once it exists (${default})."`
	Replication int           `default:"3" placeholder:"N" help:"Copies of each topic; 1 on a single broker (${default})."`
	Timeout     time.Duration `default:"1m" placeholder:"TIME" help:"How long to wait for Kafka (${default})."`
}

// Help implements kong.HelpProvider.
func (topicsCmd) Help() string {
	return `Makes the topics that are missing, refuses an existing topic with wrong settings, and prints the
command that corrects it. It is safe to run again at any time.

Example:

	nowcast topics --kafka kafka-1:9092 --partitions 8 --replication 3`
}

// Validate implements kong's validation.
func (c *topicsCmd) Validate() error {
	if c.Partitions < 1 || c.Partitions > 256 {
		return fmt.Errorf("--partitions is %d: give 1 to 256", c.Partitions)
	}
	if c.Replication < 1 || c.Replication > 100 {
		return fmt.Errorf("--replication is %d: give 1 to 100", c.Replication)
	}
	return c.check(c.Kafka)
}

// Run runs the command.
func (c *topicsCmd) Run(ctx context.Context, log *slog.Logger, std *stdio) error {
	k, err := c.open(log, c.Kafka, allTopics)
	if err != nil {
		return err
	}
	defer k.Close()
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	specs := topic.Specs(c.Partitions, c.Replication)
	before, err := k.Existing(limited, specs)
	if broker.Denied(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("no answer from Kafka at %v within %s (%w): start it or name another with --kafka",
			c.Kafka, c.Timeout, err)
	}
	if err := k.Ensure(limited, specs, func(err error) {
		log.Debug("waiting for topics", "error", err)
	}); err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tDONE\tPARTITIONS\tSETTINGS")
	for _, s := range specs {
		done := "made"
		if before[s.Name] {
			done = "checked"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t", s.Name, done, s.Partitions)
		for i, name := range slices.Sorted(maps.Keys(s.Settings)) {
			if i > 0 {
				fmt.Fprint(w, " ")
			}
			fmt.Fprintf(w, "%s=%s", name, s.Settings[name])
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
