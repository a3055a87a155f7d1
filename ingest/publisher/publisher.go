// Package publisher puts events into the log by group commit. It collects the events of a partition in an
// envelope, sends one envelope at a time in order, and acknowledges all events of an envelope at once.
// While the log doesn't acknowledge, it writes envelopes to disk (package spool) and acknowledges them from
// there.
//
// Promises to the readers of the log, for each node and partition: the sequence has no gaps; timestamps
// don't run backwards; no event is later than its record, nor at or before a low watermark that was sent
// before; a record's timestamp is at most 250 ms after its first event; and while the node runs, a record
// comes at least every 250 ms, or every minute while it is idle (see Deps.Watched). A record whose outcome is
// unknown is sent again with the same bytes, and readers drop the duplicate by node and sequence.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

const (
	minRetryPause = 10 * time.Millisecond
	maxRetryPause = 200 * time.Millisecond
	stuckAfter    = 2 * time.Second // without an acknowledgement, until a partition counts as stuck
	stopTimeout   = 5 * time.Second // for envelopes that are left at a stop
)

// Why an event isn't taken, or isn't acknowledged. All of them mean: send it again later.
var (
	errQueueFull       = errors.New("too many events wait for the log")
	errStopping        = errors.New("this instance is stopping")
	errNotAcknowledged = errors.New("the log didn't acknowledge before this instance stopped")
)

// brokerClient is what a Publisher needs of broker.Client.
type brokerClient interface {
	eventLog
	clockLog
}

// eventLog takes records.
type eventLog interface {
	Produce(ctx context.Context, topic string, partition int, at time.Time, values ...[]byte) (int64, error)
	Refresh()
}

// Stamp sets the time of an event (ms since 1970, UTC) and what depends on it. visitor is the argument of
// Add.
type Stamp func(e *event.Event, visitor any, at int64) error

// Deps are the parts that a Publisher works with. It neither starts nor closes them.
type Deps struct {
	Broker  brokerClient
	Spool   *spool.Spool // nil: no event is acknowledged while the log is unavailable
	Log     *slog.Logger
	Metrics prometheus.Registerer

	// Watched reports whether anybody waits for the log's time to go on. A publisher that had no event for a
	// minute is idle while nobody does. Nil means always; it has to be nil where several nodes write one log,
	// because readers wait for each.
	Watched func() bool
}

// Publisher puts events into the log. It is safe for concurrent use.
type Publisher struct {
	events  eventLog
	spool   *spool.Spool // nil: none
	logger  *slog.Logger
	metrics *metrics
	stamp   Stamp
	node    uint64 // random for each Publisher; see event.Header
	seed    maphash.Seed
	clock   *clock
	writers []*partitionWriter

	watched  func() bool
	activeAt atomic.Int64 // ms, the last time that wasn't idle; exact to a second
}

// New wires a Publisher and starts nothing.
func New(stamp Stamp, deps Deps) (*Publisher, error) {
	m, err := newMetrics(deps.Metrics, deps.Spool)
	if err != nil {
		return nil, err
	}
	node := rand.Uint64() | 1
	p := &Publisher{
		events: deps.Broker, spool: deps.Spool, logger: deps.Log, metrics: m, stamp: stamp, node: node,
		seed: maphash.MakeSeed(), clock: newClock(deps.Broker, node, deps.Log),
		watched: deps.Watched,
	}
	p.activeAt.Store(time.Now().UnixMilli())
	return p, nil
}

// Open makes a writer for each partition. Call it once, before any Add and Run.
func (p *Publisher) Open(partitions int) {
	for i := range partitions {
		w := newPartitionWriter(p, i)
		p.writers = append(p.writers, w)
	}
}

// Add stamps an event and adds it to the current envelope of a partition. An error means that the event
// isn't taken.
func (p *Publisher) Add(partition int, e *event.Event, visitor any) (*Envelope, error) {
	return p.writers[partition].add(e, visitor)
}

// CountDropped tallies a beacon that is dropped for a reason; see event.Tally. A tally is sent with the
// next envelope of any partition and isn't waited for. It is lost if the process dies before, or if there
// is no room for it while the log doesn't acknowledge; the metric
// nowcast_ingest_untallied_beacons_total counts the latter.
func (p *Publisher) CountDropped(site, reason string) {
	w := p.writers[maphash.String(p.seed, site)%uint64(len(p.writers))]
	if !w.tallyDropped(site, reason) {
		p.metrics.untallied.Inc()
	}
}

// Wake ends an idle time at once: somebody is about to watch. It reports whether the publisher was idle.
func (p *Publisher) Wake() bool { return p.touch(time.Now().UnixMilli()) }

// touch notes an activity at a time in ms, and reports whether it ends an idle time.
func (p *Publisher) touch(at int64) bool {
	before := p.activeAt.Load()
	if at-before < time.Second.Milliseconds() {
		return false
	}
	p.activeAt.Store(at)
	if at-before < idleAfter.Milliseconds() {
		return false
	}
	for _, w := range p.writers {
		w.notify()
	}
	return true
}

