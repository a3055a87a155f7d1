package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

// span returns the seconds that a second of a frame counts, unix:
// a viewer who was behind gets several as one.
func (s second) span() (from, to int64) {
	if from, to = s.At.Unix(), s.At.Unix(); !s.From.IsZero() {
		from = s.From.Unix()
	}
	return from, to
}

// snapshotSeconds is how many final seconds the snapshot of a new viewer covers.
const snapshotSeconds = 300

// received adds up the final seconds that a viewer receives, over any number of connections.
type received struct {
	seconds    map[int64]second // by their last second; each may count several, see span
	lastSecond int64            // unix time of the newest final second of a frame
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
	switch from, to := f.Second.span(); {
	case r.lastSecond == 0:
	case from > r.lastSecond+1:
		r.faults = append(r.faults, fmt.Sprintf("frames leave out %d s before %s", from-r.lastSecond-1,
			f.Second.At.Format(time.TimeOnly)))
	case from <= r.lastSecond && from < to:
		r.faults = append(r.faults, fmt.Sprintf("frame repeats second %s",
			f.Second.From.Format(time.TimeOnly)))
	}
	r.lastSecond = f.Second.At.Unix()
	addSecond(*f.Second, "frame")
}

// differences compares what was received with the snapshot of a new viewer, which has the final seconds with
// events. It leaves out what the snapshot doesn't cover.
func (r *received) differences(snapshot frame) (all []string) {
	has, newest := map[int64]int{}, snapshot.Second.At.Unix()
	for _, s := range snapshot.Seconds {
		has[s.At.Unix()] = s.Pageviews
	}
	for _, s := range r.seconds {
		from, to := s.span()
		if from <= newest-snapshotSeconds || to > newest {
			continue
		}
		n := 0
		for at := from; at <= to; at++ {
			n += has[at]
		}
		if n != s.Pageviews {
			all = append(all, fmt.Sprintf("seconds %s to %s had %d page views and have %d",
				time.Unix(from, 0).UTC().Format(time.TimeOnly), s.At.Format(time.TimeOnly), s.Pageviews, n))
		}
	}
	slices.Sort(all)
	return all
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

// What a viewer received is held against a later snapshot, also where the viewer was behind and got several
// seconds as one: they count together.
func TestReceived(t *testing.T) {
	sec := func(from, to int64, n int) second {
		s := second{At: time.Unix(to, 0).UTC(), Pageviews: n, Events: n, Final: true}
		if from < to {
			s.From, s.To = time.Unix(from, 0).UTC(), s.At
		}
		return s
	}
	snapshot := func(newest int64, seconds ...second) frame {
		last := sec(newest, newest, 0)
		return frame{event: "snapshot", Second: &last, Seconds: seconds}
	}
	one, five := sec(1052, 1052, 1), sec(1053, 1053, 5)
	open := five
	open.Final = false
	for _, row := range []struct {
		name                string
		frames              []second
		later               frame
		faults, differences int
	}{
		{"each by itself", []second{one, five}, snapshot(1060, one, five), 0, 0},
		{"two as one", []second{sec(1052, 1053, 6)}, snapshot(1060, one, five), 0, 0},
		{"many as one", []second{sec(1052, 1059, 6)}, snapshot(1060, one, five), 0, 0},
		{"as one, and one is lost", []second{sec(1052, 1053, 6)}, snapshot(1060, five), 0, 1},
		{"as one, and one has less", []second{sec(1052, 1053, 7)}, snapshot(1060, one, five), 0, 1},
		{"lost", []second{one, five}, snapshot(1060, one), 0, 1},
		{"more", []second{one, sec(1053, 1053, 4)}, snapshot(1060, one, five), 0, 1},
		{"not final there", []second{one, sec(1053, 1053, 6)}, snapshot(1052, one, open), 0, 0},
		{"too old for it", []second{one, five}, snapshot(1353), 0, 0},
		{"the oldest in it", []second{sec(1052, 1053, 6), sec(1054, 1054, 1)}, snapshot(1353), 0, 1},
		{"left out", []second{five}, snapshot(1060, five), 1, 0},
		{"left out before several", []second{sec(1053, 1054, 5)}, snapshot(1060, five), 1, 0},
		{"twice", []second{one, one}, snapshot(1060, one), 1, 0},
		{"twice, once as one", []second{one, sec(1052, 1053, 6)}, snapshot(1060, one, five), 1, 0},
	} {
		r := newReceived()
		r.add(snapshot(1051))
		for _, s := range row.frames {
			r.add(frame{Second: &s})
		}
		if d := r.differences(row.later); len(r.faults) != row.faults || len(d) != row.differences {
			t.Errorf("%s: faults %v, want %d; differences %v, want %d", row.name, r.faults, row.faults, d,
				row.differences)
		}
	}
}
