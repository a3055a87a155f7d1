package aggregator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
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

// storeWork is the store lane's work on the partitions of one generation: of each, events, their ledger, and windows.
type storeWork struct {
	*lane
	events  *batcher[*eventRows]
	ledger  *batcher[*ledgerRows]
	windows *batcher[*windowRows]
	parts   []*eventsPart
	tails   []*windowsTail
	left    atomic.Pointer[string] // why a partition is left alone
}

func newStoreWork(l *lane, db inserter, committed []group.Position) work {
	w := &storeWork{lane: l,
		events:  newBatcher(l, "events", db, func() *eventRows { return &eventRows{} }),
		ledger:  newBatcher(l, "ledger", db, func() *ledgerRows { return &ledgerRows{} }),
		windows: newBatcher(l, "windows", db, func() *windowRows { return &windowRows{} })}
	for _, p := range committed {
		if p.Topic == topic.Events {
			part := &eventsPart{partition: p.Partition, reader: fold.NewReader(fold.Standard()), batcher: w.events, entries: w.ledger}
			part.source = newSource(l, part, part.reader, p)
			part.source.rest = storeRest
			w.parts = append(w.parts, part)
		} else {
			log := l.log.With("topic", p.Topic, "partition", p.Partition)
			w.tails = append(w.tails, &windowsTail{lane: l, log: log, committed: p, batcher: w.windows,
				trouble: trouble{log: log, what: fmt.Sprintf("can't read %s/%d", p.Topic, p.Partition)},
				reading: l.metrics.reading(l.name, topic.Windows, p.Partition)})
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
	batchers.Go(func() { w.ledger.run(batching, hard) })
	batchers.Go(func() { w.windows.run(batching, hard) })
	read := func(log *slog.Logger, run func(context.Context) error) {
		readers.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				log.Error("this partition is left alone", "error", err)
				w.leave(err)
			}
		})
	}
	for _, p := range w.parts {
		read(p.source.log, p.source.run)
	}
	for _, t := range w.tails {
		read(t.log, t.run)
	}
	readers.Wait()
	stop()
	batchers.Wait()
}

// Positions are those up to which everything is in ClickHouse.
func (w *storeWork) Positions() []group.Position {
	return append(both(w.events.positions(), w.ledger.positions()), w.windows.positions()...)
}

func (w *storeWork) unready() string {
	if reason := w.left.Load(); reason != nil {
		return *reason
	}
	if reason := cmp.Or(w.events.unready(), w.ledger.unready(), w.windows.unready()); reason != "" {
		return reason
	}
	for _, p := range w.parts {
		if reason := p.source.trouble.unready(); reason != "" {
			return reason
		}
	}
	for _, t := range w.tails {
		if reason := t.trouble.unready(); reason != "" {
			return reason
		}
	}
	return ""
}

// leave says why a partition is left alone; of several reasons, one is enough to be told.
func (w *storeWork) leave(err error) {
	reason := err.Error()
	w.left.Store(&reason)
	w.metrics.alone.WithLabelValues(w.name).Inc()
}

// eventsPart brings one partition's events into the table `events`, and what became of its beacons into `ledger`.
type eventsPart struct {
	partition int
	source    *source
	reader    *fold.Reader
	batcher   *batcher[*eventRows]
	ledger    ledger
	entries   *batcher[*ledgerRows]
	live      bool
	classes   []fold.Class // of the envelope's events
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
	p.ledger.take(e, p.classes, p.reader.Now())
	p.reader.End()
	return o, p.reached(ctx, e, record)
}

func (p *eventsPart) reached(ctx context.Context, e *fold.Envelope, record []byte) error {
	if !p.live {
		return nil
	}
	reach := position(p.partition, e.Offset+1, p.reader.Watermark())
	if err := p.batcher.add(ctx, reach, record, func(rows *eventRows) {
		if record == nil {
			return
		}
		for i, class := range p.classes {
			if class != fold.Repeated {
				rows.add(p.partition, e, i, class)
			}
		}
	}); err != nil {
		return err
	}
	return p.entries.add(ctx, reach, record, func(rows *ledgerRows) {
		if record != nil {
			rows.add(p.partition, p.ledger.touched)
		}
	})
}

// windowsTail brings one partition's final rows into the table `windows`. It needs no state, and thus no warm-up.
type windowsTail struct {
	*lane
	log       *slog.Logger
	committed group.Position
	batcher   *batcher[*windowRows]
	reading   reading
	trouble   trouble
	emission  window.Emission
	span      span // of a rewind; else all there is
}

// run reads until ctx ends, or until the log is found to be another one: then it returns why.
func (t *windowsTail) run(ctx context.Context) error {
	from, err := start(ctx, t.from, t.trouble.failed)
	if err != nil || t.span.over(from) {
		return err
	}
	before, _ := noted(t.committed, "time")
	return t.follow(ctx, broker.Follower{Topic: topic.Windows, Partition: t.committed.Partition, From: from, PreviousTime: before,
		Record: func(r broker.Record) error { return t.record(ctx, r) },
		Batch:  func(next, end int64) error { return t.fetched(ctx, next, end) },
		Gap:    t.gap, Fail: t.trouble.failed})
}

// from is where to begin.
func (t *windowsTail) from(ctx context.Context) (int64, error) {
	if t.committed.Offset >= 0 {
		return t.committed.Offset, nil
	}
	first, _, err := t.broker.Bounds(ctx, topic.Windows, t.committed.Partition)
	return first, err
}

func (t *windowsTail) record(ctx context.Context, r broker.Record) error {
	t.reading.record(r.Time)
	if err := t.span.take(r.Offset); err != nil {
		return err
	}
	e := &t.emission
	if err := e.Decode(r.Value); err != nil {
		t.reading.unreadable.Inc()
		return t.deadLetter(ctx, topic.Windows, t.committed.Partition, r.Offset, err)
	}
	reach := group.Position{Topic: topic.Windows, Partition: t.committed.Partition, Offset: r.Offset + 1, Metadata: "time=" + strconv.FormatInt(r.Time, 10)}
	return t.batcher.add(ctx, reach, r.Value, func(rows *windowRows) {
		for i := range e.Seconds {
			if e.Seconds[i].Final {
				rows.add(e.Partition, &e.Seconds[i])
			}
		}
	})
}

func (t *windowsTail) fetched(ctx context.Context, next, end int64) error {
	t.trouble.over()
	if t.span.over(next) {
		return errRewound
	}
	t.reading.fetched(next, end)
	if next >= end {
		pause(ctx, storeRest)
	}
	return nil
}

func (t *windowsTail) gap(g broker.Gap) { missed(g, &t.reading, t.log) }
