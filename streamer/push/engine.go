// Package push writes the frames of package hub to the connections of viewers.
//
// A viewer on plain TCP has neither a goroutine nor a buffer in this process. Serve takes its connection
// from net/http, and one of Config.Shards threads writes every frame from the memory that all viewers of
// the feed share. A thread waits for its sockets with epoll(7). Where the kernel has io_uring(7), one
// system call sends a frame to many viewers. A viewer behind TLS or HTTP/2, and every viewer on a system
// without epoll, is served by a net/http handler.
//
// A viewer that reads more slowly than its feed sends costs bounded memory and delays no other viewer.
// The message that is on its way is finished; then one frame brings the viewer to the newest state and
// says how many frames it replaces. A viewer that takes no byte for Config.Stall is disconnected.
package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"nowcast/streamer/hub"
)

// Config says how viewers are served. Its zero value is ready to use.
type Config struct {
	Stall          time.Duration // longest time in which a viewer takes no byte; 0: 30 s
	Shards         int           // threads that write; 0: one for each core
	HandlersOnly   bool          // every viewer is served by a net/http handler
	DisableIOURing bool          // frames are sent by write(2) also where the kernel has io_uring

	// Authorized reports whether an authorization is still valid; nil: it always is. It is called every
	// RecheckInterval (0: 2 s) for each authorization in use.
	Authorized      func(authorization string) bool
	RecheckInterval time.Duration

	Release func(Slot) // is called once for each viewer when its stream ends; nil: it isn't
}

// Slot is what a viewer counts as in the connection limits. Its owner chooses the values.
type Slot struct{ Addr, Key uint64 }

// Viewer is a stream that may be opened.
type Viewer struct {
	Feed          hub.FeedKey
	Resume        hub.Resume
	Authorization string    // passed to Config.Authorized
	Deadline      time.Time // the stream ends then, so that viewers spread over new instances
	Slot          Slot
}

// Engine serves viewers. It outlives the hubs whose frames it sends.
type Engine struct {
	cfg            Config
	now            func() time.Time // the clock of stalls and deadlines
	metrics        *metrics
	authorizations authorizationTable
	shards         []*shard
	nextShard      atomic.Uint32
	viewers        atomic.Int64
	recheckTick    *time.Ticker // ticks while there are viewers
	handlers       handlerSet
}

// endReason is the label of a stream's end in streams_ended_total.
type endReason string

const (
	reasonGone      endReason = "gone"      // the viewer closed its connection
	reasonBlocked   endReason = "blocked"   // the viewer took no byte for Config.Stall
	reasonLifetime  endReason = "lifetime"  // Viewer.Deadline has passed
	reasonRevoked   endReason = "revoked"   // the viewer's authorization is no longer valid
	reasonRestarted endReason = "restarted" // the board that the frames came from has ended
	reasonDrained   endReason = "drained"   // this instance stops
)

// New validates cfg, registers the metrics and opens the shards' descriptors; it starts nothing.
func New(cfg Config, reg prometheus.Registerer) (*Engine, error) {
	cfg.Stall = cmp.Or(cfg.Stall, 30*time.Second)
	cfg.Shards = cmp.Or(cfg.Shards, runtime.GOMAXPROCS(0))
	cfg.RecheckInterval = cmp.Or(cfg.RecheckInterval, 2*time.Second)
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, now: time.Now, metrics: m, recheckTick: time.NewTicker(cfg.RecheckInterval)}
	e.recheckTick.Stop()
	if cfg.HandlersOnly {
		return e, nil
	}
	for range cfg.Shards {
		s, err := newShard(e)
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			for _, opened := range e.shards {
				opened.closeDescriptors()
			}
			return nil, fmt.Errorf("set up epoll: %w", err)
		}
		e.shards = append(e.shards, s)
	}
	return e, nil
}

// Run serves until ctx ends and then ends all streams at once; Drain before that ends them gradually.
// The error is that of a system call that can fail only because of a defect of this package.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range e.shards {
		g.Go(s.run)
	}
	g.Go(func() error {
		e.recheckUntil(ctx)
		e.endEach(op{kind: opStop}, reasonDrained, nil)
		return nil
	})
	return g.Wait()
}

