package aggregator

import (
	"cmp"
	"context"
	"sync"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// emitInterval is the pace of emissions. They start at multiples of it since 1970, so that all partitions of
// all instances emit at the same moments and a streamer can send one frame for all of them.
const emitInterval = 100 * time.Millisecond

// produceTimeout bounds one attempt to write an emission. It is longer than Kafka takes to replace a
// partition's leader.
const produceTimeout = 5 * time.Second

// windowsWork is the windows lane's work on the partitions of one generation.
type windowsWork struct{ partitions []*windowsPartition }

func newWindowsWork(d *laneDeps, committed []group.Position) work {
	w := &windowsWork{}
	for _, p := range committed {
		w.partitions = append(w.partitions, newWindowsPartition(d, p))
	}
	return w
}

// Run works on all partitions until ctx ends.
func (w *windowsWork) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range w.partitions {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Wait()
}

// Positions returns the positions before which every final row is acknowledged.
func (w *windowsWork) Positions() []group.Position {
	var all []group.Position
	for _, p := range w.partitions {
		p.mu.Lock()
		if p.acknowledged.Topic != "" {
			all = append(all, p.acknowledged)
		}
		p.mu.Unlock()
	}
	return all
}

func (w *windowsWork) unready() string {
	for _, p := range w.partitions {
		p.mu.Lock()
		reason := cmp.Or(p.haltReason, p.reader.failure.unready(), p.reason)
		p.mu.Unlock()
		if reason != "" {
			return reason
		}
	}
	return ""
}

// windowsPartition is the windows lane of one partition: one goroutine reads and folds, another emits what is
// pending.
type windowsPartition struct {
	*laneDeps
	partition int
	reader    *partitionReader
	changed   chan struct{} // notifies emitLoop
	maxFinals int           // pending final rows; then reading waits

	mu           sync.Mutex
	notFull      sync.Cond // pending has fewer than maxFinals final rows
	windows      fold.Windows
	pending      *pending
	live         bool
	acknowledged group.Position
	emitted      []emitted
	reason       string // why the partition isn't ready
	haltReason   string // why reading has ended for good; what is pending is still emitted

	// Of the emitting goroutine.
	unacknowledged         [][]byte       // records of the emission that is being written
	unacknowledgedPosition group.Position // reached once they are acknowledged
	logged                 logEvery
}

func newWindowsPartition(d *laneDeps, committed group.Position) *windowsPartition {
	windows := fold.NewWindows(fold.StandardRules())
	w := &windowsPartition{laneDeps: d, partition: committed.Partition, changed: make(chan struct{}, 1),
		maxFinals: maxFinals, windows: windows, pending: newPending(committed.Partition, windows.Fold),
		reason: "reading the last minutes of the log again"}
	w.notFull.L = &w.mu
	w.reader = newPartitionReader(d, w, w.windows.Classifier, committed)
	return w
}

func (w *windowsPartition) run(ctx context.Context) {
	draining, cancel := w.drain(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		err := w.findEmitted(ctx)
		if err == nil {
			err = w.reader.run(ctx)
		}
		if ctx.Err() == nil {
			w.reader.log.Error("this partition is halted", "error", err)
			w.halt(err)
		}
	})
	wg.Go(func() { w.emitLoop(ctx, draining) })
	wg.Wait()
	w.emit(draining)
}

func (w *windowsPartition) setReason(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reason = reason
}

func (w *windowsPartition) halt(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.haltReason = err.Error()
	w.metrics.halted.WithLabelValues(w.name).Inc()
}

// apply folds an envelope. It waits while maxFinals final rows are pending.
func (w *windowsPartition) apply(ctx context.Context, e *fold.Envelope, _ []byte) (fold.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending.finals) >= w.maxFinals && w.live {
		w.metrics.waits.WithLabelValues(topic.Windows).Inc()
		defer wakeOn(ctx, &w.notFull)()
		for len(w.pending.finals) >= w.maxFinals {
			if ctx.Err() != nil {
				return fold.Outcome{}, ctx.Err()
			}
			w.notFull.Wait()
		}
	}
	var finals []window.Second
	var outcome fold.Outcome
	if !w.live && w.reader.hasWatermark {
		finals, outcome = w.windows.Warm(e, w.reader.committedWatermark)
	} else {
		finals, outcome = w.windows.Apply(e)
	}
	w.pending.add(finals, e.Offset, w.windows.Classifier)
	if !w.live {
		w.pending.dropFinals()
	} else if w.pending.hasChanges() {
		notify(w.changed)
	}
	return outcome, nil
}