// idle reports whether no event came for a minute and nobody watches. now is in ms.
func (p *Publisher) idle(now int64) bool {
	return p.watched != nil && now-p.activeAt.Load() >= idleAfter.Milliseconds() && !p.watched()
}

// Run sends envelopes until ctx ends. Then it refuses events, sends those that it has and a close marker
// for each partition, and returns after at most 5 s.
func (p *Publisher) Run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var writers, others sync.WaitGroup
	done := make(chan struct{})
	others.Go(func() {
		<-ctx.Done()
		select {
		case <-done:
		case <-time.After(stopTimeout):
			cancel()
		}
	})
	others.Go(func() { p.clock.run(ctx) })
	for _, w := range p.writers {
		writers.Go(func() { w.run(ctx, sending) })
	}
	if p.spool != nil {
		for _, q := range p.spool.Recovered() {
			writers.Go(func() { p.sendRecovered(ctx, q) })
		}
	}
	writers.Wait()
	close(done)
	others.Wait()
}

// Ready reports whether events can be acknowledged, by the log or by the disk. The reason tells what to
// do.
func (p *Publisher) Ready() (ok bool, reason string) {
	if reason := p.clock.behindReason(); reason != "" {
		return false, reason
	}
	for _, w := range p.writers {
		since, sendErr, spoolErr := w.stuck()
		if since > stuckAfter && errors.Is(sendErr, broker.ErrInvalidTimestamp) {
			return false, p.clock.aheadReason()
		}
		if spoolErr != nil { // reported even if the log has begun to acknowledge
			return false, fmt.Sprintf(
				"the events of partition %d can't be put on disk, where they have to wait for the log: %v",
				w.partition, spoolErr)
		}
		if since <= stuckAfter {
			continue
		}
		since = since.Round(time.Second)
		stuck := fmt.Sprintf("the log hasn't acknowledged partition %d for %s", w.partition, since)
		if p.spool == nil {
			return false, fmt.Sprintf("%s: %v", stuck, sendErr)
		}
		if full := p.spool.Full(); full != nil {
			return false, fmt.Sprintf("%s, and %v", stuck, full)
		}
	}
	return true, ""
}

// deliver sends an envelope until the log acknowledges it. It gives up when ctx ends, and on an envelope
// that no broker ever takes. It calls failed after each failed attempt.
func (p *Publisher) deliver(ctx context.Context, partition int, e *Envelope, failed func(error)) {
	backoff := retry.Backoff{Min: minRetryPause, Max: maxRetryPause}
	for {
		_, err := p.events.Produce(ctx, topic.Events, partition, time.UnixMilli(e.timestamp), e.data)
		if err == nil {
			p.metrics.observe(e.events)
			e.finish(nil)
			return
		}
		failed(err)
		refused := errors.Is(err, broker.ErrTooLarge) || errors.Is(err, broker.ErrInvalidRecord)
		if refused || ctx.Err() != nil {
			p.giveUp(partition, e, err, refused)
			return
		}
		p.metrics.retries.Inc()
		if backoff.First() {
			p.logger.Warn("the log didn't take an envelope, trying again until it does",
				"partition", partition, "events", e.events, "error", err)
		}
		if !errors.Is(err, broker.ErrNotEnoughReplicas) {
			p.events.Refresh()
		}
		_ = backoff.Wait(ctx)
	}
}

// giveUp finishes an envelope that the log refused for good, or that is not acknowledged at a stop. An
// envelope on disk is finished already: the next process sends it, or, if the log refused it, keepRefused
// keeps it aside. The events of others are lost, and weren't acknowledged.
func (p *Publisher) giveUp(partition int, e *Envelope, err error, refused bool) {
	if !refused {
		err = errNotAcknowledged
	}
	first := e.finish(err)
	if refused && !first && p.spool != nil {
		p.keepRefused(partition, e, err)
	} else if first && e.events > 0 {
		p.metrics.lost.Add(float64(e.events))
		p.logger.Error("events are lost: the log didn't take their envelope",
			"partition", partition, "events", e.events, "error", err)
	}
}

// sendRecovered sends what an earlier process left on disk, until the queue is empty or ctx ends.
func (p *Publisher) sendRecovered(ctx context.Context, q *spool.Queue) {
	var pacer replayPacer
	p.logger.Info("sending what an earlier process left on disk",
		"partition", q.Partition(), "envelopes", q.Len())
	for ctx.Err() == nil {
		head, ok := q.Head()
		if !ok {
			return
		}
		_ = retry.Sleep(ctx, pacer.wait(head.At))
		if p.deliver(ctx, q.Partition(), spooledEnvelope(head), func(error) {}); ctx.Err() == nil {
			q.Pop()
		}
	}
}
