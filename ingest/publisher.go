package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"nowcast/internal/event"
)

// How envelopes are closed and how much may wait. An envelope's record timestamp is at most 250 ms after its first event and a
// partition is never silent for longer; closeAfter leaves room for a late timer.
const (
	closeAfter  = 200 * time.Millisecond
	tickEvery   = 250 * time.Millisecond
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
	node  uint64                         // tells readers this start of this process from all others
	lanes []*lane
}

func newPublisher(log eventLog, logger *slog.Logger, m *meter, stamp func(*draft, int64) error) *publisher {
	return &publisher{log: log, slog: logger, meter: m, stamp: stamp, node: rand.Uint64() | 1}
}

// open makes the lanes, one a partition.
func (p *publisher) open(partitions int) {
	for i := range partitions {
		p.lanes = append(p.lanes, &lane{p: p, id: i, last: time.Now().UnixMilli(), wake: make(chan struct{}, 1)})
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
	lanes.Wait()
	close(sent)
	patience.Wait()
}

// ready gives the first partition that has waited for the log for too long.
func (p *publisher) ready() (bool, string) {
	for _, l := range p.lanes {
		if since, err := l.stuck(); since > stuckAfter {
			return false, fmt.Sprintf("the log hasn't acknowledged partition %d for %s: %v", l.id, since.Round(time.Second), err)
		}
	}
	return true, ""
}
