package aggregator

import (
	"context"
	"math"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// emitted is how far the windows topic had come before one of its cuts, or at its end.
type emitted struct {
	cutAt     int64 // when the log went on behind the cut, ms UTC; math.MaxInt64: the end
	watermark int64 // highest of the emissions before, ms; fold.None: there is none
	next      int64 // offset of the events topic behind that emission's last envelope
}

// emittedBefore returns the watermark that was emitted before a cut of the log. All partitions that are cut
// together have the same time.
func emittedBefore(all []emitted, cutAt int64) int64 {
	for _, e := range all {
		if e.cutAt == cutAt {
			return e.watermark
		}
	}
	return fold.None
}

// findEmitted reads the newest part of the windows topic: what an earlier owner emitted from envelopes that
// a cut has lost stays final, and what it emitted and a cut has lost is emitted again. So where the topic is
// cut and ends below the committed watermark, the partition is read from an earlier position.
func (w *windowsPartition) findEmitted(ctx context.Context) error {
	const spare = 10 * time.Second // between a watermark and its emission
	watermark, known := metadataOf(w.reader.committed, "watermark")
	from := time.UnixMilli(0)
	if known && watermark != fold.None {
		from = time.UnixMilli(watermark).Add(-spare)
	}
	for {
		all, complete, err := w.readEmitted(ctx, from)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.emitted = all
		w.mu.Unlock()
		newest := emitted{watermark: fold.None}
		for _, e := range all {
			if e.watermark > newest.watermark {
				newest = e
			}
		}
		if len(all) == 1 || !known || newest.watermark >= watermark {
			return nil // nothing is cut, or nothing that matters
		}
		if newest.watermark == fold.None && !complete {
			from = time.UnixMilli(0)
			continue
		}
		w.reader.reanchor(newest)
		return nil
	}
}

// readEmitted returns how far the topic had come before each of its cuts since a time, and at its end.
// complete tells that it was read from its start.
func (w *windowsPartition) readEmitted(ctx context.Context, since time.Time) (all []emitted, complete bool,
	err error) {
	var from, first, end int64
	if _, err = retryStart(ctx, func(ctx context.Context) (int64, error) {
		if first, end, err = w.broker.Bounds(ctx, topic.Windows, w.partition); err != nil {
			return 0, err
		}
		from, err = w.broker.OffsetAt(ctx, topic.Windows, w.partition, since)
		return from, err
	}, w.reader.failure.failed); err != nil {
		return nil, false, err
	}
	now := emitted{cutAt: math.MaxInt64, watermark: fold.None, next: -1}
	span := broker.Range{Topic: topic.Windows, Partition: w.partition, From: from, To: end,
		Gap: func(broker.Gap) {},
		Cut: func(c broker.Cut) {
			all = append(all, emitted{c.At, now.watermark, now.next})
		}}
	var e window.Emission
	for x, err := range broker.ReadRange(ctx, w.broker, span) {
		if err != nil {
			return nil, false, err
		}
		if e.Decode(x.Value) == nil && e.Watermark > now.watermark {
			now.watermark, now.next = e.Watermark, e.Offset+1
		}
	}
	return append(all, now), from <= first, nil
}

// reanchor makes the reader go on from an earlier position than the committed one, or from the log's start:
// where the windows topic has lost what was emitted since.
func (r *partitionReader) reanchor(e emitted) {
	r.log.Warn("the windows topic has lost rows that were final: reading from an earlier position, to write "+
		"them again", "committed", r.committed.Offset, "from", e.next)
	if e.watermark == fold.None || e.next < 0 {
		r.committed.Offset = -1
		return
	}
	r.committed = position(r.partition, min(r.committed.Offset, e.next), e.watermark)
	// The emission may be one of several of an envelope, of which the last has the watermark.
	r.headLost = true
}
