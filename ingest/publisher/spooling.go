package publisher

import (
	"time"

	"nowcast/ingest/publisher/spool"
)

// While the log doesn't acknowledge, a partition writer writes to disk. Once an envelope isn't
// acknowledged for stuckAfter, all envelopes that wait go to disk, and so do later ones, with one sync
// every spoolInterval. They keep node, sequence and timestamp. The writer keeps retrying the envelope in
// flight. When the log takes it, the others follow in order, at most maxReplaySpeed times as fast as they
// were written: else several nodes that were cut off together would make each other's events late.
const (
	spoolInterval  = 50 * time.Millisecond
	spoolTick      = time.Second            // between two envelopes on disk of an idle partition
	spoolRetry     = 200 * time.Millisecond // after a write to disk that failed
	maxReplaySpeed = 4
	earlyAfter     = stuckAfter / 4 // without an acknowledgement, when earlyQueue envelopes wait
	earlyQueue     = maxQueue / 2
	nothingToSpool = time.Hour
)

// spoolQueue writes closed envelopes to disk while the log is unavailable, and acknowledges them. It
// returns how long it has nothing to do.
func (w *partitionWriter) spoolQueue(inFlight bool) time.Duration {
	batch, pause := w.spoolBatch(inFlight)
	if len(batch) == 0 {
		return pause
	}
	envelopes, events := make([]spool.Envelope, len(batch)), 0
	for i, e := range batch {
		envelopes[i] = spool.Envelope{At: e.timestamp, Events: e.events, Data: e.data}
		events += e.events
	}
	err := w.spool.Append(envelopes)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil { // the envelopes stay in the queue; the log may be back before the disk is
		w.spoolErr = err
		return spoolRetry
	}
	w.spoolErr = nil
	w.p.metrics.spooled.Add(float64(events))
	for _, e := range batch {
		e.finish(nil)
	}
	w.inFlightSpooled = w.inFlightSpooled || inFlight
	w.dequeue(len(batch))
	return pause
}

// spoolBatch starts spooling if the log is unavailable, and closes the open envelope if it is due. It
// returns the envelopes to write, and how long there is nothing to do after that.
func (w *partitionWriter) spoolBatch(inFlight bool) (batch []*Envelope, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.spooling && !w.logUnavailable(inFlight) {
		if inFlight && w.spool != nil {
			return nil, max(0, stuckAfter-time.Since(w.inFlightSince))
		}
		return nil, nothingToSpool
	}
	if !w.spooling {
		w.spooling, w.pacer = true, replayPacer{}
		w.p.logger.Warn("the log doesn't acknowledge: events go to disk until it does",
			"partition", w.partition, "error", w.sendErr)
	}
	now := w.now()
	if w.open != nil && (w.stopping || remaining(now, w.open.openedAt, spoolInterval) <= 0) {
		w.closeOpen()
	} else if w.open == nil && !w.stopping && remaining(now, w.closedAt, spoolTick) <= 0 {
		w.enqueue(w.newEnvelope(now, false))
	}
	pause = remaining(now, w.closedAt, spoolTick)
	if w.open != nil {
		pause = remaining(now, w.open.openedAt, spoolInterval)
	}
	return w.queue, pause
}

// logUnavailable reports whether the log hasn't acknowledged for stuckAfter, or for earlyAfter while
// the queue fills.
func (w *partitionWriter) logUnavailable(inFlight bool) bool {
	silent := time.Since(w.inFlightSince)
	filling := silent >= earlyAfter && len(w.queue) >= earlyQueue
	return inFlight && w.spool != nil && (silent >= stuckAfter || filling)
}

// nextSpooled does the work of next while the writer spools: it returns the oldest envelope on disk, or how
// long to wait for it. After stop, done is true once all envelopes are on disk; the next process with this
// directory sends them.
func (w *partitionWriter) nextSpooled(inFlight bool) (e *Envelope, pause time.Duration, done bool) {
	if w.stopping && w.open == nil && len(w.queue) == 0 {
		return nil, 0, true
	}
	if inFlight {
		return nil, time.Hour, false
	}
	head, ok := w.spool.Head()
	if !ok { // nothing could be written to disk, or what was can't be read back
		w.spooling, w.spoolErr = false, nil
		return nil, 0, false
	}
	if pause := w.pacer.wait(head.At); pause > 0 {
		return nil, pause, false
	}
	w.inFlightSince, w.sendErr, w.inFlightSpooled = time.Now(), nil, true
	return spooledEnvelope(head), 0, false
}

// replayPacer limits how fast spooled envelopes are sent: at most maxReplaySpeed times the pace at which
// they were written. The zero value is ready.
type replayPacer struct {
	startedAt time.Time
	first     int64 // ms, timestamp of the first envelope
}

// wait returns how long the envelope of a timestamp has to wait. The first call starts the pacer.
func (p *replayPacer) wait(timestamp int64) time.Duration {
	if p.startedAt.IsZero() {
		p.startedAt, p.first = time.Now(), timestamp
	}
	return time.Duration(timestamp-p.first)*time.Millisecond/maxReplaySpeed - time.Since(p.startedAt)
}
