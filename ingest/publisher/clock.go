package publisher

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

const (
	clockInterval = 30 * time.Second // between two comparisons
	clockTimeout  = clockInterval / 3
	maxClockLag   = 2 * time.Second  // behind the log's newest timestamp
	clockLookBack = 10 * time.Second // how far back a record of another node is looked for
	clockRecords  = 32               // newest records that are read first; then four times as many, and so on
	clockListen   = 2 * time.Second  // for a record of another node; each writes four a second
	clockPause    = 3 * time.Second  // between two measurements of a clock that is ahead
)

// clockLog shows the timestamps that other nodes write.
type clockLog interface {
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Follow(ctx context.Context, f broker.Follower) error
}

// clock compares this machine's clock with the timestamps that other nodes write to partition 0. A clock
// that is behind makes every window late. The brokers refuse the records of one that is ahead by more
// than 5 s.
type clock struct {
	events  clockLog
	node    uint64
	logger  *slog.Logger
	refused chan struct{}          // see notifyRefused
	ahead   atomic.Int64           // ns at the newest measurement; 0 if unknown
	behind  atomic.Pointer[string] // reason why the clock is unusable, nil if it is usable
}

func newClock(events clockLog, node uint64, logger *slog.Logger) *clock {
	return &clock{events: events, node: node, logger: logger, refused: make(chan struct{}, 1)}
}

// run compares the clock at the start and every clockInterval, and measures by how much it is ahead when
// the log refuses a timestamp, until ctx ends.
func (c *clock) run(ctx context.Context) {
	ticker := time.NewTicker(clockInterval)
	defer ticker.Stop()
	c.compare(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.compare(ctx)
		case <-c.refused:
			c.measureAhead(ctx)
		}
	}
}

// notifyRefused tells run that the log refused a timestamp.
func (c *clock) notifyRefused() {
	select {
	case c.refused <- struct{}{}:
	default:
	}
}

// behindReason is the reason why the clock is too far behind, "" if it isn't.
func (c *clock) behindReason() string {
	if reason := c.behind.Load(); reason != nil {
		return *reason
	}
	return ""
}

// aheadReason explains that the brokers refuse this machine's timestamps.
func (c *clock) aheadReason() string {
	if ahead := time.Duration(c.ahead.Load()); ahead > 0 {
		return fmt.Sprintf("this machine's clock is %.1f s ahead of the log's newest timestamp, "+
			"and the brokers refuse more than 5 s: set it right (NTP)", ahead.Seconds())
	}
	return "this machine's clock is ahead of the brokers' by more than 5 s: set it right (NTP)"
}

func (c *clock) compare(ctx context.Context) {
	lag, err := c.lag(ctx)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			c.logger.Warn("can't compare the clock with the log's, trying again", "error", err)
		}
	case lag > maxClockLag:
		reason := fmt.Sprintf("this machine's clock is %s behind the log's newest timestamp: "+
			"set it right (NTP)", lag.Round(time.Millisecond))
		c.behind.Store(&reason)
	default:
		c.behind.Store(nil)
	}
}

func (c *clock) measureAhead(ctx context.Context) {
	lead, err := c.lead(ctx)
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("can't measure by how much the clock is ahead of the log's, trying again", "error", err)
	}
	c.ahead.Store(int64(lead))
	_ = retry.Sleep(ctx, clockPause)
}

// lag returns by how much the clock is behind the newest timestamp of another node, 0 if it isn't or no
// other node has written lately.
func (c *clock) lag(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	first, end, err := c.events.Bounds(ctx, topic.Events, 0)
	if err != nil {
		return 0, fmt.Errorf("read the log's newest timestamp: %w", err)
	}
	// This node alone may write hundreds of records a second, and many nodes together thousands, so how many
	// records to read isn't known. Those of this node are older the further back they are, by its own clock.
	for n, to := int64(clockRecords), end; to > first; n *= 4 {
		from := max(first, to-n)
		others, all, err := c.newestOf(ctx, from, to)
		switch {
		case err != nil:
			return 0, fmt.Errorf("read the log's newest timestamp: %w", err)
		case others != 0:
			return max(0, time.Until(time.UnixMilli(others))), nil
		case time.Since(time.UnixMilli(all)) > clockLookBack:
			return 0, nil
		}
		to = from
	}
	return 0, nil
}

// newestOf returns the newest timestamp of other nodes' records in [from, to), 0 if there is none, and of all
// records.
func (c *clock) newestOf(ctx context.Context, from, to int64) (others, all int64, err error) {
	var d event.Decoder
	records := broker.Range{Topic: topic.Events, From: from, To: to}
	for r, err := range broker.ReadRange(ctx, c.events, records) {
		if err != nil {
			return 0, 0, err
		}
		all = max(all, r.Time)
		if h, err := d.Reset(r.Value); err == nil && h.Node != c.node {
			others = max(others, r.Time)
		}
	}
	return others, all, nil
}

// lead returns by how much the clock is ahead of another node's, by a record that arrives within
// clockListen; 0 if it isn't or no such record arrives. Older records may be as old as the difference, so
// they aren't used.
func (c *clock) lead(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockListen)
	defer cancel()
	lead, err := c.nextLead(ctx)
	if err != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("wait for another node's timestamp: %w", err)
	}
	return lead, nil
}

// nextLead waits for the next record of another node.
func (c *clock) nextLead(ctx context.Context) (time.Duration, error) {
	_, end, err := c.events.Bounds(ctx, topic.Events, 0)
	if err != nil {
		return 0, err
	}
	var d event.Decoder
	next := broker.Range{Topic: topic.Events, From: end, To: math.MaxInt64}
	for r, err := range broker.ReadRange(ctx, c.events, next) {
		if err != nil {
			return 0, err
		}
		if h, err := d.Reset(r.Value); err == nil && h.Node != c.node {
			return max(0, time.Since(time.UnixMilli(r.Time))), nil
		}
	}
	return 0, nil
}
