package publisher

import (
	"sync"

	"nowcast/ingest/publisher/spool"
)

// Envelope is one record of the log, with the events that are acknowledged together.
type Envelope struct {
	data      []byte
	events    int
	openedAt  int64 // ms, time of the first event
	timestamp int64 // ms, of the record; set when the envelope is closed
	once      sync.Once
	done      chan struct{}
	err       error // set before done is closed
}

// Done is closed when the envelope is acknowledged, or never will be: see Err.
func (e *Envelope) Done() <-chan struct{} { return e.done }

// Err is nil if the envelope is in the log or on disk, else the reason why it will never be. Call it
// after Done.
func (e *Envelope) Err() error { return e.err }

// finish closes Done. Only the first call counts; it returns true.
func (e *Envelope) finish(err error) (first bool) {
	e.once.Do(func() {
		e.err, first = err, true
		close(e.done)
	})
	return first
}

// spooledEnvelope returns an envelope that is on disk, and so acknowledged.
func spooledEnvelope(e spool.Envelope) *Envelope {
	out := &Envelope{data: e.Data, events: e.Events, timestamp: e.At, done: make(chan struct{})}
	out.finish(nil)
	return out
}
