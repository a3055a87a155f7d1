package ingest

import (
	"context"
	"time"

	"nowcast/ingest/spool"
)

// How a lane lives without the log. Once an envelope isn't acknowledged for stuckAfter, all that waits goes to disk and what comes follows it, in
// one sync every spoolEvery. The envelopes keep their node, sequence and timestamp; the first of them is tried all the while. When it is taken, the
// others follow in their order, no faster than time passed: several nodes that were cut off together would else leave each other's events late.
const (
	spoolEvery  = 50 * time.Millisecond
	spoolTick   = time.Second
	spoolRetry  = 200 * time.Millisecond // after a write to disk that failed
	drainFactor = 4                      // times real time
)

// keep puts on disk what is closed while the log is away, and with that acknowledges it. It returns how long it has nothing to do.
func (l *lane) keep(busy bool) time.Duration {
	l.mu.Lock()
	if !l.spooling && !l.away(busy) {
		wait := time.Hour
		if busy && l.spool != nil {
			wait = max(0, stuckAfter-time.Since(l.since))
		}
		l.mu.Unlock()
		return wait
	}
	if !l.spooling {
		l.spooling, l.pace = true, pace{}
		l.p.slog.Warn("the log doesn't acknowledge: events go to disk until it does", "partition", l.id, "error", l.failure)
	}
	now := l.now()
	if l.open != nil && (l.stopping || since(now, l.open.opened, spoolEvery) <= 0) {
		l.closeOpen()
	} else if l.open == nil && !l.stopping && since(now, l.closed, spoolTick) <= 0 {
		l.push(l.begin(now, false))
	}
	batch := l.queue
	wait := since(now, l.closed, spoolTick)
	if l.open != nil {
		wait = since(now, l.open.opened, spoolEvery)
	}
	l.mu.Unlock()
	if len(batch) == 0 {
		return wait
	}
	envelopes, events := make([]spool.Envelope, len(batch)), 0
	for i, e := range batch {
		envelopes[i] = spool.Envelope{At: e.at, Events: e.events, Data: e.data}
		events += e.events
	}
	err := l.spool.Append(envelopes)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil { // nobody was told that they are safe, and the log may be back before the disk is
		l.unkept = err
		return spoolRetry
	}
	l.unkept = nil
	l.p.meter.spooled.Add(float64(events))
	for _, e := range batch {
		e.finish(nil)
	}
	l.onDisk = l.onDisk || busy
	l.drop(len(batch))
	return wait
}

// away says that the log has been silent for too long, or for a moment while so much came that memory ends.
func (l *lane) away(busy bool) bool {
	silent := time.Since(l.since)
	return busy && l.spool != nil && (silent >= stuckAfter || silent >= stuckAfter/4 && len(l.queue) >= maxQueue/2)
}

// nextOnDisk is next while the log is away or has a backlog on disk.
func (l *lane) nextOnDisk(busy bool) (e *envelope, pause time.Duration, over bool) {
	if l.stopping && l.open == nil && len(l.queue) == 0 {
		return nil, 0, true // whoever starts next on this disk sends the rest
	}
	if busy {
		return nil, time.Hour, false
	}
	head, ok := l.spool.Head()
	if !ok { // what couldn't be written to disk, or read from it
		l.spooling, l.unkept = false, nil
		return nil, 0, false
	}
	if wait := l.pace.wait(head.At); wait > 0 {
		return nil, wait, false
	}
	l.since, l.failure, l.onDisk = time.Now(), nil, true
	return onDisk(head), 0, false
}

// onDisk makes an envelope of what the spool has. Nobody waits for it.
func onDisk(e spool.Envelope) *envelope {
	out := &envelope{data: e.Data, events: e.Events, at: e.At, done: make(chan struct{})}
	out.finish(nil)
	return out
}

// pace lets envelopes go no faster than drainFactor times as fast as they came.
type pace struct {
	began time.Time
	from  int64 // ms
}

// wait is how long it is until the envelope of that time may go. The first one asked for begins.
func (p *pace) wait(at int64) time.Duration {
	if p.began.IsZero() {
		p.began, p.from = time.Now(), at
	}
	return time.Duration(at-p.from)*time.Millisecond/drainFactor - time.Since(p.began)
}

// adopt sends what an earlier process has left on disk, until all of it is in the log or ctx ends.
func (p *publisher) adopt(ctx context.Context, q *spool.Queue) {
	var pace pace
	p.slog.Info("sending what an earlier process left on disk", "partition", q.Partition(), "envelopes", q.Len())
	for ctx.Err() == nil {
		head, ok := q.Head()
		if !ok {
			return
		}
		wait(ctx, pace.wait(head.At))
		if p.deliver(ctx, q.Partition(), onDisk(head), func(error) {}); ctx.Err() == nil {
			q.Shift()
		}
	}
}
