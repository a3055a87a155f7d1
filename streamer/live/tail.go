package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/board"
	"nowcast/streamer/hub"
)

// readBack is how far before now a start reads the windows topic: the five minutes that a viewer sees, and a
// minute for clocks that differ.
const readBack = 6 * time.Minute

// tail reads all partitions of the windows topic onto a board. It has no consumer group: every streamer
// reads everything.
type tail struct {
	kafka   *broker.Client
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time
	current atomic.Pointer[boardAndHub] // nil until the number of partitions is known

	mu         sync.Mutex
	catchingUp int    // partitions not yet read to their initial end
	reason     string // why the board is not complete; "" when it is

	emissionAt atomic.Int64 // when the newest emission came, Unix ns; 0: none yet
}

// boardAndHub are what is read of one incarnation of the topic, and the frames made of it.
type boardAndHub struct {
	board *board.Board
	hub   *hub.Hub
}

// board is the current board; nil before there is one.
func (t *tail) board() *board.Board {
	if current := t.current.Load(); current != nil {
		return current.board
	}
	return nil
}

// run reads until ctx ends. Where reading fails it starts again with a new board, after a call of onRestart.
func (t *tail) run(ctx context.Context, onRestart func()) error {
	backoff := retry.Backoff{Min: 200 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		err := t.read(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.setReason(fmt.Sprintf("reading the windows from Kafka: %v", err))
		onRestart()
		if errors.Is(err, broker.ErrTopicRecreated) {
			t.log.Error("read windows topic: it was deleted and created again; starting with its new log",
				"error", err)
		}
		t.kafka.Refresh()
		if err := backoff.Wait(ctx); err != nil {
			return err
		}
	}
}

// offsets are where reading a partition starts, and the end of its log at that moment.
type offsets struct{ from, end int64 }

func (t *tail) offsets(ctx context.Context) ([]offsets, error) {
	n, err := t.kafka.Partitions(ctx, topic.Windows)
	if err != nil {
		return nil, err
	}
	all := make([]offsets, n)
	for p := range all {
		if all[p].from, err = t.kafka.OffsetAt(ctx, topic.Windows, p, time.Now().Add(-readBack)); err != nil {
			return nil, err
		}
		if _, all[p].end, err = t.kafka.Bounds(ctx, topic.Windows, p); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// read follows every partition until one fails or ctx ends.
func (t *tail) read(ctx context.Context) error {
	starts, err := t.offsets(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b := board.New(len(starts))
	b.SetClock(t.now)
	h := hub.New(b)
	t.current.Store(&boardAndHub{b, h})
	t.mu.Lock()
	t.catchingUp = len(starts)
	t.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { h.Run(ctx) })
	for p, at := range starts {
		wg.Go(func() { stop(t.follow(ctx, b, p, at)) })
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// follow applies the records of one partition to a board. A topic that was deleted and created again has
// other seconds than the board, so follow then fails.
func (t *tail) follow(ctx context.Context, b *board.Board, p int, at offsets) error {
	caughtUp := false
	var e window.Emission
	return t.kafka.Follow(ctx, broker.Follower{
		Topic: topic.Windows, Partition: p, From: at.from,
		KnownEnd: at.end, RecreationGrace: broker.RecreationGrace,
		Record: func(r broker.Record) error {
			if err := e.Decode(r.Value); err != nil {
				t.metrics.unreadable.Inc()
				t.log.Warn("decode record of the windows topic: skipped it",
					"partition", p, "offset", r.Offset, "error", err)
				return nil
			}
			if e.Epoch != window.Epoch {
				t.metrics.otherEpochs.Inc()
			}
			t.emissionAt.Store(t.now().UnixNano())
			b.Apply(p, r.Offset, &e)
			return nil
		},
		Batch: func(next, _ int64) error {
			if !caughtUp && next >= at.end {
				caughtUp = true
				t.partitionCaughtUp(b)
			}
			return nil
		},
		Gap: func(g broker.Gap) {
			t.log.Warn("read windows topic: records were deleted before they were read", "gap", g.String())
		},
		Cut: func(c broker.Cut) {
			b.Cut(c.After, c.At)
			t.log.Warn("read windows topic: the log has lost its newest records; returning viewers are reset",
				"cut", c.String())
		},
		Fail: func(err error) { t.metrics.fetchErrors.Inc(); t.log.Debug("fetch windows", "error", err) },
	})
}

// partitionCaughtUp counts a partition that has been read to the end that it had at the start.
func (t *tail) partitionCaughtUp(b *board.Board) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catchingUp--; t.catchingUp == 0 {
		t.reason = ""
		b.CaughtUp()
	}
}

// ready reports whether there are frames to serve, and if not, why.
func (t *tail) ready() (ok bool, reason string) {
	t.mu.Lock()
	reason = t.reason
	t.mu.Unlock()
	if current := t.current.Load(); reason == "" && current != nil {
		reason = otherEpochsOnly(current.board)
	}
	return reason == "", reason
}

func (t *tail) setReason(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = reason
}
