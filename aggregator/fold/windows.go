package fold

import (
	"nowcast/internal/event"
	"nowcast/internal/window"
)

// Envelope is one record of the log, decoded.
type Envelope struct {
	Offset int64
	Time   int64 // the record's timestamp, ms
	Header event.Header
	Events []event.Event

	Tallies []event.Tally // nothing of these is folded
}

// Outcome says what became of an envelope's events.
type Outcome struct {
	Retried                        bool
	Counted, Late, Stale, Repeated int
}

// Add counts an event of class c.
func (o *Outcome) Add(c Class) {
	switch c {
	case Counted:
		o.Counted++
	case Late:
		o.Late++
	case Stale:
		o.Stale++
	case Repeated:
		o.Repeated++
	}
}

// Windows is the whole of the windows lane that is pure: Reader and Fold in their order.
type Windows struct {
	Reader *Reader
	Fold   *Fold
}

// NewWindows is at the log's start.
func NewWindows(rules Rules) Windows { return Windows{NewReader(rules), New(rules)} }

// Apply takes the next envelope of the log and gives the rows that it made final, valid until the next call. It clamps the times of e's
// events.
func (w Windows) Apply(e *Envelope) ([]window.Second, Outcome) {
	if !w.Reader.Begin(e.Header, e.Time) {
		return nil, Outcome{Retried: true}
	}
	w.Fold.Advance(w.Reader.Watermark(), e.Offset)
	w.Reader.Ahead(e.Events)
	w.Fold.Ahead(e.Events)
	var o Outcome
	for i := range e.Events {
		class := w.Reader.Judge(&e.Events[i])
		if class == Counted {
			w.Fold.Add(i)
		}
		o.Add(class)
	}
	w.Reader.End()
	w.Fold.Advance(w.Reader.Watermark(), e.Offset)
	return w.Fold.End(e.Offset, w.Reader.Now()), o
}

// Warm is Apply for what is read in silence before a position at which the watermark was w. Of the first part of that, only the ids can still matter:
// who is active at w was seen in the last Active seconds, and where they came from hangs on no more than as many before; a fifth of
// the memory of ids is to spare.
func (w Windows) Warm(e *Envelope, watermark int64) ([]window.Second, Outcome) {
	if rules := &w.Fold.rules; e.Time >= watermark-2*rules.Active*1000-rules.IDs/5 {
		return w.Apply(e)
	}
	if !w.Reader.Begin(e.Header, e.Time) {
		return nil, Outcome{Retried: true}
	}
	w.Reader.Ahead(e.Events)
	var o Outcome
	for i := range e.Events {
		o.Add(w.Reader.Judge(&e.Events[i]))
	}
	w.Reader.End()
	return nil, o
}
