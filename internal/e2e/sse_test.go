package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"nowcast/internal/sse"
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

// frame is an event of a stream with the fields of its data that tests read.
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
	Cut struct{ After, At time.Time } `json:"cut"`
}

// stream is one connection of a viewer.
type stream struct {
	frames chan frame
	cancel context.CancelFunc
	header http.Header
}

// follow opens the stream of a site. query has further parameters, as "rate", "1s", "lastEventId", "…".
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
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"),
		"text/event-stream") {
		t.Fatalf("open stream: %s %s", res.Status, res.Header)
	}
	s := &stream{frames: make(chan frame, 4096), cancel: cancel, header: res.Header}
	go func() {
		defer close(s.frames)
		defer res.Body.Close()
		r := sse.NewReader(res.Body)
		for e, err := r.Next(); err == nil; e, err = r.Next() {
			if f, err := parseFrame(e); err == nil {
				s.frames <- f
			}
		}
	}()
	return s
}

func parseFrame(e sse.Event) (frame, error) {
	f := frame{event: e.Name, id: e.ID, arrived: time.Now()}
	return f, json.Unmarshal([]byte(e.Data), &f)
}

// waitFor reads frames until ok holds for one, and returns it.
func (s *stream) waitFor(t *testing.T, limit time.Duration, what string, ok func(frame) bool) frame {
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

// received adds up the final seconds that a viewer receives, over any number of connections.
type received struct {
	seconds    map[int64]second
	lastSecond int64 // unix time of the newest final second of a frame
	id         string
	faults     []string // seconds that came twice or were left out
}

func newReceived() *received { return &received{seconds: map[int64]second{}} }

// add counts a frame. A final second may come once, and frames may leave out none.
func (r *received) add(f frame) {
	if f.id != "" {
		r.id = f.id
	}
	addSecond := func(s second, where string) {
		if !s.Final {
			return
		}
		at := s.At.Unix()
		if _, ok := r.seconds[at]; ok {
			r.faults = append(r.faults, fmt.Sprintf("%s repeats second %s", where,
				s.At.Format(time.TimeOnly)))
		}
		r.seconds[at] = s
	}
	if f.event == "snapshot" {
		for _, s := range f.Seconds {
			addSecond(s, "snapshot")
		}
		if f.Second != nil && f.Second.Final {
			r.lastSecond = f.Second.At.Unix()
		}
		return
	}
	if f.event != "" || f.Second == nil || !f.Second.Final {
		if f.event == "reset" {
			r.faults = append(r.faults, "reset")
		}
		return
	}
	if at := f.Second.At.Unix(); r.lastSecond != 0 && at > r.lastSecond+1 {
		r.faults = append(r.faults, fmt.Sprintf("frames leave out %d s before %s", at-r.lastSecond-1,
			f.Second.At.Format(time.TimeOnly)))
	}
	r.lastSecond = f.Second.At.Unix()
	addSecond(*f.Second, "frame")
}

// collect adds frames until the final seconds have n page views.
func (r *received) collect(t *testing.T, s *stream, what string, n int) {
	t.Helper()
	s.waitFor(t, 20*time.Second, what, func(f frame) bool { r.add(f); return r.pageviews() >= n })
}

func (r *received) pageviews() (n int) {
	for _, s := range r.seconds {
		n += s.Pageviews
	}
	return n
}
