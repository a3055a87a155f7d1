package ingest

import (
	"errors"
	"net/http"
	"time"

	"nowcast/internal/event"
)

// adder is where events go.
type adder interface {
	add(partition int, d *draft) (*envelope, error)
}

// ErrNoEvent says that a beacon makes no event.
var ErrNoEvent = errors.New("the beacon makes no event")

// Single does with a request what POST /api/event does, up to the log: it returns the event's partition, and the record that an envelope with
// nothing else in it would be. So another way to bring events to a log can be measured behind the same work.
func (s *Service) Single(r *http.Request) (partition int, record []byte, err error) {
	start := time.Now()
	w := s.work.Get().(*work)
	defer s.putBack(w)
	body, errs := w.read(r.Body)
	if errs != nil {
		return 0, nil, ErrNoEvent
	}
	b, errs := parseBeacon(body)
	if errs != nil {
		return 0, nil, ErrNoEvent
	}
	from := s.sender(r, clientAddr(r, s.cfg.TrustedProxies))
	one := single{s: s}
	if _, _, err = s.enqueue(nil, &one, &w.draft, b, &from, start); err == nil && one.record == nil {
		err = ErrNoEvent
	}
	return one.partition, one.record, err
}

// single keeps the one event that it is given as a record.
type single struct {
	s         *Service
	partition int
	record    []byte
}

func (o *single) add(partition int, d *draft) (*envelope, error) {
	at := time.Now().UnixMilli()
	if err := o.s.stamp(d, at); err != nil {
		return nil, err
	}
	b := event.AppendHeader(make([]byte, 0, 512), event.Header{Version: event.Version, Node: o.s.publisher.node, Sequence: 1, Low: at - 1})
	o.partition, o.record = partition, event.AppendEvent(b, &d.Event)
	return nil, nil
}
