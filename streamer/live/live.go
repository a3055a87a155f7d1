// Package live serves the live view: it tails the windows topic onto a board, and streams what the hub makes
// of it over Server-Sent Events (WHATWG HTML, section "Server-sent events").
//
// It promises that a viewer who stays connected, or reconnects within five minutes to any instance, receives
// every final second once; that a viewer who stops reading costs bounded memory and delays nobody; and that
// a frame never waits for ClickHouse. While the log stands still, viewers receive heartbeats only.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/streamer/api"
	"nowcast/streamer/board"
	"nowcast/streamer/hub"
	"nowcast/streamer/push"
)

// Config says how viewers are served.
type Config struct {
	Lifetime  time.Duration // of a stream, ± 10 %; 0: an hour
	Stall     time.Duration // how long a viewer may read nothing before it is disconnected; 0: 30 s
	Transport Transport     // "": the best that the system has

	// Wake is called when somebody looks at the live numbers. It reports that the log stood nearly still
	// because nobody did, and that its time goes on now. Nil: it never stands still.
	Wake func() bool
}

// Transport is how viewers are served.
type Transport string

// The transports that can be asked for. Without one, plain HTTP/1 is served by io_uring where the system has
// it and by epoll elsewhere, and TLS and HTTP/2 by handlers.
const (
	Epoll    Transport = "epoll"    // a write(2) for each viewer and frame
	Handlers Transport = "handlers" // a goroutine for each viewer
)

// Deps are what a Server works with.
type Deps struct {
	Broker  *broker.Client
	History history // fills gaps; nil: there is none
	// Life says which seconds of a domain are those of its site at this moment; nil: all are.
	Life    func(domain string) board.Life
	Access  authorizer
	Limits  limiter
	Fail    func(*gin.Context, error) // answers with an error
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// authorizer decides which sites a request may read. Its errors say what to do.
type authorizer interface {
	// AuthorizeAll returns the canonical domains, each once, and the principals in the same order.
	AuthorizeAll(c *gin.Context, domains []string) ([]string, []api.Principal, error)
	MayRead(p api.Principal, domain string) bool
}

// limiter bounds the open streams. The two numbers say what a stream counts for.
type limiter interface {
	Acquire(address string, principals []api.Principal) (addr, key uint64, err error)
	Release(addr, key uint64)
	Stop() // refuse every stream from now on
}

// ErrNotReady is wrapped by the errors of a Server that has not read the windows topic yet.
var ErrNotReady = errors.New("the live windows are not read yet")

// Server streams the windows topic to viewers.
type Server struct {
	cfg     Config
	access  authorizer
	limits  limiter
	life    func(domain string) board.Life
	fail    func(*gin.Context, error)
	log     *slog.Logger
	metrics *metrics
	tail    tail
	gaps    gapFiller
	push    *push.Engine
}

// New wires a server and starts nothing.
func New(cfg Config, d Deps) (*Server, error) {
	cfg.Lifetime = cmp.Or(cfg.Lifetime, time.Hour)
	if d.Life == nil {
		d.Life = func(string) board.Life { return board.Life{} }
	}
	s := &Server{cfg: cfg, access: d.Access, limits: d.Limits, life: d.Life, fail: d.Fail, log: d.Log,
		tail: tail{kafka: d.Broker, log: d.Log, now: time.Now, reason: "reading the windows from Kafka"},
	}
	m, err := newMetrics(d.Metrics, s.tail.board)
	if err != nil {
		return nil, err
	}
	s.metrics, s.tail.metrics = m, m
	s.gaps = gapFiller{kafka: d.Broker, history: d.History, metrics: m, log: d.Log}
	s.push, err = push.New(push.Config{
		Stall: cfg.Stall, HandlersOnly: cfg.Transport == Handlers, DisableIOURing: cfg.Transport == Epoll,
		Authorized: func(text string) bool { return stillAuthorized(s.access, text) },
		Release:    func(slot push.Slot) { s.limits.Release(slot.Addr, slot.Key) },
	}, d.Metrics)
	if err != nil {
		return nil, fmt.Errorf("set up streams: %w", err)
	}
	return s, nil
}

// Run tails the windows topic and serves viewers until ctx ends. It fails if a system call for
// writing to viewers fails.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	wg.Go(func() {
		if err := s.push.Run(ctx); err != nil {
			fail(fmt.Errorf("write to viewers: %w", err))
		}
	})
	err := s.tail.run(serving, s.push.EndAll)
	if ctx.Err() == nil && serving.Err() != nil {
		return context.Cause(serving)
	}
	return err
}

