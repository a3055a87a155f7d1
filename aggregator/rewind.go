package aggregator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// Rewind writes ClickHouse's rows again from the log, once, beside whatever else runs: it is in no group, moves no committed position, and its
// rows are those that the store lane wrote or will write, under the same keys. So it may be run at any time and as often as one likes.
type Rewind struct {
	From     time.Time            // of the first record, by its timestamp
	Progress func(RewindProgress) // once a second; may be nil
}

// RewindProgress is how far a Rewind has come.
type RewindProgress struct {
	Read, Records           int64 // of both topics, the warm-up included
	Events, Windows, Ledger int64 // rows that ClickHouse has acknowledged
}

// rewindWarmUp is read in silence before the first record that is written. The watermark there isn't known, so it is counted from the time
// of the record before: that is at most a node's lag ahead of the watermark where any node counted.
const rewindWarmUp = fold.WarmUp + 5*time.Minute

// errRewound ends reading where the log ended when a rewind began.
var errRewound = errors.New("the log as it was is read")

// Run writes everything from r.From up to the end that the log has now. Where retention has taken what is needed to judge the first of
// those records, it begins after them and says so: rather no row than one that was never there.
func (r Rewind) Run(ctx context.Context, deps Deps) (RewindProgress, error) {
	if err := deps.Warehouse.Migrate(ctx); err != nil {
		return RewindProgress{}, err
	}
	l := &lane{name: "store", cfg: Config{Drain: 3 * time.Second}, broker: deps.Broker, log: deps.Log, metrics: newMetrics(prometheus.NewRegistry()), recreationGrace: broker.RecreationGrace,
		run: "/" + rand.Text()} // rows that somebody has removed were under the same tokens
	partitions, err := l.broker.Partitions(ctx, topic.Events)
	if err != nil {
		return RewindProgress{}, err
	}
	var committed []group.Position
	spans := map[partitionOf]span{}
	var all RewindProgress
	for p := range partitions {
		for _, name := range []string{topic.Events, topic.Windows} {
			s, err := r.span(ctx, l, name, p)
			if err != nil {
				return RewindProgress{}, fmt.Errorf("rewind %s/%d: %w", name, p, err)
			}
			spans[partitionOf{name, p}] = s
			committed = append(committed, group.Position{Topic: name, Partition: p, Offset: s.write})
			all.Records += s.end - s.read
		}
	}
	var read atomic.Int64
	w := newStoreWork(l, deps.Warehouse, committed).(*storeWork) //nolint:forcetypeassert // it is one
	for _, p := range w.parts {
		p.source.span = spans[partitionOf{topic.Events, p.partition}].counted(&read)
	}
	for _, t := range w.tails {
		t.span = spans[partitionOf{topic.Windows, t.committed.Partition}].counted(&read)
	}
	now := func() RewindProgress {
		return RewindProgress{read.Load(), all.Records, w.events.stored.Load(), w.windows.stored.Load(), w.ledger.stored.Load()}
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.Progress != nil {
				r.Progress(now())
			}
			continue
		case <-done:
		}
		break
	}
	if ctx.Err() != nil {
		return now(), fmt.Errorf("rewind: stopped before the end, which does no harm: run it again")
	}
	if reason := w.unready(); reason != "" {
		return now(), fmt.Errorf("rewind: %s", reason)
	}
	return now(), nil
}

// span is a part of a partition's log: from read on it is read, from write on its rows are written, and at end it ends. The zero value is
// no limit.
type span struct {
	read, write, end int64
	limited          bool
	taken            *atomic.Int64 // records, of all spans of a rewind
}

func (s span) over(next int64) bool { return s.limited && next >= s.end }

func (s span) counted(taken *atomic.Int64) span {
	s.taken = taken
	return s
}

// take counts a record that is to be read, or fails with errRewound behind the last one.
func (s span) take(offset int64) error {
	switch {
	case !s.limited:
	case offset >= s.end:
		return errRewound
	default:
		s.taken.Add(1)
	}
	return nil
}

// span finds what to read of a partition.
func (r Rewind) span(ctx context.Context, l *lane, name string, p int) (s span, err error) {
	first, end, err := l.broker.Bounds(ctx, name, p)
	if err != nil {
		return s, err
	}
	if s.write, err = l.broker.OffsetAt(ctx, name, p, r.From); err != nil {
		return s, err
	}
	s.write = min(max(s.write, first), end)
	s.read, s.end, s.limited = s.write, end, true
	if name != topic.Events || s.write == first && first == 0 {
		return s, nil
	}
	at := r.From
	if s.write > first {
		before, err := timeOf(ctx, l.broker, name, p, s.write-1)
		if err != nil {
			return s, err
		}
		at = before
	}
	if s.read, err = l.broker.OffsetAt(ctx, name, p, at.Add(-rewindWarmUp)); err != nil {
		return s, err
	}
	if s.read = min(s.read, s.write); s.read > first || first == 0 || first == end {
		return s, nil
	}
	oldest, err := timeOf(ctx, l.broker, name, p, first)
	if err != nil {
		return s, err
	}
	from := oldest.Add(rewindWarmUp)
	if s.write, err = l.broker.OffsetAt(ctx, name, p, from); err != nil {
		return s, err
	}
	s.write = min(s.write, end)
	l.log.Warn("the log doesn't reach back far enough to judge its first records again: their rows are left as they are", "topic", name,
		"partition", p, "log begins", oldest.UTC().Format(time.RFC3339), "written from", from.UTC().Format(time.RFC3339))
	return s, nil
}

// timeOf is the timestamp of a record.
func timeOf(ctx context.Context, b *broker.Client, name string, p int, offset int64) (at time.Time, err error) {
	found := errors.New("found")
	err = b.Follow(ctx, broker.Follower{Topic: name, Partition: p, From: offset, Record: func(x broker.Record) error {
		at = time.UnixMilli(x.Time)
		return found
	}})
	if errors.Is(err, found) {
		err = nil
	}
	return at, err
}