// wakeOn wakes the waiters of a condition when ctx ends, until stop is called.
func wakeOn(ctx context.Context, c *sync.Cond) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		c.L.Lock()
		defer c.L.Unlock()
		c.Broadcast()
	})
}

// notify wakes the receiver of a channel with a buffer of one, or does nothing if that has been done already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *windowsPartition) goLive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A watermark that goLive has raised only passes seconds that were final before.
	p, c := w.pending, w.windows.Classifier
	w.windows.Fold.Advance(c.Watermark(), 0)
	p.add(w.windows.Fold.End(p.next-1, c.LogTime()), p.next-1, c)
	p.dropFinals()
	w.live, w.reason = true, ""
	notify(w.changed)
}

// cut passes over lost records. The final rows that an earlier owner emitted from them stay: the watermark is
// raised to theirs.
func (w *windowsPartition) cut(c broker.Cut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pending
	watermark := max(emittedBefore(w.emitted, c.At), p.emittedWatermark)
	w.windows.Classifier.Raise(watermark)
	w.windows.Fold.Advance(w.windows.Classifier.Watermark(), c.To)
	w.windows.Fold.End(c.To, w.windows.Classifier.LogTime())
	p.add(nil, c.To, w.windows.Classifier)
	if w.live {
		notify(w.changed)
	}
}

// emitLoop emits what is pending: at once after a quiet interval, else at the next multiple of emitInterval.
// Lists that aren't due yet are tried again at the next multiple and don't delay other changes.
func (w *windowsPartition) emitLoop(ctx, draining context.Context) {
	var last time.Time
	var retryTimer <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		case <-retryTimer:
		}
		if time.Since(last) < emitInterval {
			if retry.Sleep(ctx, retry.UntilNext(emitInterval)) != nil {
				return
			}
		}
		if w.emit(draining) {
			last = time.Now()
		}
		if retryTimer = nil; w.hasPending() {
			retryTimer = time.After(retry.UntilNext(emitInterval))
		}
	}
}

// hasPending reports whether changes aren't emitted yet.
func (w *windowsPartition) hasPending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live && w.pending.hasChanges()
}

// emit writes all that is due, one record after the other, until all are acknowledged or ctx ends. It reports
// whether it wrote any. Records that are written twice or out of order are harmless: a version has one
// content, and rows are ordered by version.
func (w *windowsPartition) emit(ctx context.Context) (wrote bool) {
	if len(w.unacknowledged) == 0 && !w.collect() {
		return false
	}
	var backoff retry.Backoff
	for len(w.unacknowledged) > 0 {
		attempt, cancel := context.WithTimeout(ctx, produceTimeout)
		_, err := w.broker.Produce(attempt, topic.Windows, w.partition, time.Now(), w.unacknowledged[0])
		cancel()
		if err == nil {
			w.unacknowledged = w.unacknowledged[1:]
			backoff.Reset()
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		w.metrics.retries.WithLabelValues(topic.Windows).Inc()
		if w.logged.due() {
			w.reader.log.Warn("can't write windows, trying again", "error", err)
		}
		w.setReason("can't write " + topic.Windows + ": " + err.Error())
		w.broker.Refresh()
		_ = backoff.Wait(ctx) // Produce fails once ctx has ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged, w.reason = w.unacknowledgedPosition, ""
	notify(w.moved)
	return true
}

// collect moves what is due to unacknowledged, and reports whether there is any.
func (w *windowsPartition) collect() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.live {
		return false
	}
	p := w.pending
	records, n := p.emit(time.Now())
	w.notFull.Broadcast()
	if len(records) == 0 {
		return false
	}
	w.unacknowledged = records
	w.unacknowledgedPosition = position(w.partition, p.next, p.watermark)
	w.metrics.emitted.WithLabelValues("final").Add(float64(n.finals))
	w.metrics.emitted.WithLabelValues("provisional").Add(float64(n.provisional))
	w.metrics.emitted.WithLabelValues("now").Add(float64(n.lists))
	return true
}
