package aggregator

import (
	"cmp"
	"context"
	"sync"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// beat is the pace of emissions. Beats are multiples of it since 1970, so that all partitions of all instances emit at the same moments
// and a streamer can send once for all of them.
const beat = 100 * time.Millisecond

// tryWrite bounds one attempt to write an emission: longer than Kafka takes to notice that a partition's leader is gone.
const tryWrite = 5 * time.Second

// windowsWork is the windows lane's work on the partitions of one generation.
type windowsWork struct{ parts []*windowsPart }

func newWindowsWork(l *lane, _ []int, committed []group.Position) work {
	w := &windowsWork{}
	for _, p := range committed {
		w.parts = append(w.parts, newWindowsPart(l, p))
	}
	return w
}

// Run works on all partitions until ctx ends.
func (w *windowsWork) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range w.parts {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Wait()
}

// Positions are those up to which every final row is acknowledged.
func (w *windowsWork) Positions() []group.Position {
	var all []group.Position
	for _, p := range w.parts {
		p.mu.Lock()
		if p.done.Topic != "" {
			all = append(all, p.done)
		}
		p.mu.Unlock()
	}
	return all
}

func (w *windowsWork) unready() string {
	for _, p := range w.parts {
		p.mu.Lock()
		reason := cmp.Or(p.left, p.source.trouble.unready(), p.reason)
		p.mu.Unlock()
		if reason != "" {
			return reason
		}
	}
	return ""
}

// windowsPart is the windows lane of one partition: one goroutine reads and folds, another emits, and between them is what is pending.
type windowsPart struct {
	*lane
	partition int
	source    *source
	wake      chan struct{} // there is something to emit
	most      int           // final rows that may wait

	mu      sync.Mutex
	room    sync.Cond // pending has room again
	windows fold.Windows
	pending *pending
	live    bool
	done    group.Position
	reason  string
	left    string // why the partition is left alone: for good, while what is pending is still written

	// Of the emitting goroutine: what isn't acknowledged yet, and the position that it reaches.
	sending [][]byte
	reaches group.Position
	said    seldom
}

func newWindowsPart(l *lane, committed group.Position) *windowsPart {
	windows := fold.NewWindows(fold.Standard())
	w := &windowsPart{lane: l, partition: committed.Partition, wake: make(chan struct{}, 1), most: maxFinals, windows: windows,
		pending: newPending(committed.Partition, windows.Fold), reason: "reading the last minutes of the log again"}
	w.room.L = &w.mu
	w.source = newSource(l, w, w.windows.Reader, committed)
	return w
}

func (w *windowsPart) run(ctx context.Context) {
	hard, cancel := w.drain(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.source.run(ctx); ctx.Err() == nil {
			w.source.log.Error("this partition is left alone", "error", err)
			w.leave(err)
		}
	})
	wg.Go(func() { w.emitting(ctx, hard) })
	wg.Wait()
	w.emit(hard)
}

func (w *windowsPart) set(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reason = reason
}

func (w *windowsPart) leave(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = err.Error()
	w.metrics.alone.WithLabelValues(w.name).Inc()
}

// read folds an envelope. While more final rows wait than memory is for, it waits.
func (w *windowsPart) read(ctx context.Context, e *fold.Envelope, _ []byte) (fold.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending.finals) >= w.most && w.live {
		w.metrics.waits.WithLabelValues(topic.Windows).Inc()
		defer context.AfterFunc(ctx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.room.Broadcast()
		})()
		for len(w.pending.finals) >= w.most {
			if ctx.Err() != nil {
				return fold.Outcome{}, ctx.Err()
			}
			w.room.Wait()
		}
	}
	apply := w.windows.Apply
	if !w.live && w.source.known {
		apply = func(e *fold.Envelope) ([]window.Second, fold.Outcome) { return w.windows.Warm(e, w.source.want) }
	}
	finals, outcome := apply(e)
	w.pending.take(finals, e.Offset, w.windows.Reader)
	if !w.live {
		w.pending.silence()
	} else if w.pending.news() {
		w.awake()
	}
	return outcome, nil
}

func (w *windowsPart) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Where the watermark had to be raised, what it passed was final before.
	w.windows.Fold.Advance(w.windows.Reader.Watermark(), 0)
	w.pending.take(w.windows.Fold.End(w.pending.next-1, w.windows.Reader.Now()), w.pending.next-1, w.windows.Reader)
	w.pending.silence()
	w.live, w.reason = true, ""
	w.awake()
}

func (w *windowsPart) awake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// emitting writes what is pending: at once after a quiet beat, else on the next beat. What isn't due yet is looked at again on a beat, and
// doesn't keep the next change waiting.
func (w *windowsPart) emitting(ctx, hard context.Context) {
	next := func() time.Duration {
		now := time.Now()
		return now.Truncate(beat).Add(beat).Sub(now)
	}
	var last time.Time
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-later:
		}
		if time.Since(last) < beat {
			pause(ctx, next())
			if ctx.Err() != nil {
				return
			}
		}
		if w.emit(hard) {
			last = time.Now()
		}
		if later = nil; w.waiting() {
			later = time.After(next())
		}
	}
}

// waiting says whether something is pending that isn't due yet.
func (w *windowsPart) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live && w.pending.news()
}

// emit writes all that is due, one record after the other, until they are acknowledged or ctx ends. Copies do no harm: the rows
// are the same. A record out of order doesn't either, since rows have versions. It says whether it wrote any.
func (w *windowsPart) emit(ctx context.Context) (wrote bool) {
	if len(w.sending) == 0 && !w.collect() {
		return false
	}
	for len(w.sending) > 0 {
		try, cancel := context.WithTimeout(ctx, tryWrite)
		_, err := w.broker.Produce(try, topic.Windows, w.partition, time.Now(), w.sending[0])
		cancel()
		if err == nil {
			w.sending = w.sending[1:]
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		w.metrics.retries.WithLabelValues(topic.Windows).Inc()
		if w.said.now() {
			w.source.log.Warn("can't write windows, trying again", "error", err)
		}
		w.set("can't write " + topic.Windows + ": " + err.Error())
		w.broker.Refresh()
		pause(ctx, 100*time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.reason = w.reaches, ""
	return true
}

// collect takes what is due, and says whether that is anything.
func (w *windowsPart) collect() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.live {
		return false
	}
	p := w.pending
	records, n := p.emit(time.Now())
	w.room.Broadcast()
	if len(records) == 0 {
		return false
	}
	w.sending, w.reaches = records, position(w.partition, p.next, p.watermark)
	w.metrics.emitted.WithLabelValues("final").Add(float64(n.finals))
	w.metrics.emitted.WithLabelValues("provisional").Add(float64(n.provisional))
	w.metrics.emitted.WithLabelValues("now").Add(float64(n.nows))
	return true
}
