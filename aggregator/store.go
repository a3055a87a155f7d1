package aggregator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// storeIdlePause is the store lane's pause between fetches at the end of the log. It inserts once a second
// anyway.
const storeIdlePause = 500 * time.Millisecond

// storeWork is the store lane's work on the partitions of one generation: their events, the ledger, the cuts
// of the log and their windows.
type storeWork struct {
	*laneDeps
	events     *batcher[*eventRows]
	ledger     *batcher[*ledgerRows]
	cuts       *batcher[*cutRows]
	windows    *batcher[*windowRows]
	partitions []*eventsPartition
	tails      []*windowsTail
	haltReason atomic.Pointer[string] // of the last halted partition
}

func newStoreWork(d *laneDeps, db inserter, committed []group.Position) *storeWork {
	w := &storeWork{laneDeps: d,
		events:  newBatcher(d, "events", db, func() *eventRows { return &eventRows{} }),
		ledger:  newBatcher(d, "ledger", db, func() *ledgerRows { return &ledgerRows{} }),
		cuts:    newBatcher(d, "cuts", db, func() *cutRows { return &cutRows{} }),
		windows: newBatcher(d, "windows", db, func() *windowRows { return &windowRows{} })}
	for _, p := range committed {
		if p.Topic == topic.Events {
			e := &eventsPartition{partition: p.Partition,
				classifier: fold.NewClassifier(fold.StandardRules()),
				eventRows:  w.events, ledgerRows: w.ledger, cutRows: w.cuts}
			e.reader = newPartitionReader(d, e, e.classifier, p)
			e.reader.idlePause = storeIdlePause
			w.partitions = append(w.partitions, e)
		} else {
			log := d.log.With("topic", p.Topic, "partition", p.Partition)
			w.tails = append(w.tails, &windowsTail{laneDeps: d, log: log, committed: p, rows: w.windows,
				failure: readFailure{log: log,
					name: fmt.Sprintf("can't read %s/%d", p.Topic, p.Partition)},
				partitionMetrics: d.metrics.partition(d.name, topic.Windows, p.Partition)})
		}
	}
	return w
}

// Run works on all partitions until ctx ends.
func (w *storeWork) Run(ctx context.Context) {
	draining, cancel := w.drain(ctx)
	defer cancel()
	// The batchers stop after the readers, since they insert all that was read.
	batching, stop := context.WithCancel(draining)
	defer stop()
	var batchers, readers sync.WaitGroup
	batchers.Go(func() { w.events.run(batching, draining) })
	batchers.Go(func() { w.ledger.run(batching, draining) })
	batchers.Go(func() { w.cuts.run(batching, draining) })
	batchers.Go(func() { w.windows.run(batching, draining) })
	read := func(log *slog.Logger, run func(context.Context) error) {
		readers.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				log.Error("this partition is halted", "error", err)
				w.halt(err)
			}
		})
	}
	for _, p := range w.partitions {
		read(p.reader.log, p.reader.run)
	}
	for _, t := range w.tails {
		read(t.log, t.run)
	}
	readers.Wait()
	stop()
	batchers.Wait()
}

// Positions returns the positions before which everything is in ClickHouse. A partition of which a cut isn't
// stored has none: its position may be behind the cut.
func (w *storeWork) Positions() []group.Position {
	events := lowerPositions(w.events.storedPositions(), w.ledger.storedPositions())
	events = slices.DeleteFunc(events, func(p group.Position) bool {
		return w.cuts.holds(topicPartition{p.Topic, p.Partition})
	})
	return append(events, w.windows.storedPositions()...)
}

func (w *storeWork) unready() string {
	if reason := w.haltReason.Load(); reason != nil {
		return *reason
	}
	if reason := cmp.Or(w.events.unready(), w.ledger.unready(), w.cuts.unready(),
		w.windows.unready()); reason != "" {
		return reason
	}
	for _, p := range w.partitions {
		if reason := p.reader.failure.unready(); reason != "" {
			return reason
		}
	}
	for _, t := range w.tails {
		if reason := t.failure.unready(); reason != "" {
			return reason
		}
	}
	return ""
}

func (w *storeWork) halt(err error) {
	reason := err.Error()
	w.haltReason.Store(&reason)
	w.metrics.halted.WithLabelValues(w.name).Inc()
}

// eventsPartition stores one partition's events in the table `events`, the fate of its beacons in `ledger`
// and the places where its log is cut in `cuts`.
type eventsPartition struct {
	partition  int
	reader     *partitionReader
	classifier *fold.Classifier
	eventRows  *batcher[*eventRows]
	ledger     ledger
	ledgerRows *batcher[*ledgerRows]
	cutRows    *batcher[*cutRows]
	live       bool
	classes    []fold.Class // of the current envelope's events
}

