package streamer

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
	"nowcast/streamer/board"
)

const (
	heartbeat = 15 * time.Second // of silence
	recheck   = 3 * time.Second  // whether a viewer may still read, also while nothing happens
	backlog   = 60               // final seconds that a viewer may be behind before they are merged into one frame
	ahead     = 15               // seconds that an id may be ahead of this instance, which then is only behind another
)

// rates are the paces: span is how many seconds a frame has, pace (of the fast ones) the least time between frames.
var rates = map[api.StreamEventsParamsRate]struct {
	span int64
	pace time.Duration
}{
	"100ms": {pace: 100 * time.Millisecond},
	"250ms": {pace: 250 * time.Millisecond},
	"1s":    {span: 1},
	"5s":    {span: 5},
	"30s":   {span: 30},
}

// StreamEvents is GET /api/events.
func (s *Service) StreamEvents(c *gin.Context, p api.StreamEventsParams) {
	v := viewer{s: s, top: 10, rate: "1s"}
	if p.Rate != nil {
		v.rate = *p.Rate
	}
	r, ok := rates[v.rate]
	if !ok {
		refuse(c, http.StatusBadRequest, "rate has to be one of 100ms, 250ms, 1s, 5s, 30s")
		return
	}
	v.span, v.pace = r.span, r.pace
	if p.Top != nil {
		if v.top = *p.Top; v.top < 0 || v.top > 100 {
			refuse(c, http.StatusBadRequest, "top has to be 0 to 100")
			return
		}
	}
	domain := ""
	if p.Site != nil {
		domain = *p.Site
	}
	st, by, ok := s.granted(c, domain)
	if !ok {
		return
	}
	b := s.board.Load()
	if ready, reason := s.Ready(); b == nil || !ready {
		unavailable(c, "the live windows are not read yet (%s); try again in a moment", reason)
		return
	}
	v.site = st.Domain
	v.stays = func() bool { return s.holds(by, st.Domain) }
	last := ""
	if p.LastEventID != nil { // the header of a browser that reconnects is newer than the query it began with
		last = *p.LastEventID
	} else if p.LastEventId != nil {
		last = *p.LastEventId
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	c.Status(http.StatusOK)
	v.out, v.raw = http.NewResponseController(c.Writer), c.Writer
	v.board, v.view = b, b.Watch(st.Domain)
	defer v.view.Close()
	viewers := s.metrics.viewers.WithLabelValues(string(v.rate))
	viewers.Inc()
	defer viewers.Dec()
	life := time.Duration(float64(s.cfg.Lifetime) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // jitter, no secret
	ctx, cancel := context.WithTimeout(c.Request.Context(), life)
	defer cancel()
	s.metrics.ended.WithLabelValues(v.serve(ctx, last)).Inc()
}

// viewer is one open stream. Only its own goroutine touches it: a viewer that stops reading stops that goroutine, and nothing else.
type viewer struct {
	s    *Service
	site string
	rate api.StreamEventsParamsRate
	span int64
	pace time.Duration
	top  int

	out   *http.ResponseController
	raw   http.ResponseWriter
	board *board.Board
	view  *board.Viewer
	stays func() bool // it may still read the site

	given   int64     // the newest final second given
	shown   glance    // what the newest frame showed
	sent    time.Time // when the newest frame was written
	skipped int
}

// glance is what a viewer sees of a site beside its final seconds.
type glance struct {
	visitors uint32
	at       int64 // of the open second
	revision uint32
	lists    *board.Lists
}

func look(view board.View) glance {
	g := glance{visitors: view.Visitors, lists: view.Lists}
	if n := len(view.Seconds); n > 0 && !view.Seconds[n-1].Final {
		g.at, g.revision = view.Seconds[n-1].At, view.Seconds[n-1].Revision
	}
	return g
}

// serve writes until ctx ends or the viewer is gone, and says why it ended.
func (v *viewer) serve(ctx context.Context, lastID string) (reason string) {
	if v.write([]byte("retry: 1000\n\n")) != nil || v.begin(lastID) != nil {
		return "gone"
	}
	beat, slot := time.NewTimer(heartbeat), time.NewTimer(heartbeat)
	defer beat.Stop()
	defer slot.Stop()
	check := time.NewTicker(recheck)
	defer check.Stop()
	for {
		view, advanced, changed := v.view.Look(v.given)
		wait, err := v.next(view)
		if err != nil {
			return "gone"
		}
		if wait == 0 {
			continue
		}
		if v.pace == 0 {
			changed = nil
		}
		var paced <-chan time.Time
		if wait > 0 { // something waits for the pace: news in the meantime joins it
			slot.Reset(wait)
			paced, advanced, changed = slot.C, nil, nil
		}
		beat.Reset(heartbeat - min(time.Since(v.sent), heartbeat-time.Millisecond))
		select {
		case <-ctx.Done():
			return "ended"
		case <-advanced:
		case <-changed:
		case <-paced:
		case <-check.C:
		case <-beat.C:
			if v.write([]byte(": hb\n\n")) != nil {
				return "gone"
			}
			v.sent = time.Now()
		}
		if !v.stays() {
			return "revoked"
		}
		if v.s.board.Load() != v.board { // the log begins anew, and so does whoever connects again
			return "anew"
		}
	}
}

// begin writes the snapshot: the last five minutes, or what came after the given id.
func (v *viewer) begin(lastID string) error {
	view, _, _ := v.view.Look(0)
	after := view.Final - board.Span
	if lastID != "" {
		id, ok := parseID(lastID)
		if ok && id >= after && id <= view.Final+ahead {
			after = id
		} else if err := v.write([]byte("event: reset\ndata: {}\n\n")); err != nil {
			return err
		}
	}
	v.given = max(after, view.Final)
	f := newFrame(v.site, view, v.top)
	seconds := []second{}
	for _, s := range view.Seconds {
		if s.At > after && s.Events > 0 {
			seconds = append(seconds, newSecond(s))
		}
	}
	f.Seconds = &seconds
	if view.Final > 0 {
		newest := one(view.Seconds, view.Final)
		f.Second = &newest
	}
	v.shown = look(view)
	return v.send("snapshot", eventID(v.given, 0), f)
}

// next writes the frame that is due. It returns 0 when there may be another one at once, how long to wait for the pace, or -1 when nothing
// waits.
func (v *viewer) next(view board.View) (wait time.Duration, err error) {
	behind := view.Final - v.given
	switch {
	case behind > 0 && v.span > 1: // slow: whole spans by the clock, so that all instances merge alike
		end := (v.given/v.span+1)*v.span - 1
		if end <= v.given {
			end += v.span
		}
		if view.Final < end {
			return -1, nil
		}
		if behind > board.Span {
			end = view.Final
		}
		return 0, v.final(view, v.given+1, end)
	case behind > backlog:
		v.skipped += int(behind) - 1
		v.s.metrics.skipped.Add(float64(behind - 1))
		return 0, v.final(view, v.given+1, view.Final)
	case behind > 0:
		return 0, v.final(view, v.given+1, v.given+1)
	case v.pace == 0 || look(view) == v.shown:
		return -1, nil
	}
	if wait := v.pace - time.Since(v.sent); wait > 0 {
		return wait, nil
	}
	return 0, v.open(view)
}

// final gives the seconds from and to, both included.
func (v *viewer) final(view board.View, from, to int64) error {
	f := newFrame(v.site, view, v.top)
	s := one(view.Seconds, to)
	if from < to {
		s = merged(view.Seconds, from, to)
	}
	f.Second, v.given = &s, to
	v.shown.visitors, v.shown.lists = view.Visitors, view.Lists
	if v.shown.at <= to { // it isn't open any more, which is no news
		v.shown.at, v.shown.revision = 0, 0
	}
	return v.send("", eventID(to, 0), f)
}

// open gives the newest second that isn't final yet, if it has events, and the numbers of this moment.
func (v *viewer) open(view board.View) error {
	f := newFrame(v.site, view, v.top)
	var revision uint32
	if n := len(view.Seconds); n > 0 && !view.Seconds[n-1].Final {
		s := newSecond(view.Seconds[n-1])
		f.Second, revision = &s, s.Revision
	}
	v.shown = look(view)
	return v.send("", eventID(v.given, revision), f)
}

func (v *viewer) send(event, id string, f frame) error {
	f.Skipped, v.skipped = v.skipped, 0
	b, err := message(event, id, f)
	if err != nil {
		return err
	}
	if err := v.write(b); err != nil {
		return err
	}
	v.sent = time.Now()
	rate := string(v.rate)
	v.s.metrics.frames.WithLabelValues(rate).Inc()
	v.s.metrics.bytes.WithLabelValues(rate).Add(float64(len(b)))
	return nil
}

// write has the bytes on their way within the limit, or fails and with it the stream.
func (v *viewer) write(b []byte) error {
	if err := v.out.SetWriteDeadline(time.Now().Add(v.s.cfg.WriteLimit)); err != nil {
		return err
	}
	if _, err := v.raw.Write(b); err != nil {
		return err
	}
	return v.out.Flush()
}
