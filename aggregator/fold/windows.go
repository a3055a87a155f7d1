package fold

import (
	"nowcast/internal/event"
	"nowcast/internal/window"
)

// Envelope is one decoded record of the log.
type Envelope struct {
	Offset int64
	Time   int64 // the record's timestamp, ms
	Header event.Header
	Events []event.Event

	// Erased events are classified like others, so that watermarks and duplicates stay the same, and are
	// counted and stored nowhere. By index of Events; nil: no event is erased.
	Erased []bool

	Tallies []event.Tally // input of the ledger; the fold ignores them
}

// IsErased reports whether the event at an index is erased.
func (e *Envelope) IsErased(i int) bool { return e.Erased != nil && e.Erased[i] }

// Outcome counts an envelope's events by class. All counts of a retried envelope are 0.
type Outcome struct {
	Retried                         bool
	Counted, Late, Stale, Duplicate int
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
	case Duplicate:
		o.Duplicate++
	}
}

// Windows is the pure part of the windows lane: a Classifier followed by a Fold.
type Windows struct {
	Classifier *Classifier
	Fold       *Fold
}

// NewWindows returns the state at the start of a log.
func NewWindows(rules Rules) Windows { return Windows{NewClassifier(rules), New(rules)} }

// Apply consumes the next envelope of the log. It returns the rows that the envelope made final, valid until
// the next call. It clamps the times of e's events.
func (w Windows) Apply(e *Envelope) ([]window.Second, Outcome) {
	if !w.Classifier.Begin(e.Header, e.Time) {
		return nil, Outcome{Retried: true}
	}
	w.Fold.Advance(w.Classifier.Watermark(), e.Offset)
	w.Classifier.Prefetch(e.Events)
	w.Fold.Prefetch(e.Events)
	var o Outcome
	for i := range e.Events {
		class := w.Classifier.Classify(&e.Events[i])
		if class == Counted && !e.IsErased(i) {
			w.Fold.Add(i)
		}
		o.Add(class)
	}
	w.Classifier.End()
	w.Fold.Advance(w.Classifier.Watermark(), e.Offset)
	return w.Fold.End(e.Offset, w.Classifier.LogTime()), o
}

// Warm is Apply for an envelope of the warm-up before a position with the given watermark. It only classifies
// the events of the first part of the warm-up, of which the ids alone still matter: a visitor who is active
// at the watermark was seen in the last Rules.Active seconds, and their source depends on no more than as
// many seconds before. A fifth of the ids' memory is spare.
func (w Windows) Warm(e *Envelope, watermark int64) ([]window.Second, Outcome) {
	if rules := &w.Fold.rules; e.Time >= watermark-2*rules.Active*1000-rules.IDMemory/5 {
		return w.Apply(e)
	}
	if !w.Classifier.Begin(e.Header, e.Time) {
		return nil, Outcome{Retried: true}
	}
	w.Classifier.Prefetch(e.Events)
	var o Outcome
	for i := range e.Events {
		o.Add(w.Classifier.Classify(&e.Events[i]))
	}
	w.Classifier.End()
	return nil, o
}
