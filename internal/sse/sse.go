// Package sse reads text/event-stream, as section 9.2 of the HTML standard (WHATWG) defines it for
// EventSource.
//
// The assistant, tests and benchmarks read Nowcast's streams with it. It knows no HTTP: a caller gives it the
// body of a response.
package sse

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Event is one dispatched event.
type Event struct {
	Name string // of the "event" field; "" where the standard says "message"
	ID   string // of this event's own "id" field; unlike lastEventId it is "" when the event has none
	Data string // the "data" lines, joined by newlines
}

// Reader reads the events of one stream. It is not safe for concurrent use.
type Reader struct {
	r        *bufio.Reader
	retry    time.Duration
	retryErr error
}

// NewReader returns a Reader of a stream's body. It reads up to 4 KB ahead of the event that it returns.
func NewReader(body io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(body, 4096)} }

// Next returns the next event with data. It skips comments and unknown fields. An event that the stream's
// end cuts off is dropped, and the error of the body (io.EOF at its end) returned.
func (r *Reader) Next() (Event, error) {
	var e Event
	var data []string
	for {
		line, err := r.r.ReadString('\n')
		if err != nil {
			return Event{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if data != nil {
				e.Data = strings.Join(data, "\n")
				return e, nil
			}
			e = Event{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.ID = value
		case "event":
			e.Name = value
		case "data":
			data = append(data, value)
		case "retry":
			r.retry, r.retryErr = parseRetry(value)
		}
	}
}

// Retry is the reconnection time of the stream's last "retry" field; 0 before the first. It returns an
// error if that field was no number of milliseconds; an EventSource ignores such a field.
func (r *Reader) Retry() (time.Duration, error) { return r.retry, r.retryErr }

func parseRetry(value string) (time.Duration, error) {
	ms, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("parse retry: %w", err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
