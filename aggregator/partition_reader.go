package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// envelopeHandler consumes the envelopes that a partitionReader reads.
type envelopeHandler interface {
	// apply consumes an envelope, whose bytes are valid only during the call. It blocks while its sink is
	// behind.
	apply(ctx context.Context, e *fold.Envelope, record []byte) (fold.Outcome, error)
	// goLive ends the warm-up: the output of all envelopes so far was written by an earlier owner.
	goLive()
	// cut passes a place where the log has lost records. What an earlier owner wrote for them stays.
	cut(c broker.Cut)
}

// partitionReader reads one partition of the events topic for a lane. It first reads the warm-up, the part of
// the log that rebuilds the state at the committed position, and then goes live from there.
type partitionReader struct {
	*laneDeps
	handler    envelopeHandler
	classifier *fold.Classifier
	partition  int
	committed  group.Position
	idlePause  time.Duration // between fetches at the end of the log; 0 where latency counts
	span       span          // of a rewind; else unlimited

	log              *slog.Logger
	partitionMetrics partitionMetrics
	failure          readFailure
	started          time.Time

	committedWatermark int64 // at the committed position
	hasWatermark       bool  // committedWatermark is known
	headLost           bool  // a part of the warm-up may be lost, by retention or a cut
	live               bool

	decoder  event.Decoder
	envelope fold.Envelope
	erased   []bool // buffer of envelope.Erased
}

func newPartitionReader(d *laneDeps, h envelopeHandler, c *fold.Classifier,
	committed group.Position) *partitionReader {
	p := committed.Partition
	log := d.log.With("partition", p)
	return &partitionReader{laneDeps: d, handler: h, classifier: c, partition: p, committed: committed,
		log: log, failure: readFailure{log: log, name: fmt.Sprintf("can't read %s/%d", topic.Events, p)},
		partitionMetrics: d.metrics.partition(d.name, topic.Events, p)}
}

// position returns a position of the events topic, with the watermark there as metadata.
func position(partition int, next, watermark int64) group.Position {
	return group.Position{Topic: topic.Events, Partition: partition, Offset: next,
		Metadata: "watermark=" + strconv.FormatInt(watermark, 10)}
}

// metadataOf returns the value of "key=value" in a position's metadata. Positions that other tools have set
// have none.
func metadataOf(p group.Position, key string) (int64, bool) {
	s, found := strings.CutPrefix(p.Metadata, key+"=")
	v, err := strconv.ParseInt(s, 10, 64)
	return v, found && err == nil
}

// run reads until ctx ends or the span of a rewind is read. It returns an error if the state can't be
// rebuilt.
func (r *partitionReader) run(ctx context.Context) error {
	r.started = time.Now()
	if err := r.erasures.Wait(ctx); err != nil {
		return err
	}
	from, err := retryStart(ctx, r.start, r.failure.failed)
	if err != nil || r.span.ends(from) {
		return err
	}
	if from >= r.committed.Offset { // no warm-up
		if err := r.goLive(); err != nil {
			return err
		}
	}
	return r.follow(ctx, broker.Follower{Topic: topic.Events, Partition: r.partition, From: from,
		KnownEnd: r.committed.Offset,
		Record:   func(x broker.Record) error { return r.record(ctx, x) },
		Batch:    func(next, end int64) error { return r.fetched(ctx, next, end) },
		Gap:      r.gap, Cut: r.cut, Fail: r.failure.failed})
}

// retryStart calls start until it returns the offset to read from, or ctx ends.
func retryStart(ctx context.Context, start func(context.Context) (int64, error), failed func(error)) (int64,
	error) {
	var backoff retry.Backoff
	for {
		offset, err := start(ctx)
		switch {
		case err == nil:
			return offset, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		}
		failed(err)
		_ = backoff.Wait(ctx) // start fails once ctx has ended
	}
}

// start returns the offset of the first record with a timestamp within fold.WarmUp before the committed
// watermark. The state depends only on events received since, and no event is later than its record.
func (r *partitionReader) start(ctx context.Context) (int64, error) {
	first, _, err := r.broker.Bounds(ctx, topic.Events, r.partition)
	if err != nil || r.committed.Offset < 0 {
		return first, err
	}
	if r.committed.Offset < first {
		r.gap(broker.Gap{Topic: topic.Events, Partition: r.partition, From: r.committed.Offset, To: first})
	}
	from := first
	if r.span.limited {
		return max(first, r.span.readFrom), nil
	}
	r.committedWatermark, r.hasWatermark = metadataOf(r.committed, "watermark")
	if r.hasWatermark && r.committedWatermark != fold.None {
		at := time.UnixMilli(r.committedWatermark).Add(-fold.WarmUp)
		if from, err = r.broker.OffsetAt(ctx, topic.Events, r.partition, at); err != nil {
			return 0, err
		}
	}
	r.headLost = r.headLost || from <= first && first > 0
	return min(from, max(first, r.committed.Offset)), nil
}

