package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"nowcast/internal/broker"

	"nowcast/ingest/spool"
	"nowcast/internal/event"
)

// envelope is one record of the log on its way there.
type envelope struct {
	data   []byte
	events int
	opened int64 // ms: of its first event
	at     int64 // ms: the record's timestamp, once it is closed
	once   sync.Once
	done   chan struct{}
	err    error // why it will never be acknowledged; to be read after done
}

// finish tells those who wait that the envelope is safe, or, with an error, that it never will be. Only the first call counts; it is told so.
func (e *envelope) finish(err error) (first bool) {
	e.once.Do(func() {
		e.err, first = err, true
		close(e.done)
	})
	return first
}

// lane is one partition. Under its lock time never runs backwards: events, closings and promises are stamped there, so no event
// is later than its record, or earlier than a low watermark that has been promised.
type lane struct {
	p    *publisher
	id   int
	wake chan struct{}

	mu       sync.Mutex
	last     int64 // the newest time given away
	closed   int64 // when the newest envelope was closed
	crowd    bool  // the newest one sent had several events
	sequence uint64
	open     *envelope   // takes events
	queue    []*envelope // closed ones in order; the first may be in flight
	waiting  int         // bytes in open and queue
	tallies  tallies     // of beacons since the newest envelope was closed
	stopping bool
	since    time.Time // when the one in flight was first sent; zero when none is
	failure  error     // of its newest try
	spooling bool      // the log is away: what is closed goes to disk, and from there to the log
	unkept   error     // why the newest write to disk failed; nil when it didn't, or none is needed
	onDisk   bool      // the one in flight is

	spool *spool.Queue // nil: there is no disk for it
	pace  pace
}

// now is the wall clock, held where it steps back: by seconds at most, since the broker refuses a clock that is further ahead.
func (l *lane) now() int64 {
	l.last = max(l.last, time.Now().UnixMilli())
	return l.last
}

func (l *lane) add(d *draft) (*envelope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return nil, errStopping
	case len(l.queue) >= maxQueue || l.waiting >= maxWaiting:
		return nil, errFull
	case l.spooling:
		if err := l.p.spool.Full(); err != nil {
			return nil, err
		}
	}
	at := l.now()
	if err := l.p.stamp(d, at); err != nil {
		return nil, err
	}
	e := l.open
	if e == nil {
		e = l.begin(at, false)
		l.open = e
	}
	before := len(e.data)
	e.data = event.AppendEvent(e.data, &d.Event)
	l.waiting += len(e.data) - before
	e.events++
	l.tallies.add(d.Site, at, "")
	if e.events >= fullEvents || len(e.data) >= fullBytes || l.tallies.full() {
		l.closeOpen()
	}
	if e.events == 1 || l.open == nil {
		l.rouse()
	}
	return e, nil
}

func (l *lane) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// begin starts an envelope: nothing in it or after it will be earlier than at.
func (l *lane) begin(at int64, farewell bool) *envelope {
	l.sequence++
	e := &envelope{opened: at, done: make(chan struct{})}
	e.data = event.AppendHeader(make([]byte, 0, 1024), event.Header{Version: event.Version, Node: l.p.node, Sequence: l.sequence, Low: at - 1, CloseMarker: farewell})
	l.waiting += len(e.data)
	return e
}

func (l *lane) closeOpen() {
	l.push(l.open)
	l.open = nil
}

func (l *lane) push(e *envelope) {
	before := len(e.data)
	e.data = l.tallies.flush(e.data)
	l.waiting += len(e.data) - before
	e.at = l.now()
	l.closed = e.at
	l.queue = append(l.queue, e)
}

// run decides when envelopes are closed, and hands them one by one to a goroutine that sends. The next one fills meanwhile: the
// busier the partition, the larger its envelopes. One that is idle sends at once; but where several events came together the next
// ones are gathered for a moment, since to us and to the brokers an envelope costs as much as twenty events. While the log is away it puts them on disk.
func (l *lane) run(ctx, sending context.Context) {
	sending, give := context.WithCancel(sending)
	send, sent := make(chan *envelope), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range send {
			l.p.deliver(sending, l.id, e, l.fail)
			sent <- struct{}{}
		}
	})
	timer := time.NewTimer(time.Hour) // until it is set
	defer timer.Stop()
	stopping, busy := ctx.Done(), false
	for {
		wait := l.keep(busy)
		e, pause, over := l.next(busy)
		if over {
			break
		}
		if e != nil {
			send <- e
			busy = true
			continue
		}
		timer.Reset(min(wait, pause))
		select {
		case <-l.wake:
		case <-timer.C:
		case <-sent:
			l.shift(sending)
			busy = false
		case <-stopping:
			l.stop()
			stopping = nil
		}
	}
	give() // one that is in flight still is on disk
	if busy {
		<-sent
	}
	close(send)
	wg.Wait()
}

// next returns the envelope to send now, or how long nothing need be done, or that all is done.
func (l *lane) next(busy bool) (e *envelope, pause time.Duration, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spooling {
		return l.nextOnDisk(busy)
	}
	idle := !busy && len(l.queue) == 0
	now := l.now()
	if l.open != nil {
		gather := time.Duration(0)
		if idle && l.crowd && !l.stopping {
			gather = since(now, l.closed, gatherFor)
		}
		if pause = since(now, l.open.opened, closeAfter); idle && gather <= 0 || pause <= 0 {
			l.closeOpen()
		} else if idle {
			return nil, gather, false
		}
	} else if idle && !l.stopping && since(now, l.closed, tickEvery) <= 0 {
		l.push(l.begin(now, false))
	}
	switch {
	case !busy && len(l.queue) > 0:
		l.since, l.failure, l.crowd = time.Now(), nil, l.queue[0].events > 1
		return l.queue[0], 0, false
	case l.stopping && idle:
		return nil, 0, true
	case l.open != nil:
		return nil, since(now, l.open.opened, closeAfter), false
	case idle:
		return nil, since(now, l.closed, tickEvery), false
	}
	return nil, time.Hour, false
}

// since is what is left of d, d being counted from a time.
func since(now, from int64, d time.Duration) time.Duration {
	return d - time.Duration(now-from)*time.Millisecond
}

// shift takes the envelope that was sent off the queue, unless it was given up.
func (l *lane) shift(sending context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Time{}
	switch {
	case !l.onDisk:
		l.drop(1)
	case sending.Err() == nil:
		l.spool.Shift()
	}
	l.onDisk = false
	if l.spooling && l.spool.Len() == 0 {
		l.spooling, l.unkept = false, nil // the log is back, and has all
	}
}

// drop takes envelopes off the queue.
func (l *lane) drop(n int) {
	for _, e := range l.queue[:n] {
		l.waiting -= len(e.data)
	}
	clear(l.queue[:n])
	l.queue = l.queue[n:]
}

// stop refuses further events and puts the farewell behind what is there.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	if l.open != nil {
		l.closeOpen()
	}
	l.push(l.begin(l.now(), true))
}

// stuck is how long the envelope in flight has waited, and why, and why what waits behind it isn't on disk.
func (l *lane) stuck() (since time.Duration, failure, unkept error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.since.IsZero() {
		since = time.Since(l.since)
	}
	return since, l.failure, l.unkept
}

// fail keeps why the newest try failed.
func (l *lane) fail(err error) {
	if errors.Is(err, broker.ErrInvalidTimestamp) {
		l.p.suspect()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

// wait pauses for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
