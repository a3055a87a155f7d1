package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

type second struct {
	At        time.Time `json:"at"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Pageviews int       `json:"pageviews"`
	Visitors  int       `json:"visitors"`
	Events    int       `json:"events"`
	Final     bool      `json:"final"`
	Revision  int       `json:"revision"`
}

type frame struct {
	event, id string
	arrived   time.Time

	Visitors  int               `json:"visitors"`
	Timestamp time.Time         `json:"timestamp"`
	Site      string            `json:"site"`
	Second    *second           `json:"second"`
	Seconds   []second          `json:"seconds"`
	Skipped   int               `json:"skipped"`
	Filter    map[string]string `json:"filter"`
	AtMost    bool              `json:"upper_bound"`
	Now       struct {
		Pages, Sources, Countries, Devices [][]any
	} `json:"now"`
}

// stream is an EventSource without a browser.
type stream struct {
	frames chan frame
	cancel context.CancelFunc
	header http.Header
}

// follow opens the stream of a site; query has what goes beside the site ("rate", "lastEventId").
func (w *world) follow(t *testing.T, server, site string, query ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	q := url.Values{"site": {site}}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/events?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("open stream: %s %s", res.Status, res.Header)
	}
	s := &stream{frames: make(chan frame, 4096), cancel: cancel, header: res.Header}
	go func() {
		defer close(s.frames)
		defer res.Body.Close()
		_, _ = readEvents(res.Body, func(f frame, data string) {
			f.arrived = time.Now()
			if err := json.Unmarshal([]byte(data), &f); err == nil {
				s.frames <- f
			}
		})
	}()
	return s
}

// readEvents gives every event that comes whole, as the standard has it, and in the end the last retry.
func readEvents(body io.Reader, take func(f frame, data string)) (retry string, err error) {
	r := bufio.NewReaderSize(body, 4096)
	var f frame
	var data strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return retry, err
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data.Len() > 0 {
				take(f, data.String())
			}
			f = frame{}
			data.Reset()
		case field == "id":
			f.id = value
		case field == "event":
			f.event = value
		case field == "data":
			data.WriteString(value)
		case field == "retry":
			retry = value
		}
	}
}

// until reads frames until ok says so.
func (s *stream) until(t *testing.T, limit time.Duration, what string, ok func(frame) bool) frame {
	t.Helper()
	end := time.After(limit)
	var last frame
	for {
		select {
		case f, open := <-s.frames:
			if !open {
				t.Fatalf("%s: the stream ended; last frame %+v", what, last)
			}
			if ok(f) {
				return f
			}
			last = f
		case <-end:
			t.Fatalf("%s: not within %v; last frame %+v", what, limit, last)
		}
	}
}

// ledger adds up the final seconds that a viewer was given, over any number of connections.
type ledger struct {
	seconds map[int64]second
	last    int64 // unix second of the newest final one given by a frame
	id      string
	faults  []string
}

func newLedger() *ledger { return &ledger{seconds: map[int64]second{}} }

// take books a frame: a final second may be given once, and frames may leave none out.
func (l *ledger) take(f frame) {
	if f.id != "" {
		l.id = f.id
	}
	book := func(s second, where string) {
		if !s.Final {
			return
		}
		at := s.At.Unix()
		if _, ok := l.seconds[at]; ok {
			l.faults = append(l.faults, fmt.Sprintf("%s gives %s twice", where, s.At.Format(time.TimeOnly)))
		}
		l.seconds[at] = s
	}
	if f.event == "snapshot" {
		for _, s := range f.Seconds {
			book(s, "snapshot")
		}
		if f.Second != nil && f.Second.Final {
			l.last = f.Second.At.Unix()
		}
		return
	}
	if f.event != "" || f.Second == nil || !f.Second.Final {
		if f.event == "reset" {
			l.faults = append(l.faults, "reset")
		}
		return
	}
	if at := f.Second.At.Unix(); l.last != 0 && at > l.last+1 {
		l.faults = append(l.faults, fmt.Sprintf("frames leave out %d s before %s", at-l.last-1, f.Second.At.Format(time.TimeOnly)))
	}
	l.last = f.Second.At.Unix()
	book(*f.Second, "frame")
}

func (l *ledger) pageviews() (n int) {
	for _, s := range l.seconds {
		n += s.Pageviews
	}
	return n
}