func (r *partitionReader) record(ctx context.Context, x broker.Record) error {
	r.partitionMetrics.record(x.Time)
	if err := r.span.count(x.Offset); err != nil {
		return err
	}
	if !r.live && x.Offset >= r.committed.Offset {
		if err := r.goLive(); err != nil {
			return err
		}
	}
	if err := r.decode(x); err != nil {
		if !r.live {
			return nil
		}
		r.partitionMetrics.unreadable.Inc()
		return r.deadLetter(ctx, topic.Events, r.partition, x.Offset, err)
	}
	r.markErased()
	o, err := r.handler.apply(ctx, &r.envelope, x.Value)
	if err == nil && r.live {
		r.partitionMetrics.count(o)
	}
	return err
}

// decode decodes a whole record into r.envelope.
func (r *partitionReader) decode(x broker.Record) error {
	const maxEvents = 1 << 16 // ClickHouse stores an event's index in its envelope in 16 bits
	h, err := r.decoder.Reset(x.Value)
	if err != nil {
		return err
	}
	events, n := r.envelope.Events[:cap(r.envelope.Events)], 0
	for ; ; n++ {
		if n == len(events) {
			events = append(events, event.Event{})
			events = events[:cap(events)]
		}
		if !r.decoder.Next(&events[n]) {
			break
		}
		if n == maxEvents {
			return fmt.Errorf("read envelope: more than %d events: %w", maxEvents, event.ErrCorrupt)
		}
	}
	r.envelope = fold.Envelope{Offset: x.Offset, Time: x.Time, Header: h, Events: events[:n],
		Tallies: r.decoder.Tallies()}
	return r.decoder.Err()
}

// markErased marks the events of r.envelope that an erasure covers. As in the classifier, no event is later
// than its record.
func (r *partitionReader) markErased() {
	e, set := &r.envelope, r.erasures.Set()
	for i := range e.Events {
		x := &e.Events[i]
		at := max(0, min(x.Time, e.Time))
		if !set.Reaches(at) || !set.Event(x.Site, x.Visitor, at) {
			continue
		}
		if e.Erased == nil {
			r.erased = append(r.erased[:0], make([]bool, len(e.Events))...)
			e.Erased = r.erased
		}
		e.Erased[i] = true
	}
}

// errWatermark halts a partition, as broker.ErrTopicRecreated does.
var errWatermark = errors.New("the state rebuilt from the log isn't the one that was committed")

// goLive ends the warm-up. It fails if the rebuilt watermark isn't the committed one.
func (r *partitionReader) goLive() error {
	rebuilt := r.classifier.Watermark()
	switch {
	case r.committed.Offset < 0 || !r.hasWatermark || rebuilt == r.committedWatermark:
	case r.headLost:
		// Final rows stay final; rows of open seconds may lack events.
		r.log.Error("the log has lost a part of the last minutes before the committed position: "+
			"counts of the next minutes may be too low",
			"offset", r.committed.Offset, "watermark", r.committedWatermark, "rebuilt", rebuilt)
		r.classifier.Raise(r.committedWatermark)
	default:
		return r.recreated(fmt.Errorf("%w: watermark %d instead of %d at offset %d of %s/%d", errWatermark,
			rebuilt,
			r.committedWatermark, r.committed.Offset, topic.Events, r.partition), topic.Events)
	}
	r.live = true
	r.handler.goLive()
	took := time.Since(r.started)
	r.partitionMetrics.setWarmUp(took)
	r.log.Info("reading on", "offset", max(0, r.committed.Offset), "warm-up", took.Round(time.Millisecond))
	return nil
}

func (r *partitionReader) fetched(ctx context.Context, next, end int64) error {
	r.failure.clear()
	if !r.live && next >= r.committed.Offset {
		if err := r.goLive(); err != nil {
			return err
		}
	}
	if r.span.ends(next) {
		return errSpanEnd
	}
	r.partitionMetrics.fetched(next, end)
	r.partitionMetrics.setWatermark(r.classifier.Watermark())
	if next >= end {
		_ = retry.Sleep(ctx, r.idlePause) // Follow returns when ctx has ended
	}
	return nil
}

func (r *partitionReader) gap(g broker.Gap) {
	if !r.live {
		r.headLost = true
		g.From = max(g.From, r.committed.Offset) // earlier records were read before the commit
	}
	r.partitionMetrics.gap(g, r.log)
}

// cut passes a cut on. The committed state may depend on records that the cut has lost.
func (r *partitionReader) cut(c broker.Cut) {
	r.headLost = r.headLost || !r.live
	r.partitionMetrics.cut(c, r.live, r.log)
	r.handler.cut(c)
}

// readFailure is the state of reading a partition. It logs failures at a limited rate.
type readFailure struct {
	log    *slog.Logger
	name   string // prefix of unready's reason
	logged logEvery

	mu    sync.Mutex
	since time.Time // start of the failure; zero: reading works
	last  error
}

// unreadyAfter is how long reading may fail before the lane is unready. Electing a new leader takes less.
const unreadyAfter = 5 * time.Second

func (f *readFailure) failed(err error) {
	if f.logged.due() {
		f.log.Warn("can't read, trying again", "error", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last = err; f.since.IsZero() {
		f.since = time.Now()
	}
}

func (f *readFailure) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Time{}
}

// unready returns the last error once reading has failed for unreadyAfter, or "".
func (f *readFailure) unready() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() || time.Since(f.since) < unreadyAfter {
		return ""
	}
	return fmt.Sprintf("%s: %v", f.name, f.last)
}
