package publisher

import (
	"context"
	"errors"
	"sync"
	"time"

	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
	"nowcast/internal/event"
)

// When an envelope is closed, and how much may wait.
const (
	closeAfter     = 200 * time.Millisecond // the first event; leaves 50 ms for a timer that is late
	tickInterval   = 250 * time.Millisecond // between two records of a partition without events
	idleInterval   = time.Minute            // the same, while the publisher is idle
	idleAfter      = time.Minute            // without an event, until a publisher that nobody watches is idle
	gatherInterval = 3 * time.Millisecond   // between two envelopes of several events
	maxEvents      = 500                    // in an envelope
	maxBytes       = 800_000                // of an envelope; one more event fits below a record's 900 KB
	maxQueue       = 64                     // closed envelopes of a partition
	maxQueuedBytes = 8 << 20                // of a partition
)

// partitionWriter writes one partition by group commit. It gives out times under its lock, and they never
// run backwards.
type partitionWriter struct {
	p         *Publisher
	partition int
	wake      chan struct{} // see notify

	mu          sync.Mutex
	lastTime    int64 // ms, the newest time that now returned
	closedAt    int64 // ms, when the newest envelope was closed
	gathering   bool  // the last envelope had several events: wait gatherInterval before the next
	sequence    uint64
	open        *Envelope   // takes events; nil if there are none
	queue       []*Envelope // closed ones in order; the first may be in flight
	queuedBytes int         // in open and queue
	tallies     tallies     // of beacons since the newest envelope was closed
	stopping    bool

	inFlightSince   time.Time // first attempt to send the envelope in flight; zero if there is none
	sendErr         error     // of its newest attempt
	inFlightSpooled bool      // it is on disk
	spooling        bool      // closed envelopes go to disk, and from there to the log
	spoolErr        error     // of the last write to disk; nil after a success or when not spooling

	spool *spool.Queue // nil: none
	pacer replayPacer
}

func newPartitionWriter(p *Publisher, partition int) *partitionWriter {
	w := &partitionWriter{
		p: p, partition: partition, lastTime: time.Now().UnixMilli(), wake: make(chan struct{}, 1),
	}
	if p.spool != nil {
		w.spool = p.spool.Queue(p.node, partition)
	}
	return w
}

// now returns the wall clock in ms. When that steps back, now stays at the newest time. It does so for
// seconds at most: the brokers refuse timestamps that are further ahead, so no earlier time was.
func (w *partitionWriter) now() int64 {
	w.lastTime = max(w.lastTime, time.Now().UnixMilli())
	return w.lastTime
}

func (w *partitionWriter) add(e *event.Event, visitor any) (*Envelope, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopping:
		return nil, errStopping
	case w.full():
		return nil, errQueueFull
	case w.spooling:
		if err := w.p.spool.Full(); err != nil {
			return nil, err
		}
	}
	at := w.now()
	w.p.touch(at)
	if err := w.p.stamp(e, visitor, at); err != nil {
		return nil, err
	}
	env := w.open
	if env == nil {
		env = w.newEnvelope(at, false)
		w.open = env
	}
	before := len(env.data)
	env.data = event.AppendEvent(env.data, e)
	w.queuedBytes += len(env.data) - before
	env.events++
	w.tallies.add(e.Site, at, "")
	if env.events >= maxEvents || len(env.data) >= maxBytes || w.tallies.full() {
		w.closeOpen()
	}
	if env.events == 1 || w.open == nil {
		w.notify()
	}
	return env, nil
}

func (w *partitionWriter) full() bool {
	return len(w.queue) >= maxQueue || w.queuedBytes >= maxQueuedBytes
}

// notify wakes run.
func (w *partitionWriter) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// newEnvelope starts an envelope with the low watermark at-1: no later event has an earlier time than at.
func (w *partitionWriter) newEnvelope(at int64, closeMarker bool) *Envelope {
	w.sequence++
	e := &Envelope{openedAt: at, done: make(chan struct{})}
	e.data = event.AppendHeader(make([]byte, 0, 1024), event.Header{
		Version: event.Version, Node: w.p.node, Sequence: w.sequence, Low: at - 1, CloseMarker: closeMarker,
	})
	w.queuedBytes += len(e.data)
	return e
}

func (w *partitionWriter) closeOpen() {
	w.enqueue(w.open)
	w.open = nil
}

// enqueue closes an envelope: it gets the tallies and its timestamp.
func (w *partitionWriter) enqueue(e *Envelope) {
	before := len(e.data)
	e.data = w.tallies.flush(e.data)
	w.queuedBytes += len(e.data) - before
	e.timestamp = w.now()
	w.closedAt = e.timestamp
	w.queue = append(w.queue, e)
}

