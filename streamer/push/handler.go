package push

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"nowcast/streamer/hub"
)

// handler is the stream of a viewer with a goroutine of its own, which is net/http's. It is the hub.Sink
// of that viewer.
type handler struct {
	authorization int64
	ended         chan endReason // receives the reason for which the stream is to end
	wake          chan struct{}  // has a value when frames wait

	mu     sync.Mutex
	frames []hub.Frame
	missed uint32 // frames dropped since the last take
}

// Deliver queues frames. When too many wait, all are dropped and counted as missed.
func (h *handler) Deliver(_ *hub.Feed, frames []hub.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fits(h.frames, frames) {
		h.frames = append(h.frames, frames...)
	} else {
		h.missed += countFrames(h.frames) + countFrames(frames)
		h.frames = nil
	}
	h.notify()
}

func (h *handler) notify() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *handler) take() (frames []hub.Frame, missed uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	frames, missed = h.frames, h.missed
	h.frames, h.missed = nil, 0
	return frames, missed
}

// end ends the stream soon; the first reason counts.
func (h *handler) end(reason endReason) {
	select {
	case h.ended <- reason:
	default:
	}
}

// handlerSet holds the handlers whose streams are open.
type handlerSet struct {
	mu  sync.Mutex
	all map[*handler]struct{}
}

func (s *handlerSet) add(h *handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*handler]struct{}{}
	}
	s.all[h] = struct{}{}
}

func (s *handlerSet) remove(h *handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, h)
}

// end ends the handlers that match; a nil match is all.
func (s *handlerSet) end(reason endReason, match func(*handler) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.all {
		if match == nil || match(h) {
			h.end(reason)
		}
	}
}

// endOne ends one handler, to drain.
func (s *handlerSet) endOne() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.all {
		delete(s.all, h)
		h.end(reasonDrained)
		return
	}
}

// handle serves a viewer until its stream ends. An error says that nothing has been written.
func (e *Engine) handle(w http.ResponseWriter, r *http.Request, from *hub.Hub, v Viewer) error {
	h := &handler{
		authorization: e.authorizations.acquire(v.Authorization),
		ended:         make(chan endReason, 1),
		wake:          make(chan struct{}, 1),
	}
	defer e.authorizations.release(h.authorization)
	var snapshot hub.Snapshot
	if err := from.Join(v.Feed, v.Resume, h, func(s hub.Snapshot) { snapshot = s }); err != nil {
		return err
	}
	defer snapshot.Feed.Leave(h)
	e.handlers.add(h)
	defer e.handlers.remove(h)
	viewers := e.metrics.viewers.WithLabelValues("handler", snapshot.Feed.Rate())
	viewers.Inc()
	defer viewers.Dec()
	ctx, cancel := context.WithDeadline(r.Context(), v.Deadline)
	defer cancel()
	w.WriteHeader(http.StatusOK)
	out := flushWriter{w: w, control: http.NewResponseController(w), timeout: e.cfg.Stall}
	e.metrics.countEnd(h.serve(ctx, e.metrics, &out, snapshot))
	e.release(v.Slot)
	return nil
}

// serve writes frames until the stream ends, and returns the reason.
func (h *handler) serve(ctx context.Context, m *metrics, w *flushWriter, first hub.Snapshot) endReason {
	if w.write([]byte(preamble), first.Bytes) != nil {
		return reasonGone
	}
	feed := first.Feed
	sent := m.ofRate(feed.Rate())
	at := hub.Cursor{SentThrough: first.Through}
	for {
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return reasonGone
			}
			_ = w.write(reconnectField())
			return reasonLifetime
		case reason := <-h.ended:
			_ = w.write(reconnectField())
			return reason
		case <-h.wake:
		}
		frames, missed := h.take()
		if missed > 0 {
			m.skipped.Add(float64(missed))
			m.conflated.Inc()
			at.Missed = missed
			if b := feed.CatchUp(&at); b != nil && w.write(b) != nil {
				return reasonGone
			}
		}
		for i := range frames {
			b := feed.Next(&at, &frames[i])
			if b == nil {
				continue
			}
			if w.write(b) != nil {
				return reasonGone
			}
			sent.frames.Inc()
			sent.bytes.Add(float64(len(b)))
			m.age.Observe(time.Since(frames[i].CreatedAt).Seconds())
		}
	}
}

// flushWriter writes and flushes within a time-out.
type flushWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func (w *flushWriter) write(parts ...[]byte) error {
	if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	for _, b := range parts {
		if _, err := w.w.Write(b); err != nil {
			return err
		}
	}
	return w.control.Flush()
}
