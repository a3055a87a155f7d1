package aggregator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// storeRest is between the fetches of a lane that writes once a second anyhow.
const storeRest = 500 * time.Millisecond

// storeWork is the store lane's work on the partitions of one generation: of each, events and windows.
type storeWork struct {
	*lane
	events  *batcher[*eventRows]
	windows *batcher[*windowRows]
	parts   []*eventsPart
	tails   []*windowsTail
}

func newStoreWork(l *lane, db inserter, committed []group.Position) work {
	w := &storeWork{lane: l,
		events:  newBatcher(l, "events", db, func() *eventRows { return &eventRows{} }),
		windows: newBatcher(l, "windows", db, func() *windowRows { return &windowRows{} })}
	for _, p := range committed {
		if p.Topic == topic.Events {
			part := &eventsPart{partition: p.Partition, reader: fold.NewReader(fold.Standard()), batcher: w.events}
			part.source = newSource(l, part, part.reader, p)
			part.source.rest = storeRest
			w.parts = append(w.parts, part)
		} else {
			w.tails = append(w.tails, &windowsTail{lane: l, committed: p, batcher: w.windows, reading: l.metrics.reading(l.name, topic.Windows, p.Partition)})
		}
	}
	return w
}

// Run works on all partitions until ctx ends.
func (w *storeWork) Run(ctx context.Context) {
	hard, cancel := w.drain(ctx)
	defer cancel()
	// What has been read is to be written, so the batchers end last.
	batching, stop := context.WithCancel(hard)
	defer stop()
	var batchers, readers sync.WaitGroup
	batchers.Go(func() { w.events.run(batching, hard) })
	batchers.Go(func() { w.windows.run(batching, hard) })
	for _, p := range w.parts {
		readers.Go(func() {
			if err := p.source.run(ctx); err != nil && ctx.Err() == nil {
				p.source.log.Error("this partition is left alone", "error", err)
				reason := err.Error()
				p.reason.Store(&reason)
			}
		})
	}
	for _, t := range w.tails {
		readers.Go(func() { t.run(ctx) })
	}
	readers.Wait()
	stop()
	batchers.Wait()
}

// Positions are those up to which everything is in ClickHouse.
func (w *storeWork) Positions() []group.Position {
	return append(w.events.positions(), w.windows.positions()...)
}

func (w *storeWork) unready() string {
	for _, reason := range []string{w.events.unready(), w.windows.unready()} {
		if reason != "" {
			return reason
		}
	}
	for _, p := range w.parts {
		if reason := p.reason.Load(); reason != nil {
			return *reason
		}
	}
	return ""
}

// eventsPart brings one partition's events into the table `events`.
type eventsPart struct {
	partition int
	source    *source
	reader    *fold.Reader
	batcher   *batcher[*eventRows]
	live      bool
	classes   []fold.Class // of the envelope's events
	reason    atomic.Pointer[string]
}

func (p *eventsPart) begin() { p.live = true }

func (p *eventsPart) read(ctx context.Context, e *fold.Envelope, record []byte) (fold.Outcome, error) {
	if !p.reader.Begin(e.Header, e.Time) {
		return fold.Outcome{Retried: true}, p.reached(ctx, e, nil)
	}
	var o fold.Outcome
	p.classes = p.classes[:0]
	for i := range e.Events {
		class := p.reader.Judge(&e.Events[i])
		o.Add(class)
		p.classes = append(p.classes, class)
	}
	p.reader.End()
	return o, p.reached(ctx, e, record)
}

func (p *eventsPart) reached(ctx context.Context, e *fold.Envelope, record []byte) error {
	if !p.live {
		return nil
	}
	return p.batcher.add(ctx, position(p.partition, e.Offset+1, p.reader.Watermark()), record, func(rows *eventRows) {
		if record == nil {
			return
		}
		for i, class := range p.classes {
			if class != fold.Repeated {
				rows.add(p.partition, e, i, class)
			}
		}
	})
}

// windowsTail brings one partition's final rows into the table `windows`. It needs no state, and thus no warm-up.
type windowsTail struct {
	*lane
	committed group.Position
	batcher   *batcher[*windowRows]
	reading   reading
	said      seldom
	span      span          // of a rewind; else all there is
	progress  *atomic.Int64 // of a rewind: records read
}

func (t *windowsTail) run(ctx context.Context) {
	// A position of -1, and one that retention has passed, is out of range: Follow goes to the first record then.
	from := max(0, t.committed.Offset)
	partition := t.committed.Partition
	if t.span.over(from) {
		return
	}
	var e window.Emission
	_ = t.broker.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: partition, From: from,
		Record: func(r broker.Record) error {
			t.reading.record(r.Time)
			if t.span.limited {
				if t.span.over(r.Offset) {
					return errRewound
				}
				t.progress.Add(1)
			}
			if err := e.Decode(r.Value); err != nil {
				t.reading.unreadable.Inc()
				return t.deadLetter(ctx, topic.Windows, partition, r.Offset, err)
			}
			reach := group.Position{Topic: topic.Windows, Partition: partition, Offset: r.Offset + 1}
			return t.batcher.add(ctx, reach, r.Value, func(rows *windowRows) {
				for i := range e.Seconds {
					if e.Seconds[i].Final {
						rows.add(e.Partition, &e.Seconds[i])
					}
				}
			})
		},
		Batch: func(next, end int64) error {
			if t.span.over(next) {
				return errRewound
			}
			t.reading.fetched(next, end)
			if next >= end {
				pause(ctx, storeRest)
			}
			return nil
		},
		Gap: func(g broker.Gap) {
			if t.committed.Offset >= 0 {
				t.reading.lost.Add(float64(max(0, g.To-g.From)))
				t.log.Error("records are gone before they were read", "gap", fmt.Sprint(g))
			}
		},
		Fail: func(err error) {
			if t.said.now() {
				t.log.Warn("can't read, trying again", "topic", topic.Windows, "partition", partition, "error", err)
			}
		}})
}