func (p *eventsPartition) goLive() { p.live = true }

// cut begins a segment of the ledger: the rows before it count lost events, which ClickHouse may have.
func (p *eventsPartition) cut(c broker.Cut) {
	addCut(p.cutRows, c)
	p.ledger.endSegment()
}

func (p *eventsPartition) apply(ctx context.Context, e *fold.Envelope, record []byte) (fold.Outcome, error) {
	if !p.classifier.Begin(e.Header, e.Time) {
		return fold.Outcome{Retried: true}, p.store(ctx, e, nil)
	}
	var o fold.Outcome
	p.classes = p.classes[:0]
	for i := range e.Events {
		class := p.classifier.Classify(&e.Events[i])
		o.Add(class)
		p.classes = append(p.classes, class)
	}
	p.ledger.add(e, p.classes, p.classifier.LogTime())
	p.classifier.End()
	return o, p.store(ctx, e, record)
}

// store adds the rows of an envelope to the batches. A nil record, of a retried envelope, only moves the
// position.
func (p *eventsPartition) store(ctx context.Context, e *fold.Envelope, record []byte) error {
	if !p.live {
		return nil
	}
	next := position(p.partition, e.Offset+1, p.classifier.Watermark())
	if err := p.eventRows.add(ctx, next, record, func(rows *eventRows) {
		if record == nil {
			return
		}
		for i, class := range p.classes {
			if class != fold.Duplicate && !e.IsErased(i) {
				rows.add(p.partition, e, i, class)
			}
		}
	}); err != nil {
		return err
	}
	return p.ledgerRows.add(ctx, next, record, func(rows *ledgerRows) {
		if record != nil {
			rows.add(p.partition, p.ledger.touched, p.reader.erasures.Set())
		}
	})
}

// windowsTail stores the final rows of one partition of the windows topic in the table `windows`. It has no
// state, so it needs no warm-up.
type windowsTail struct {
	*laneDeps
	log              *slog.Logger
	committed        group.Position
	rows             *batcher[*windowRows]
	partitionMetrics partitionMetrics
	failure          readFailure
	emission         window.Emission
	span             span // of a rewind; else unlimited
}

// run reads until ctx ends or the span of a rewind is read. It returns an error if the topic was created
// again.
func (t *windowsTail) run(ctx context.Context) error {
	if err := t.erasures.Wait(ctx); err != nil {
		return err
	}
	from, err := retryStart(ctx, t.start, t.failure.failed)
	if err != nil || t.span.ends(from) {
		return err
	}
	before, _ := metadataOf(t.committed, "time")
	return t.follow(ctx, broker.Follower{Topic: topic.Windows, Partition: t.committed.Partition, From: from,
		PreviousTime: before,
		Record:       func(r broker.Record) error { return t.record(ctx, r) },
		Batch:        func(next, end int64) error { return t.fetched(ctx, next, end) },
		Gap:          t.gap, Cut: t.cut, Fail: t.failure.failed})
}

// start returns the offset to read from.
func (t *windowsTail) start(ctx context.Context) (int64, error) {
	if t.committed.Offset >= 0 {
		return t.committed.Offset, nil
	}
	first, _, err := t.broker.Bounds(ctx, topic.Windows, t.committed.Partition)
	return first, err
}

func (t *windowsTail) record(ctx context.Context, r broker.Record) error {
	t.partitionMetrics.record(r.Time)
	if err := t.span.count(r.Offset); err != nil {
		return err
	}
	e := &t.emission
	if err := e.Decode(r.Value); err != nil {
		t.partitionMetrics.unreadable.Inc()
		return t.deadLetter(ctx, topic.Windows, t.committed.Partition, r.Offset, err)
	}
	next := group.Position{Topic: topic.Windows, Partition: t.committed.Partition, Offset: r.Offset + 1,
		Metadata: "time=" + strconv.FormatInt(r.Time, 10)}
	erased := t.erasures.Set()
	return t.rows.add(ctx, next, r.Value, func(rows *windowRows) {
		for i := range e.Seconds {
			if x := &e.Seconds[i]; x.Final && !erased.Site(x.Site, x.At*1000) {
				rows.add(e.Partition, &e.Seconds[i])
			}
		}
	})
}

func (t *windowsTail) fetched(ctx context.Context, next, end int64) error {
	t.failure.clear()
	if t.span.ends(next) {
		return errSpanEnd
	}
	t.partitionMetrics.fetched(next, end)
	if next >= end {
		_ = retry.Sleep(ctx, storeIdlePause) // Follow returns when ctx has ended
	}
	return nil
}

func (t *windowsTail) gap(g broker.Gap) { t.partitionMetrics.gap(g, t.log) }

func (t *windowsTail) cut(c broker.Cut) { t.partitionMetrics.cut(c, true, t.log) }
