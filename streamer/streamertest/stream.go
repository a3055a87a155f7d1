package streamertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"nowcast/internal/sse"
	"nowcast/streamer/frame"
)

// Message is one event of a stream, with its JSON decoded.
type Message struct {
	Event, ID, Data string
	Frame
}

type (
	// Frame is the JSON of a message, as a viewer reads it.
	Frame struct {
		Visitors  uint32            `json:"visitors"`
		Timestamp string            `json:"timestamp"`
		Site      string            `json:"site"`
		Filter    map[string]string `json:"filter"`
		AtMost    bool              `json:"upper_bound"`
		Lacks     bool              `json:"incomplete"`
		Second    *Second           `json:"second"`
		Now       *Now              `json:"now"`
		Skipped   int               `json:"skipped"`
		Seconds   *[]Second         `json:"seconds"`
		Cut       struct{ After, At string }
	}
	// Second is one second, or several merged.
	Second struct {
		At        string `json:"at"`
		From      string `json:"from"`
		To        string `json:"to"`
		Pageviews uint32 `json:"pageviews"`
		Visitors  uint32 `json:"visitors"`
		Events    uint32 `json:"events"`
		Final     bool   `json:"final"`
		Revision  uint32 `json:"revision"`
		Lacks     bool   `json:"incomplete"`
	}
	// Now has the lists of the active visitors.
	Now struct {
		Pages, Sources, Countries, Devices []Count
		Rest                               struct{ Pages, Sources, Countries, Devices uint32 }
	}
	// Count is a value of a list and its active visitors.
	Count struct {
		Name   string
		Active uint32
	}
)

// UnmarshalJSON decodes [name, active].
func (c *Count) UnmarshalJSON(b []byte) error {
	var v [2]any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	c.Name, c.Active = v[0].(string), uint32(v[1].(float64))
	return nil
}

// First is the first second of a message: of merged seconds, where they begin.
func (m Message) First() string {
	if m.Second.From != "" {
		return m.Second.From
	}
	return m.Second.At
}

// Stamp writes a second as frames do.
func Stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// EventID is the ID of the message after which a viewer has all seconds up to final.
func EventID(final int64, revision uint32) string {
	return frame.ID{LastSecond: final, Revision: revision}.String()
}

// Read reads messages until the stream ends or ok returns false. It returns the error that ended the stream;
// nil at its end.
func Read(body io.Reader, ok func(Message) bool) error {
	for events := sse.NewReader(body); ; {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := Message{Event: e.Name, ID: e.ID, Data: e.Data}
		if err := json.Unmarshal([]byte(e.Data), &m.Frame); err != nil {
			return fmt.Errorf("decode %s: %w", e.Data, err)
		}
		if !ok(m) {
			return nil
		}
	}
}

// Stream is the messages of one connection.
type Stream struct {
	t        *testing.T
	Messages chan Message // closed when the stream has ended
	Cancel   context.CancelFunc
}

// Open requests a stream and reads it until the test ends.
func Open(t *testing.T, url string, header http.Header) (*Stream, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stream{t, make(chan Message, 1000), cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.Messages)
		defer res.Body.Close()
		_ = Read(res.Body, func(m Message) bool { s.Messages <- m; return true })
	}()
	t.Cleanup(func() { cancel(); <-done; http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return s, res
}

// Next waits up to 10 s for a message.
func (s *Stream) Next() Message {
	s.t.Helper()
	select {
	case m, ok := <-s.Messages:
		if !ok {
			s.t.Fatal("the stream ended")
		}
		return m
	case <-time.After(10 * time.Second):
		s.t.Fatal("no message within 10 s")
	}
	panic("unreachable")
}

// Until reads up to the message with an ID.
func (s *Stream) Until(id string) Message {
	s.t.Helper()
	m := s.Next()
	for m.ID != id {
		m = s.Next()
	}
	return m
}
