package ingest

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

	"nowcast/internal/broker"

	"nowcast/ingest/spool"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// How envelopes are closed and how much may wait. An envelope's record timestamp is at most 250 ms after its first event and a
// partition is never silent for longer; closeAfter leaves room for a late timer.
const (
	closeAfter  = 200 * time.Millisecond
	tickEvery   = 250 * time.Millisecond
	gatherFor   = 3 * time.Millisecond // between two envelopes of a partition that has many events
	fullEvents  = 500
	fullBytes   = 800_000 // with the largest event on top it stays below the 900 KB of a record
	maxQueue    = 64      // closed envelopes of a partition
	maxWaiting  = 8 << 20 // bytes of a partition
	firstRetry  = 10 * time.Millisecond
	slowRetry   = 200 * time.Millisecond
	stuckAfter  = 2 * time.Second
	drainWithin = 5 * time.Second
)

// Why an event can't be taken or wasn't acknowledged. All of them mean: send it again later.
var (
	errFull     = errors.New("too many events wait for the log")
	errStarting = errors.New("this instance is starting")
	errStopping = errors.New("this instance is stopping")
	errNoSalt   = errors.New("the salt of today isn't known yet")
	errLost     = errors.New("the log didn't acknowledge before this instance stopped")
)

// eventLog is where envelopes go.
type eventLog interface {
	Produce(ctx context.Context, topic string, partition int, at time.Time, values ...[]byte) (base int64, err error)
	Refresh()
}

// draft is an event before it has a time, and what its visitor's id is made of.
type draft struct {
	event.Event
	who []byte
}

// publisher puts events into envelopes by partition and envelopes into the log, in order, each until it is acknowledged.
type publisher struct {
	log   eventLog
	slog  *slog.Logger
	meter *meter
	stamp func(d *draft, at int64) error // sets the time and what depends on it
	spool *spool.Spool                   // nil: an outage of the log is one of ours
	node  uint64                         // tells readers this start of this process from all others
	seed  maphash.Seed                   // spreads what has no visitor
	lanes []*lane

	suspected chan struct{} // the log refused a timestamp
	ahead     atomic.Int64  // ns by which this machine's clock was ahead when that was looked at; 0: not known
}

func newPublisher(log eventLog, disk *spool.Spool, logger *slog.Logger, m *meter, stamp func(*draft, int64) error) *publisher {
	return &publisher{log: log, spool: disk, slog: logger, meter: m, stamp: stamp, node: rand.Uint64() | 1, seed: maphash.MakeSeed(), suspected: make(chan struct{}, 1)}
}

// open makes the lanes, one a partition.
func (p *publisher) open(partitions int) {
	for i := range partitions {
		l := &lane{p: p, id: i, last: time.Now().UnixMilli(), wake: make(chan struct{}, 1)}
		if p.spool != nil {
			l.spool = p.spool.Queue(p.node, i)
		}
		p.lanes = append(p.lanes, l)
	}
}

// add takes an event for a partition. The envelope's done is closed when the log has acknowledged it or never will.
func (p *publisher) add(partition int, d *draft) (*envelope, error) {
	return p.lanes[partition].add(d)
}

// run publishes until ctx ends, then sends what is there and says farewell, for at most drainWithin.
func (p *publisher) run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var lanes, patience sync.WaitGroup
	sent := make(chan struct{})
	patience.Go(func() {
		<-ctx.Done()
		select {
		case <-sent:
		case <-time.After(drainWithin):
			cancel()
		}
	})
	for _, l := range p.lanes {
		lanes.Go(func() { l.run(ctx, sending) })
	}
	if p.spool != nil {
		for _, q := range p.spool.Left() {
			lanes.Go(func() { p.adopt(ctx, q) })
		}
	}
	lanes.Wait()
	close(sent)
	patience.Wait()
}

// ready gives the first partition that can't be acknowledged, neither by the log nor by the disk.
func (p *publisher) ready() (bool, string) {
	for _, l := range p.lanes {
		since, err, unkept := l.stuck()
		if since > stuckAfter && errors.Is(err, broker.ErrInvalidTimestamp) {
			return false, p.tooFast()
		}
		if unkept != nil { // also while the log is back and takes what is on disk
			return false, fmt.Sprintf("the events of partition %d can't be put on disk, where they have to wait for the log: %v", l.id, unkept)
		}
		if since <= stuckAfter {
			continue
		}
		if p.spool == nil {
			return false, fmt.Sprintf("the log hasn't acknowledged partition %d for %s: %v", l.id, since.Round(time.Second), err)
		}
		if full := p.spool.Full(); full != nil {
			return false, fmt.Sprintf("the log hasn't acknowledged partition %d for %s, and %v", l.id, since.Round(time.Second), full)
		}
	}
	return true, ""
}

// suspect asks for a look at the clock: the log refused its time.
func (p *publisher) suspect() {
	select {
	case p.suspected <- struct{}{}:
	default:
	}
}

// tooFast says what it means that the log refuses this machine's time.
func (p *publisher) tooFast() string {
	if ahead := time.Duration(p.ahead.Load()); ahead > 0 {
		return fmt.Sprintf("this machine's clock is %.1f s ahead of the log's newest timestamp, and the brokers refuse more than 5 s: set it right (NTP)", ahead.Seconds())
	}
	return "this machine's clock is ahead of the brokers' by more than 5 s: set it right (NTP)"
}

// deliver sends the same bytes until they are acknowledged. Readers know a repeat by node and sequence, so a try whose outcome is
// unknown does no harm. It gives up when ctx ends, and on a record that no broker will ever take.
func (p *publisher) deliver(ctx context.Context, partition int, e *envelope, failed func(error)) {
	for pause := firstRetry; ; pause = min(2*pause, slowRetry) {
		_, err := p.log.Produce(ctx, topic.Events, partition, time.UnixMilli(e.at), e.data)
		if err == nil {
			p.meter.envelope(e.events)
			e.finish(nil)
			return
		}
		failed(err)
		refused := errors.Is(err, broker.ErrTooLarge) || errors.Is(err, broker.ErrInvalidRecord)
		if refused || ctx.Err() != nil {
			if !refused {
				err = errLost
			}
			if (e.finish(err) || refused) && e.events > 0 { // else it is on disk
				p.meter.lost.Add(float64(e.events))
				p.slog.Error("events are lost: the log didn't take their envelope", "partition", partition, "events", e.events, "error", err)
			}
			return
		}
		p.meter.retries.Inc()
		if pause == firstRetry {
			p.slog.Warn("the log didn't take an envelope, trying again until it does", "partition", partition, "events", e.events, "error", err)
		}
		if !errors.Is(err, broker.ErrNotEnoughReplicas) {
			p.log.Refresh()
		}
		wait(ctx, pause)
	}
}