// Viewers is the number of open streams.
func (e *Engine) Viewers() int { return int(e.viewers.Load()) }

// recheckUntil ends, until ctx ends, the streams whose authorization is no longer valid.
func (e *Engine) recheckUntil(ctx context.Context) {
	defer e.recheckTick.Stop()
	for {
		select {
		case <-e.recheckTick.C:
			e.recheck()
			if e.Viewers() > 0 {
				continue
			}
			e.recheckTick.Stop()
			if e.Viewers() > 0 { // one has come meanwhile
				e.recheckTick.Reset(e.cfg.RecheckInterval)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) recheck() {
	if e.cfg.Authorized == nil {
		return
	}
	for _, id := range e.authorizations.revoked(e.cfg.Authorized) {
		matches := func(h *handler) bool { return h.authorization == id }
		e.endEach(op{kind: opRevoke, authorization: id}, reasonRevoked, matches)
	}
}

// EndAll ends all streams; their clients reconnect, to the frames of another hub.
func (e *Engine) EndAll() { e.endEach(op{kind: opEndAll}, reasonRestarted, nil) }

// endEach queues o at every shard and ends the handlers that match; a nil match is all.
func (e *Engine) endEach(o op, reason endReason, match func(*handler) bool) {
	for _, s := range e.shards {
		s.ops.put(o)
	}
	e.handlers.end(reason, match)
}

// Drain ends all streams at a rate that the other instances can take: 1,000 a second, or more where that
// is needed to end all within four fifths of within. Each client is told to reconnect after a random
// delay. Drain returns when no stream is open, at the latest when ctx ends.
func (e *Engine) Drain(ctx context.Context, within time.Duration) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	p := newPacer(max(1000, float64(e.Viewers())/(0.8*within.Seconds())), time.Now())
	for turn := 0; e.Viewers() > 0; {
		for range p.take(time.Now()) {
			if n := len(e.shards); n > 0 {
				turn++
				e.shards[turn%n].ops.put(op{kind: opEndOne})
			}
			e.handlers.endOne()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// pacer spreads work over time. It is a token bucket that holds at most what maxPacerGap earns, so that
// a process that was stopped for a while catches up, but not in one burst.
type pacer struct {
	rate   float64 // tokens a second
	tokens float64
	last   time.Time
}

const maxPacerGap = 100 * time.Millisecond

// newPacer makes a pacer that holds one token.
func newPacer(rate float64, now time.Time) pacer { return pacer{rate: rate, tokens: 1, last: now} }

// take returns the whole tokens that are there now, and removes them.
func (p *pacer) take(now time.Time) int {
	p.tokens += p.rate * min(maxPacerGap, now.Sub(p.last)).Seconds()
	p.last = now
	n := int(p.tokens)
	p.tokens -= float64(n)
	return n
}

// Serve streams to a viewer. The response's headers are those of w. Where the connection can be taken
// from net/http, Serve returns at once; otherwise it returns when the stream ends. After an error of
// package hub nothing has been written, and the caller may answer; after any other error the connection
// is closed.
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, h *hub.Hub, v Viewer) error {
	if e.viewers.Add(1) == 1 {
		e.recheckTick.Reset(e.cfg.RecheckInterval)
	}
	err := e.serve(w, r, h, v)
	if err != nil {
		e.release(v.Slot)
	}
	return err
}

func (e *Engine) serve(w http.ResponseWriter, r *http.Request, h *hub.Hub, v Viewer) error {
	if len(e.shards) > 0 && r.ProtoMajor == 1 && r.TLS == nil {
		s := e.shards[int(e.nextShard.Add(1))%len(e.shards)]
		if adopted, err := s.adopt(w, h, v); adopted || err != nil {
			return err
		}
	}
	return e.handle(w, r, h, v)
}

// release is called once for each viewer that Serve has counted.
func (e *Engine) release(s Slot) {
	e.viewers.Add(-1)
	if e.cfg.Release != nil {
		e.cfg.Release(s)
	}
}