// run sends envelopes one by one until ctx ends and all are sent, or sending ends. While one is in flight
// the next one fills, so envelopes grow with the load. An idle partition sends an event at once. Where
// several events came together, the next ones are gathered for gatherInterval: for sender and brokers, an
// envelope costs as much as twenty events.
func (w *partitionWriter) run(ctx, sending context.Context) {
	sending, cancelSend := context.WithCancel(sending)
	send, sent := make(chan *Envelope), make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for e := range send {
			w.p.deliver(sending, w.partition, e, w.setSendErr)
			sent <- struct{}{}
		}
	})
	timer := time.NewTimer(time.Hour) // set below
	defer timer.Stop()
	stopping := ctx.Done()
	inFlight := false // an envelope is being sent
	for {
		spoolPause := w.spoolQueue(inFlight)
		e, pause, done := w.next(inFlight)
		if done {
			break
		}
		if e != nil {
			send <- e
			inFlight = true
			continue
		}
		timer.Reset(min(spoolPause, pause))
		select {
		case <-w.wake:
		case <-timer.C:
		case <-sent:
			w.removeSent(sending)
			inFlight = false
		case <-stopping:
			w.stop()
			stopping = nil
		}
	}
	cancelSend() // an envelope that is still in flight is on disk
	if inFlight {
		<-sent
	}
	close(send)
	sender.Wait()
}

// next closes the open envelope if it is due. inFlight tells that an envelope is being sent. next returns
// the envelope to send now, or else how long there is nothing to do. done is true when all envelopes are
// sent after stop.
func (w *partitionWriter) next(inFlight bool) (e *Envelope, pause time.Duration, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spooling {
		return w.nextSpooled(inFlight)
	}
	idle := !inFlight && len(w.queue) == 0
	now := w.now()
	if w.open != nil {
		gatherPause := time.Duration(0)
		if idle && w.gathering && !w.stopping {
			gatherPause = remaining(now, w.closedAt, gatherInterval)
		}
		if pause = remaining(now, w.open.openedAt, closeAfter); idle && gatherPause <= 0 || pause <= 0 {
			w.closeOpen()
		} else if idle {
			return nil, gatherPause, false
		}
	} else if idle && !w.stopping && w.untilTick(now) <= 0 {
		w.enqueue(w.newEnvelope(now, false))
	}
	switch {
	case !inFlight && len(w.queue) > 0:
		w.inFlightSince, w.sendErr, w.gathering = time.Now(), nil, w.queue[0].events > 1
		return w.queue[0], 0, false
	case w.stopping && idle:
		return nil, 0, true
	case w.open != nil:
		return nil, remaining(now, w.open.openedAt, closeAfter), false
	case idle:
		return nil, w.untilTick(now), false
	}
	return nil, time.Hour, false
}

// untilTick is how long a partition without events may still send nothing. All partitions of an idle
// publisher tick together, so that the processes wake once for all.
func (w *partitionWriter) untilTick(now int64) time.Duration {
	if !w.p.idle(now) {
		return remaining(now, w.closedAt, tickInterval)
	}
	interval := idleInterval.Milliseconds()
	return remaining(now, w.closedAt-w.closedAt%interval, idleInterval)
}

// remaining is the part of d that isn't over at now, d being counted from a time; both times in ms.
func remaining(now, from int64, d time.Duration) time.Duration {
	return d - time.Duration(now-from)*time.Millisecond
}

// removeSent removes the envelope that was in flight, unless deliver gave it up at a stop.
func (w *partitionWriter) removeSent(sending context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlightSince = time.Time{}
	switch {
	case !w.inFlightSpooled:
		w.dequeue(1)
	case sending.Err() == nil:
		w.spool.Pop()
	}
	w.inFlightSpooled = false
	if w.spooling && w.spool.Len() == 0 {
		w.spooling, w.spoolErr = false, nil // the log is back and has all
	}
}

func (w *partitionWriter) dequeue(n int) {
	for _, e := range w.queue[:n] {
		w.queuedBytes -= len(e.data)
	}
	clear(w.queue[:n])
	w.queue = w.queue[n:]
}

// stop refuses further events and adds the close marker.
func (w *partitionWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	if w.open != nil {
		w.closeOpen()
	}
	w.enqueue(w.newEnvelope(w.now(), true))
}

// stuck returns how long the envelope in flight is without an acknowledgement and the newest errors of
// log and disk.
func (w *partitionWriter) stuck() (since time.Duration, sendErr, spoolErr error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.inFlightSince.IsZero() {
		since = time.Since(w.inFlightSince)
	}
	return since, w.sendErr, w.spoolErr
}

func (w *partitionWriter) setSendErr(err error) {
	if errors.Is(err, broker.ErrInvalidTimestamp) {
		w.p.clock.notifyRefused()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sendErr = err
}

// tallyDropped counts a dropped beacon as received and as dropped. It returns false if there is no room.
func (w *partitionWriter) tallyDropped(site, reason string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping || w.tallies.full() && !w.makeRoom() {
		return false
	}
	now := w.now()
	w.p.touch(now)
	w.tallies.add(site, now, "")
	w.tallies.add(site, now, reason)
	return true
}

// makeRoom closes the envelope that takes the tallies.
func (w *partitionWriter) makeRoom() bool {
	if w.full() {
		return false
	}
	if w.open == nil {
		w.open = w.newEnvelope(w.now(), false)
	}
	w.closeOpen()
	w.notify()
	return true
}
