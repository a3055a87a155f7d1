package aggregator

import (
	"context"
	"encoding/json"
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
	"nowcast/internal/topic"
)

// stage is what a source reads for.
type stage interface {
	// read applies an envelope, whose bytes are valid only during the call. It may block while its sink is behind.
	read(ctx context.Context, e *fold.Envelope, record []byte) (fold.Outcome, error)
	// begin ends the silence: what has been read so far was written before.
	begin()
}

// source reads one partition of the events topic for a lane: first, in silence, the part of the log that rebuilds the state at the
// committed position, then on from there.
type source struct {
	*lane
	stage     stage
	reader    *fold.Reader
	partition int
	committed group.Position
	rest      time.Duration // between fetches when there is nothing more to read; 0 where every millisecond counts
	span      span          // of a rewind; else all there is

	log     *slog.Logger
	reading reading
	trouble trouble
	started time.Time
	want    int64 // the watermark at the committed position
	known   bool  // want is
	short   bool  // the log may lack a part of the warm-up
	live    bool

	decoder  event.Decoder
	envelope fold.Envelope
}

func newSource(l *lane, s stage, r *fold.Reader, committed group.Position) *source {
	p := committed.Partition
	log := l.log.With("partition", p)
	return &source{lane: l, stage: s, reader: r, partition: p, committed: committed, log: log,
		trouble: trouble{log: log, what: fmt.Sprintf("can't read %s/%d", topic.Events, p)}, reading: l.metrics.reading(l.name, topic.Events, p)}
}

// position is one of the events topic, with the watermark there.
func position(partition int, next, watermark int64) group.Position {
	return group.Position{Topic: topic.Events, Partition: partition, Offset: next, Metadata: "watermark=" + strconv.FormatInt(watermark, 10)}
}

// noted reads what a position says of itself after "name=". Positions that were set by other tools don't have it.
func noted(p group.Position, name string) (int64, bool) {
	s, found := strings.CutPrefix(p.Metadata, name+"=")
	v, err := strconv.ParseInt(s, 10, 64)
	return v, found && err == nil
}

// run reads until ctx ends or the span does, or until the state can't be rebuilt: then it returns why.
func (s *source) run(ctx context.Context) error {
	s.started = time.Now()
	from, err := start(ctx, s.from, s.trouble.failed)
	if err != nil || s.span.over(from) {
		return err
	}
	if from >= s.committed.Offset { // nothing to rebuild
		if err := s.begin(); err != nil {
			return err
		}
	}
	return s.follow(ctx, broker.Follower{Topic: topic.Events, Partition: s.partition, From: from, KnownEnd: s.committed.Offset,
		Record: func(r broker.Record) error { return s.record(ctx, r) },
		Batch:  func(next, end int64) error { return s.fetched(ctx, next, end) },
		Gap:    s.gap, Fail: s.trouble.failed})
}

// start tries until it is known where to begin, or ctx ends.
func start(ctx context.Context, from func(context.Context) (int64, error), failed func(error)) (int64, error) {
	for {
		at, err := from(ctx)
		switch {
		case err == nil:
			return at, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		}
		failed(err)
		pause(ctx, 200*time.Millisecond)
	}
}

// follow reads a partition until ctx ends, a callback fails, or the span of a rewind is read.
func (l *lane) follow(ctx context.Context, f broker.Follower) error {
	f.RecreationGrace = l.recreationGrace
	switch err := l.broker.Follow(ctx, f); {
	case errors.Is(err, errRewound):
		return nil
	case errors.Is(err, broker.ErrTopicRecreated):
		return l.anew(err, f.Topic)
	default:
		return err
	}
}

// from is where to begin. Everything that can still matter at watermark w was received less than fold.WarmUp before it, and nothing is
// later than its record: so it is at or behind the first record of that time.
func (s *source) from(ctx context.Context) (int64, error) {
	first, _, err := s.broker.Bounds(ctx, topic.Events, s.partition)
	if err != nil || s.committed.Offset < 0 {
		return first, err
	}
	if s.committed.Offset < first {
		s.gap(broker.Gap{Topic: topic.Events, Partition: s.partition, From: s.committed.Offset, To: first})
	}
	from := first
	if s.span.limited {
		return max(first, s.span.read), nil
	}
	s.want, s.known = noted(s.committed, "watermark")
	if s.known && s.want != fold.None {
		if from, err = s.broker.OffsetAt(ctx, topic.Events, s.partition, time.UnixMilli(s.want).Add(-fold.WarmUp)); err != nil {
			return 0, err
		}
	}
	s.short = from <= first && first > 0
	return min(from, max(first, s.committed.Offset)), nil
}

