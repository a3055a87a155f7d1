package aggregator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

// Rewind writes ClickHouse's rows again from the log. It is in no consumer group and moves no committed
// position. Its rows have the keys and contents of those that the store lane writes, so it may run at any
// time, beside the lanes and repeatedly.
type Rewind struct {
	From     time.Time            // timestamp of the first record to write
	Progress func(RewindProgress) // called once a second; may be nil
}

// RewindProgress is the progress of a Rewind.
type RewindProgress struct {
	Read, Records           int64 // records read and to read, of both topics, with the warm-up
	Events, Windows, Ledger int64 // rows that ClickHouse has acknowledged
}

// rewindWarmUp is the time before the first written record from which a rewind reads. The watermark there
// isn't known, so the warm-up is measured from the timestamp of the record before: the watermark lags behind
// that by less than the spare.
const rewindWarmUp = fold.WarmUp + 5*time.Minute

// errSpanEnd ends reading at the offset where the log ended when a rewind began.
var errSpanEnd = errors.New("the span of the rewind is read")

// Run writes everything from r.From to the current end of the log. Where retention has deleted a part of the
// warm-up, it starts later and logs that: a missing row is better than a wrong one. What is erased stays
// erased. Without deps.Erasures the cluster has no erasure.
func (r Rewind) Run(ctx context.Context, deps Deps) (RewindProgress, error) {
	if err := deps.Warehouse.Migrate(ctx); err != nil {
		return RewindProgress{}, err
	}
	d := &laneDeps{name: "store", cfg: Config{Drain: defaultDrain}, broker: deps.Broker, log: deps.Log,
		erasures: deps.Erasures,
		metrics:  newMetrics(prometheus.NewRegistry()), recreationGrace: broker.RecreationGrace,
		tokenSuffix: "/" + rand.Text()} // else ClickHouse would drop rows that were deleted since
	spans, err := r.spans(ctx, d)
	if err != nil {
		return RewindProgress{}, err
	}
	var committed []group.Position
	var records int64
	for p, s := range spans {
		committed = append(committed,
			group.Position{Topic: p.topic, Partition: p.partition, Offset: s.writeFrom})
		records += s.end - s.readFrom
	}
	var read atomic.Int64
	w := newStoreWork(d, deps.Warehouse, committed)
	for _, p := range w.partitions {
		p.reader.span = spans[topicPartition{topic.Events, p.partition}].countedBy(&read)
	}
	for _, t := range w.tails {
		t.span = spans[topicPartition{topic.Windows, t.committed.Partition}].countedBy(&read)
	}
	progress := func() RewindProgress {
		return RewindProgress{Read: read.Load(), Records: records,
			Events: w.events.stored.Load(), Windows: w.windows.stored.Load(), Ledger: w.ledger.stored.Load()}
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	r.report(done, progress)
	if ctx.Err() != nil {
		return progress(), errors.New("rewind: stopped before the end, which does no harm: run it again")
	}
	if reason := w.unready(); reason != "" {
		return progress(), fmt.Errorf("rewind: %s", reason)
	}
	return progress(), nil
}

// report calls r.Progress once a second until done is closed.
func (r Rewind) report(done <-chan struct{}, progress func() RewindProgress) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.Progress != nil {
				r.Progress(progress())
			}
		case <-done:
			return
		}
	}
}

// span is the part of a partition's log that a rewind reads. Rows of records from readFrom to writeFrom, the
// warm-up, aren't written. The zero value is unlimited.
type span struct {
	readFrom, writeFrom, end int64 // offsets
	limited                  bool
	records                  *atomic.Int64 // read, of all spans of a rewind
}

// ends reports whether next is behind the span.
func (s span) ends(next int64) bool { return s.limited && next >= s.end }

func (s span) countedBy(records *atomic.Int64) span {
	s.records = records
	return s
}

// count counts a record of the span. It returns errSpanEnd for one behind it.
func (s span) count(offset int64) error {
	switch {
	case !s.limited:
	case offset >= s.end:
		return errSpanEnd
	default:
		s.records.Add(1)
	}
	return nil
}

// spans finds what to read of each partition of both topics.
func (r Rewind) spans(ctx context.Context, d *laneDeps) (map[topicPartition]span, error) {
	partitions, err := d.broker.Partitions(ctx, topic.Events)
	if err != nil {
		return nil, err
	}
	spans := map[topicPartition]span{}
	for p := range partitions {
		for _, name := range []string{topic.Events, topic.Windows} {
			if spans[topicPartition{name, p}], err = r.span(ctx, d, name, p); err != nil {
				return nil, fmt.Errorf("rewind %s/%d: %w", name, p, err)
			}
		}
	}
	return spans, nil
}

// span finds what to read of a partition.
func (r Rewind) span(ctx context.Context, d *laneDeps, name string, p int) (s span, err error) {
	first, end, err := d.broker.Bounds(ctx, name, p)
	if err != nil {
		return s, err
	}
	if s.writeFrom, err = d.broker.OffsetAt(ctx, name, p, r.From); err != nil {
		return s, err
	}
	s.writeFrom = min(max(s.writeFrom, first), end)
	s.readFrom, s.end, s.limited = s.writeFrom, end, true
	if name != topic.Events || s.writeFrom == first && first == 0 {
		return s, nil
	}
	at := r.From
	if s.writeFrom > first {
		before, err := timeOf(ctx, d.broker, name, p, s.writeFrom-1)
		if err != nil {
			return s, err
		}
		at = before
	}
	if s.readFrom, err = d.broker.OffsetAt(ctx, name, p, at.Add(-rewindWarmUp)); err != nil {
		return s, err
	}
	if s.readFrom = min(s.readFrom, s.writeFrom); s.readFrom > first || first == 0 || first == end {
		return s, nil
	}
	oldest, err := timeOf(ctx, d.broker, name, p, first)
	if err != nil {
		return s, err
	}
	from := oldest.Add(rewindWarmUp)
	if s.writeFrom, err = d.broker.OffsetAt(ctx, name, p, from); err != nil {
		return s, err
	}
	s.writeFrom = min(s.writeFrom, end)
	d.log.Warn("the log doesn't reach back far enough to judge its first records again: "+
		"their rows are left as they are",
		"topic", name, "partition", p, "log begins", oldest.UTC().Format(time.RFC3339),
		"written from", from.UTC().Format(time.RFC3339))
	return s, nil
}

// timeOf returns the timestamp of a record, or of the next one if it can't be read any more.
func timeOf(ctx context.Context, b *broker.Client, name string, p int, offset int64) (time.Time, error) {
	next := broker.Range{Topic: name, Partition: p, From: offset, To: math.MaxInt64}
	for x, err := range broker.ReadRange(ctx, b, next) {
		return time.UnixMilli(x.Time), err
	}
	return time.Time{}, nil
}