// Ready reports whether there are frames to serve, and if not, why. Degraded says what they lack.
func (s *Server) Ready() (ok bool, reason string) { return s.tail.ready() }

// drainTime bounds the time in which all viewers are disconnected when the process ends.
const drainTime = 20 * time.Second

// Drain waits until ctx ends, and then disconnects the viewers at a pace that the other instances can take;
// until its turn a viewer receives every second. It has to return before Run's context ends.
func (s *Server) Drain(ctx context.Context) error {
	<-ctx.Done()
	s.limits.Stop()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime+time.Second)
	defer cancel()
	if n := s.push.Viewers(); n > 0 {
		s.log.Info("disconnect viewers: the process ends", "viewers", n)
	}
	s.push.Drain(limited, drainTime)
	return nil
}

// Viewers returns how many streams are open.
func (s *Server) Viewers() int { return s.push.Viewers() }

// wakeTimeout bounds how long a request waits for the log of an idle process.
const wakeTimeout = time.Second

// wake ends the idle time of a process, and waits until the board shows that the log's time goes on.
func (s *Server) wake(ctx context.Context) {
	if s.cfg.Wake == nil || !s.cfg.Wake() {
		return
	}
	current := s.tail.current.Load()
	if current == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	for before := current.board.LastFinal(); current.board.LastFinal() == before; {
		if retry.Sleep(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}

// Visitors returns the active visitors of a site. Its error wraps ErrNotReady.
func (s *Server) Visitors(ctx context.Context, domain string) (uint32, error) {
	s.wake(ctx)
	current, err := s.readyBoard()
	if err != nil {
		return 0, err
	}
	return current.board.OwnVisitors(domain, s.life(domain)), nil
}

// readyBoard returns the board and its hub. Its error wraps ErrNotReady.
func (s *Server) readyBoard() (*boardAndHub, error) {
	current := s.tail.current.Load()
	if ready, reason := s.Ready(); current == nil || !ready {
		return nil, fmt.Errorf("%w (%s)", ErrNotReady, reason)
	}
	return current, nil
}

// StreamEvents is GET /api/events: it authorizes a viewer and hands its connection to the push engine.
func (s *Server) StreamEvents(c *gin.Context, p api.StreamEventsParams) {
	key, err := streamKey(p)
	if err != nil {
		api.Refuse(c, http.StatusBadRequest, "%v", err)
		return
	}
	var names []string
	if p.Site != nil {
		names = *p.Site
	}
	domains, principals, err := s.access.AuthorizeAll(c, names)
	if err != nil {
		s.fail(c, err)
		return
	}
	lives := make([]board.Life, len(domains))
	for i, d := range domains {
		lives[i] = s.life(d)
	}
	key.Sites, key.Lives = hub.JoinSites(domains), hub.JoinLives(lives)
	s.wake(c.Request.Context())
	current, err := s.readyBoard()
	if err != nil {
		api.RefuseStream(c, "%v", err)
		return
	}
	addr, principal, err := s.limits.Acquire(c.ClientIP(), principals)
	if err != nil {
		s.metrics.refused.WithLabelValues("limit").Inc()
		api.RefuseStream(c, "%v", err)
		return
	}
	lifetime := float64(s.cfg.Lifetime) * (0.9 + 0.2*rand.Float64()) //nolint:gosec // jitter, no secret
	v := push.Viewer{Feed: key, Authorization: authorization{domains, principals}.String(),
		Slot: push.Slot{Addr: addr, Key: principal}, Deadline: time.Now().Add(time.Duration(lifetime))}
	if id := lastEventID(p); id != "" {
		v.Resume = s.gaps.resume(c.Request.Context(), current.board, id, key, domains, lives)
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	switch err := s.push.Serve(c.Writer, c.Request, current.hub, v); {
	case err == nil:
	case errors.Is(err, hub.ErrClosed), errors.Is(err, hub.ErrBehind):
		api.RefuseStream(c, "%v", err)
	default: // the connection is taken over and can carry no answer
		s.log.Warn("serve viewer", "error", err)
	}
	c.Abort()
}

// lastEventID returns the ID of the last message that a viewer received. The header of a browser that
// reconnects is newer than the query that it first connected with.
func lastEventID(p api.StreamEventsParams) string {
	switch {
	case p.LastEventID != nil:
		return *p.LastEventID
	case p.LastEventId != nil:
		return *p.LastEventId
	}
	return ""
}