func (s *source) record(ctx context.Context, r broker.Record) error {
	s.reading.record(r.Time)
	if err := s.span.take(r.Offset); err != nil {
		return err
	}
	if !s.live && r.Offset >= s.committed.Offset {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if err := s.decode(r); err != nil {
		if !s.live {
			return nil
		}
		s.reading.unreadable.Inc()
		return s.deadLetter(ctx, topic.Events, s.partition, r.Offset, err)
	}
	o, err := s.stage.read(ctx, &s.envelope, r.Value)
	if err == nil && s.live {
		s.reading.count(o)
	}
	return err
}

// decode takes a record as a whole or not at all.
func (s *source) decode(r broker.Record) error {
	const most = 1 << 16 // an event's place in its envelope has 16 bits in ClickHouse
	h, err := s.decoder.Reset(r.Value)
	if err != nil {
		return err
	}
	events, n := s.envelope.Events[:cap(s.envelope.Events)], 0
	for ; ; n++ {
		if n == len(events) {
			events = append(events, event.Event{})
			events = events[:cap(events)]
		}
		if !s.decoder.Next(&events[n]) {
			break
		}
		if n == most {
			return fmt.Errorf("read envelope: more than %d events: %w", most, event.ErrCorrupt)
		}
	}
	s.envelope = fold.Envelope{Offset: r.Offset, Time: r.Time, Header: h, Events: events[:n], Tallies: s.decoder.Tallies()}
	return s.decoder.Err()
}

// errWatermark is one of the two reasons for which a partition is left alone; the other is broker.ErrTopicRecreated.
var errWatermark = errors.New("the state rebuilt from the log isn't the one that was committed")

// anew says how to mend what only a topic that was deleted and made again explains. To go on by itself would be to guess where.
func (l *lane) anew(why error, of string) error {
	return fmt.Errorf("%w; if the topic was made anew, stop the aggregators, run kafka-consumer-groups.sh --bootstrap-server HOST:PORT "+
		"--group nowcast-%s --delete-offsets --topic %s and start them: they begin at its first record", why, l.name, of)
}

// begin checks that the rebuilt state is the one that was committed, by its watermark, and ends the silence.
func (s *source) begin() error {
	got := s.reader.Watermark()
	switch {
	case s.committed.Offset < 0 || !s.known || got == s.want:
	case s.short:
		// Retention has taken a part of what is needed. What was final stays so; what waits may be incomplete.
		s.log.Error("the log has lost a part of the last minutes before the committed position: counts of the next minutes may be too low",
			"offset", s.committed.Offset, "watermark", s.want, "rebuilt", got)
		s.reader.Raise(s.want)
	default:
		return s.anew(fmt.Errorf("%w: watermark %d instead of %d at offset %d of %s/%d", errWatermark, got, s.want, s.committed.Offset, topic.Events, s.partition), topic.Events)
	}
	s.live = true
	s.stage.begin()
	took := time.Since(s.started)
	s.reading.warmedUp(took)
	s.log.Info("reading on", "offset", max(0, s.committed.Offset), "warm-up", took.Round(time.Millisecond))
	return nil
}

func (s *source) fetched(ctx context.Context, next, end int64) error {
	s.trouble.over()
	if !s.live && next >= s.committed.Offset {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if s.span.over(next) {
		return errRewound
	}
	s.reading.fetched(next, end)
	s.reading.reached(s.reader.Watermark())
	if next >= end && s.rest > 0 {
		pause(ctx, s.rest)
	}
	return nil
}

func (s *source) gap(g broker.Gap) {
	if !s.live {
		// What retention takes from under a warm-up had been read once.
		s.short = true
		g.From = max(g.From, s.committed.Offset)
	}
	missed(g, &s.reading, s.log)
}

// missed says and counts what was gone before it was read.
func missed(g broker.Gap, r *reading, log *slog.Logger) {
	if n := g.To - g.From; n > 0 {
		r.lost.Add(float64(n))
		log.Error("records are gone before they were read", "topic", g.Topic, "from", g.From, "to", g.To-1, "records", n)
	}
}

// trouble is that of reading a partition, told seldom.
type trouble struct {
	log  *slog.Logger
	what string
	said seldom

	mu    sync.Mutex
	since time.Time
	last  error
}

// longTrouble is how long reading may fail until that is worth more than a line in the log. A new leader is there sooner.
const longTrouble = 5 * time.Second

func (t *trouble) failed(err error) {
	if t.said.now() {
		t.log.Warn("can't read, trying again", "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last = err; t.since.IsZero() {
		t.since = time.Now()
	}
}

func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Time{}
}

// unready says why, once it has lasted.
func (t *trouble) unready() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() || time.Since(t.since) < longTrouble {
		return ""
	}
	return fmt.Sprintf("%s: %v", t.what, t.last)
}

// letter is the value of a record of nowcast.dead-letter.v1. The record that it is about stays where it is.
type letter struct {
	Lane      string `json:"lane"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
}

// deadLetter says where a record is that can't be read. It tries until that is acknowledged: the position behind the record may be
// committed then. After a crash the same letter may be written again, under the same key.
func (l *lane) deadLetter(ctx context.Context, of string, partition int, offset int64, reason error) error {
	l.log.Error("a record can't be read and is left out", "topic", of, "partition", partition, "offset", offset, "error", reason)
	value, err := json.Marshal(letter{l.name, of, partition, offset, reason.Error()})
	if err != nil {
		return fmt.Errorf("write dead letter: %w", err)
	}
	key := fmt.Appendf(nil, "%s/%s/%d/%d", l.name, of, partition, offset)
	for said := (seldom{}); ; {
		_, err := l.broker.ProduceKeyed(ctx, topic.DeadLetter, key, value)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if said.now() {
			l.log.Warn("can't write dead letter, trying again", "error", err)
		}
		l.metrics.retries.WithLabelValues(topic.DeadLetter).Inc()
		l.broker.Refresh()
		pause(ctx, 200*time.Millisecond)
	}
}
