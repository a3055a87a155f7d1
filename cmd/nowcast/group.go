package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

type groupCmd struct {
	Reset groupResetCmd `cmd:"" help:"Set the positions from which the aggregators read on."`
}

type groupResetCmd struct {
	Kafka []string `placeholder:"HOST:PORT" help:"One or more of Kafka's brokers; without it, those of the nowcast all that runs on --data-dir."`
	kafkaAccess
	DataDir   string        `default:"./.nowcast" placeholder:"DIR" help:"Data dir of a running nowcast all (${default})."`
	Lane      string        `required:"" enum:"windows,store" placeholder:"LANE" help:"Whose positions: windows or store."`
	Topic     string        `default:"nowcast.events.v1" enum:"nowcast.events.v1,nowcast.windows.v1" placeholder:"TOPIC" help:"In which topic (${default}); the store lane reads nowcast.windows.v1 too."`
	Partition []int         `placeholder:"N" help:"Only these partitions; without it, all."`
	To        string        `required:"" placeholder:"WHERE" help:"earliest: the first record. latest: the end; what isn't read yet is left out. end-of-log: the end, and only where the position is behind it. Or an offset."`
	Force     bool          `help:"Remove the group's members first. Running aggregators join again and read on from the new positions."`
	Timeout   time.Duration `default:"30s" placeholder:"TIME" help:"How long to wait for Kafka (${default})."`
}

// Help implements kong.HelpProvider.
func (groupResetCmd) Help() string {
	return `An aggregator commits how far each lane is in each partition, in the consumer groups
nowcast-windows and nowcast-store. When a topic was deleted and made again, or has lost records, a position
names another record than before or none at all. The lane then leaves the partition alone and says so at
/readyz. This command sets new positions and prints the old and the new ones.

Stop the aggregators first. The command refuses to change a group that has members, unless --force is given.

  --to earliest    the lane reads the whole log again. Nothing is counted twice: rows are written under the
                   same keys. Use it after a topic was made again.
  --to end-of-log  the lane goes on at the log's end, in partitions whose position is behind it. Use it when
                   the newest records are lost and reading all again would take too long.
  --to latest      the lane goes on at the log's end in all partitions. What it hasn't read is in no window
                   and not in ClickHouse; nowcast aggregator --lanes store --from writes the latter.

Examples:

	nowcast group reset --lane windows --to earliest --kafka kafka-1:9092
	nowcast group reset --lane store --topic nowcast.windows.v1 --to end-of-log --kafka kafka-1:9092`
}

// Validate implements kong's validation.
func (c *groupResetCmd) Validate() error {
	if c.Lane == "windows" && c.Topic == topic.Windows {
		return fmt.Errorf("the windows lane doesn't read %s: give --lane store, or --topic %s", topic.Windows,
			topic.Events)
	}
	if len(c.Kafka) > 0 {
		if err := c.check(c.Kafka); err != nil {
			return err
		}
	}
	if slices.Contains([]string{"earliest", "latest", "end-of-log"}, c.To) {
		return nil
	}
	if n, err := strconv.ParseInt(c.To, 10, 64); err != nil || n < 0 {
		return fmt.Errorf("--to is %q: give earliest, latest, end-of-log or an offset", c.To)
	}
	return nil
}

// Run runs the command.
func (c *groupResetCmd) Run(ctx context.Context, std *stdio, log *slog.Logger) error {
	if len(c.Kafka) == 0 {
		ends, err := endpointsOf(c.DataDir, nil, "-")
		if err != nil {
			return err
		}
		c.Kafka = strings.Split(ends.Kafka, ",")
	}
	if err := c.check(c.Kafka); err != nil {
		return err
	}
	k, err := c.open(log, c.Kafka, verifyTopics)
	if err != nil {
		return err
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	group := topic.Group(c.Lane)
	before, after, err := c.positions(ctx, k, group)
	if err != nil {
		return fmt.Errorf("reset group %s: %w", group, err)
	}
	if err := c.commit(ctx, k, group, after); err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITION\tBEFORE\tAFTER")
	for i, p := range before {
		was := strconv.FormatInt(p.Offset, 10)
		if p.Offset < 0 {
			was = "none"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", p.Topic, p.Partition, was, after[i].Offset)
	}
	return w.Flush()
}

// positions returns the positions that the group has and those that it is to have.
func (c *groupResetCmd) positions(ctx context.Context, k *broker.Client, group string) (before,
	after []broker.Position, err error) {
	n, err := k.Partitions(ctx, c.Topic)
	if err != nil {
		return nil, nil, err
	}
	if len(c.Partition) == 0 {
		for p := range n {
			c.Partition = append(c.Partition, p)
		}
	}
	for _, p := range c.Partition {
		if p < 0 || p >= n {
			return nil, nil, fmt.Errorf("%s has the partitions 0 to %d, and none with the number %d", c.Topic,
				n-1, p)
		}
	}
	if before, err = k.Committed(ctx, group, c.Partition, c.Topic); err != nil {
		return nil, nil, err
	}
	for _, p := range before {
		first, end, err := k.Bounds(ctx, c.Topic, p.Partition)
		if err != nil {
			return nil, nil, err
		}
		to := broker.Position{Topic: c.Topic, Partition: p.Partition}
		switch c.To {
		case "earliest":
			to.Offset = first
		case "latest":
			to.Offset = end
		case "end-of-log":
			if to = p; p.Offset > end || p.Offset < 0 {
				to = broker.Position{Topic: c.Topic, Partition: p.Partition, Offset: end}
			}
		default:
			to.Offset, _ = strconv.ParseInt(c.To, 10, 64) // validated
			if to.Offset < first || to.Offset > end {
				return nil, nil, fmt.Errorf("%s/%d has the offsets %d to %d, and %d isn't one of them",
					c.Topic, p.Partition, first, end, to.Offset)
			}
		}
		after = append(after, to)
	}
	return before, after, nil
}

// commit sets the positions of a group without members, which --force removes.
func (c *groupResetCmd) commit(ctx context.Context, k *broker.Client, group string,
	positions []broker.Position) error {
	for {
		members, err := k.GroupMembers(ctx, group)
		if err != nil {
			return fmt.Errorf("reset group %s: %w", group, err)
		}
		if len(members) > 0 && !c.Force {
			return fmt.Errorf("group %s has %d members: stop the aggregators and wait 10 s, or give --force",
				group, len(members))
		}
		if err := k.RemoveMembers(ctx, group, members); err != nil {
			return fmt.Errorf("reset group %s: %w", group, err)
		}
		err = k.Commit(ctx, broker.Membership{Group: group, Generation: -1}, positions)
		// A running member joins again within milliseconds.
		if c.Force && ctx.Err() == nil && (errors.Is(err, broker.ErrUnknownMember) ||
			errors.Is(err, broker.ErrRebalanceInProgress) || errors.Is(err, broker.ErrIllegalGeneration)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reset group %s: %w", group, err)
		}
		return nil
	}
}
