package push

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"nowcast/streamer/hub"
)

// How many frames wait for whoever writes them, and how old they may become; then viewers get the newest state instead.
const (
	queued = 64
	oldest = 2 * time.Second
)

// fits says whether more frames may wait with those that do.
func fits(waiting, more []hub.Frame) bool {
	return len(waiting) == 0 || len(waiting)+len(more) <= queued && more[0].CreatedAt.Sub(waiting[0].CreatedAt) < oldest
}

// handler is a viewer with a goroutine of its own, which is net/http's.
type handler struct {
	grant int32
	ended chan string // has the reason when it is to end
	wake  chan struct{}

	mu     sync.Mutex
	frames []hub.Frame
	missed uint32
}

// Deliver queues frames.
func (h *handler) Deliver(_ *hub.Feed, frames []hub.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fits(h.frames, frames) {
		h.frames = append(h.frames, frames...)
	} else {
		h.missed += count(h.frames) + count(frames)
		h.frames = nil
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// count is how many are frames and no comments.
func count(frames []hub.Frame) (n uint32) {
	for i := range frames {
		if frames[i].Through != 0 {
			n++
		}
	}
	return n
}

func (h *handler) take() (frames []hub.Frame, missed uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	frames, missed = h.frames, h.missed
	h.frames, h.missed = nil, 0
	return frames, missed
}

// end has a handler's stream end.
func (h *handler) end(reason string) {
	select {
	case h.ended <- reason:
	default: // it ends already
	}
}

func (e *Engine) endHandlers(reason string, which func(*handler) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := range e.handlers {
		if which(h) {
			h.end(reason)
		}
	}
}

// endOne ends one handler's stream, to drain.
func (e *Engine) endOne() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := range e.handlers {
		delete(e.handlers, h)
		h.end(Drained)
		return
	}
}

// handle serves a viewer until its stream ends.
func (e *Engine) handle(w http.ResponseWriter, r *http.Request, from *hub.Hub, v Viewer) error {
	h := &handler{grant: e.grants.take(v.Credential), ended: make(chan string, 1), wake: make(chan struct{}, 1)}
	defer e.grants.leave(h.grant)
	var first hub.Snapshot
	if err := from.Join(v.Feed, v.Resume, h, func(f hub.Snapshot) { first = f }); err != nil {
		return err
	}
	defer first.Feed.Leave(h)
	e.mu.Lock()
	e.handlers[h] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.handlers, h)
	}()
	viewers := e.metrics.viewers.WithLabelValues("handler", first.Feed.Rate())
	viewers.Inc()
	defer viewers.Dec()
	ctx, cancel := context.WithDeadline(r.Context(), v.Deadline)
	defer cancel()
	w.WriteHeader(http.StatusOK)
	out := writer{w: w, out: http.NewResponseController(w), limit: e.cfg.Stall}
	e.metrics.ended.WithLabelValues(h.serve(ctx, e, &out, first)).Inc()
	e.left(v.Slot)
	return nil
}

func (h *handler) serve(ctx context.Context, e *Engine, w *writer, first hub.Snapshot) (reason string) {
	frames, bytes := e.metrics.frames.WithLabelValues(first.Feed.Rate()), e.metrics.bytes.WithLabelValues(first.Feed.Rate())
	if w.write(opening, first.Bytes) != nil {
		return Gone
	}
	at := hub.Cursor{SentThrough: first.Through}
	for {
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				_ = w.write(retry())
				return Lifetime
			}
			return Gone
		case reason := <-h.ended:
			_ = w.write(retry())
			return reason
		case <-h.wake:
		}
		waiting, missed := h.take()
		if missed > 0 {
			e.metrics.missed.Add(float64(missed))
			e.metrics.merged.Inc()
			at.Missed = missed
			if b := first.Feed.CatchUp(&at); b != nil && w.write(b) != nil {
				return Gone
			}
		}
		for i := range waiting {
			b := first.Feed.Next(&at, &waiting[i])
			if b == nil {
				continue
			}
			if w.write(b) != nil {
				return Gone
			}
			frames.Inc()
			bytes.Add(float64(len(b)))
			e.metrics.age.Observe(time.Since(waiting[i].CreatedAt).Seconds())
		}
	}
}

// writer has bytes on their way within a limit, or fails.
type writer struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	limit time.Duration
}

func (w *writer) write(parts ...[]byte) error {
	if err := w.out.SetWriteDeadline(time.Now().Add(w.limit)); err != nil {
		return err
	}
	for _, b := range parts {
		if _, err := w.w.Write(b); err != nil {
			return err
		}
	}
	return w.out.Flush()
}
