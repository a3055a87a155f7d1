package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// work is what a lane does with the partitions of one generation.
type work interface {
	group.Work
	unready() string // the reason why it isn't ready, or ""
}

// laneDeps are the dependencies that the parts of a lane or of a rewind share.
type laneDeps struct {
	name            string // of the lane
	cfg             Config
	broker          *broker.Client
	erasures        *erasure.Log // nil: none
	log             *slog.Logger
	metrics         *metrics
	moved           chan struct{} // notified when positions may have changed
	tokenSuffix     string        // makes the insert tokens of a rewind unique
	recreationGrace time.Duration // see broker.Follower
}

// lane is a member of a consumer group and its work.
type lane struct {
	*laneDeps
	member *group.Member

	mu   sync.Mutex
	work work // on the partitions of the newest generation; nil before the first one
}

// newLane wires a lane. start makes the work on the partitions of a generation, from their committed
// positions.
func newLane(name string, cfg Config, deps Deps, m *metrics,
	start func(*laneDeps, []group.Position) work, topics ...string) *lane {
	l := &lane{laneDeps: &laneDeps{name: name, cfg: cfg, broker: deps.Broker, metrics: m,
		moved:    make(chan struct{}, 1),
		erasures: deps.Erasures,
		log:      deps.Log.With("lane", name), recreationGrace: broker.RecreationGrace}}
	l.member = group.New(group.Config{Group: topic.Group(name), Instance: cfg.Instance, Topics: topics,
		Session: cfg.Session, Heartbeat: cfg.Heartbeat, Moved: l.moved,
		Rebalanced: func(partitions []int) { m.assigned(name, partitions) },
		Start: func(_ []int, committed []group.Position) group.Work {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.work = start(l.laneDeps, committed)
			return l.work
		}}, deps.Broker, l.log)
	return l
}

func (l *lane) unready() string {
	if ok, reason := l.member.Ready(); !ok {
		return reason
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.work.unready()
}

// drain returns a context that outlives ctx by Config.Drain, for writes that are under way when ctx ends.
func (d *laneDeps) drain(ctx context.Context) (context.Context, context.CancelFunc) {
	draining, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(d.cfg.Drain, cancel)
	})
	return draining, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel()
	}
}

// follow reads a partition until ctx ends, a callback fails, or the span of a rewind is read.
func (d *laneDeps) follow(ctx context.Context, f broker.Follower) error {
	f.RecreationGrace = d.recreationGrace
	switch err := d.broker.Follow(ctx, f); {
	case errors.Is(err, errSpanEnd):
		return nil
	case errors.Is(err, broker.ErrTopicRecreated):
		return d.recreated(err, f.Topic)
	default:
		return err
	}
}

// recreated adds to an error the command that repairs a group after its topic was deleted and created again.
// The lane can't tell which offset it should go on from, so it waits for an operator.
func (d *laneDeps) recreated(err error, topic string) error {
	return fmt.Errorf("%w; if the topic was deleted and created again or has lost records, stop the "+
		"aggregators, run nowcast group reset --lane %s --topic %s --to earliest with their --kafka, and "+
		"start them: they begin at its first record", err, d.name, topic)
}

// deadLetterRecord is the value of a record of nowcast.dead-letter.v1. It names an unreadable record, which
// stays in its topic.
type deadLetterRecord struct {
	Lane      string `json:"lane"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
}

// deadLetter reports an unreadable record to the dead-letter topic and retries until that is acknowledged or
// ctx ends: only then may the position behind the record be committed. A crash can repeat a dead letter
// under the same key.
func (d *laneDeps) deadLetter(ctx context.Context, source string, partition int, offset int64,
	reason error) error {
	d.log.Error("a record can't be read and is left out",
		"topic", source, "partition", partition, "offset", offset, "error", reason)
	value, err := json.Marshal(deadLetterRecord{d.name, source, partition, offset, reason.Error()})
	if err != nil {
		return fmt.Errorf("write dead letter: %w", err)
	}
	key := fmt.Appendf(nil, "%s/%s/%d/%d", d.name, source, partition, offset)
	var backoff retry.Backoff
	for logged := (logEvery{}); ; {
		_, err := d.broker.ProduceKeyed(ctx, topic.DeadLetter, key, value)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if logged.due() {
			d.log.Warn("can't write dead letter, trying again", "error", err)
		}
		d.metrics.retries.WithLabelValues(topic.DeadLetter).Inc()
		d.broker.Refresh()
		_ = backoff.Wait(ctx) // ProduceKeyed fails once ctx has ended
	}
}

// logEvery limits a log message to one in five seconds.
type logEvery struct{ last time.Time }

// due reports whether the message is to be logged now.
func (l *logEvery) due() bool {
	now := time.Now()
	if now.Sub(l.last) < 5*time.Second {
		return false
	}
	l.last = now
	return true
}
