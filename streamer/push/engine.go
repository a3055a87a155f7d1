// Package push brings frames to viewers.
//
// A viewer on plain TCP costs no goroutine and no buffer: its connection is taken from net/http and written to by one of a few threads
// with epoll, straight from the frame that all viewers of a feed share, and many viewers at once where the system has io_uring. Behind TLS
// or HTTP/2, and where there is no epoll, a viewer is an ordinary handler over the same frames.
//
// It promises that a viewer who doesn't read costs bounded memory and disturbs nobody: what was begun is finished first, then comes the
// newest state with the number of frames left out, and who takes nothing for Config.Blocked is let go.
package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/hub"
)

// Config says how viewers are served. The zero value has sane defaults.
type Config struct {
	Stall           time.Duration           // how long a viewer may take nothing; 30 s when 0
	Shards          int                     // threads that write; one a core when 0
	HandlersOnly    bool                    // serve everybody by ordinary handlers
	DisableIOURing  bool                    // one write(2) a viewer, also where many can be handed to the kernel at once
	Authorized      func(grant string) bool // whether what a viewer showed still lets it read; nil: always
	RecheckInterval time.Duration           // how often that is asked; 2 s when 0
	Release         func(Slot)              // called when a viewer is gone
}

// Slot is what a viewer counts for in limits, as its owner chooses.
type Slot struct{ Addr, Key uint64 }

// Viewer is one that is let in.
type Viewer struct {
	Feed       hub.FeedKey
	Resume     hub.Resume
	Credential string    // see Config.Holds
	Deadline   time.Time // when its connection ends, so that viewers move to other instances over time
	Slot       Slot
}

// Engine serves viewers. It outlives hubs.
type Engine struct {
	cfg     Config
	metrics *metrics
	grants  grants
	shards  []*shard
	next    atomic.Uint32
	open    atomic.Int64

	mu       sync.Mutex
	handlers map[*handler]struct{}
}

// The reasons for which a stream ends.
const (
	Gone            = "gone"     // the viewer left
	Blocked         = "blocked"  // the viewer took nothing for too long
	Lifetime        = "lifetime" // it was open for long enough
	Revoked         = "revoked"  // what it showed no longer lets it read
	reasonRestarted = "anew"     // the windows begin anew
	Drained         = "drained"  // this instance stops
)

// New makes an engine; Run works it.
func New(cfg Config, reg prometheus.Registerer) (*Engine, error) {
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	if cfg.Shards == 0 {
		cfg.Shards = runtime.GOMAXPROCS(0)
	}
	if cfg.RecheckInterval == 0 {
		cfg.RecheckInterval = 2 * time.Second
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, metrics: m, handlers: map[*handler]struct{}{}}
	if !cfg.HandlersOnly {
		for range cfg.Shards {
			s, err := newShard(e)
			if errors.Is(err, errors.ErrUnsupported) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("set up epoll: %w", err)
			}
			e.shards = append(e.shards, s)
		}
	}
	return e, nil
}

// Run serves until ctx ends, and then lets everybody go at once; Drain before does it gently.
func (e *Engine) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range e.shards {
		wg.Go(s.run)
	}
	tick := time.NewTicker(e.cfg.RecheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.recheck()
		case <-ctx.Done():
			for _, s := range e.shards {
				s.put(op{kind: opStop})
			}
			e.endHandlers(Drained, func(*handler) bool { return true })
			return
		}
	}
}

// Viewers is how many viewers there are.
func (e *Engine) Viewers() int { return int(e.open.Load()) }

// recheck lets those go who may no longer read.
func (e *Engine) recheck() {
	if e.cfg.Authorized == nil {
		return
	}
	for _, id := range e.grants.without(e.cfg.Authorized) {
		for _, s := range e.shards {
			s.put(op{kind: opRevoke, grant: id})
		}
		e.endHandlers(Revoked, func(h *handler) bool { return h.grant == id })
	}
}

// EndAll lets everybody go, to come back to the seconds of a new log.
func (e *Engine) EndAll() {
	for _, s := range e.shards {
		s.put(op{kind: opAnew})
	}
	e.endHandlers(reasonRestarted, func(*handler) bool { return true })
}

// Drain lets everybody go at a pace that the other instances can take: within four fifths of the time given, but no more than a thousand a
// second where that is enough. Each is told to come back after a random moment. A machine that is late makes up for it, though not at once.
func (e *Engine) Drain(ctx context.Context, within time.Duration) {
	const tick, most = 20 * time.Millisecond, 100 * time.Millisecond
	pace := max(1000, float64(e.Viewers())/(0.8*within.Seconds()))
	timer := time.NewTicker(tick)
	defer timer.Stop()
	owed, last := 1.0, time.Now()
	for next := 0; e.Viewers() > 0; {
		for ; owed >= 1; owed-- {
			if n := len(e.shards); n > 0 {
				next++
				e.shards[next%n].put(op{kind: opDrain})
			}
			e.endOne()
		}
		select {
		case <-timer.C:
			now := time.Now()
			owed, last = owed+pace*min(most, now.Sub(last)).Seconds(), now
		case <-ctx.Done():
			return
		}
	}
}

// retry tells a browser when to come back: soon, but not all at once.
func retry() []byte { return fmt.Appendf(nil, "retry: %d\n\n", 300+rand.IntN(1200)) } //nolint:gosec // jitter, no secret

// head is the response's head as it is sent on a connection that was taken from net/http. The body ends with the connection.
func head(h http.Header) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(&b)
	b.WriteString("Connection: close\r\nDate: ")
	b.WriteString(time.Now().UTC().Format(http.TimeFormat))
	b.WriteString("\r\n\r\n")
	b.Write(opening)
	return b.Bytes()
}

var opening = []byte("retry: 1000\n\n")

// Serve streams to a viewer. The response's headers are those of w. Where the connection can be taken over it returns at once, else when
// the stream ends. An error says that nothing was sent.
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, h *hub.Hub, v Viewer) error {
	e.open.Add(1)
	if len(e.shards) > 0 && r.ProtoMajor == 1 && r.TLS == nil {
		s := e.shards[int(e.next.Add(1))%len(e.shards)]
		taken, err := s.adopt(w, h, v)
		if taken || err != nil {
			return e.refused(v, err)
		}
	}
	return e.refused(v, e.handle(w, r, h, v))
}

func (e *Engine) refused(v Viewer, err error) error {
	if err != nil {
		e.left(v.Slot)
	}
	return err
}

// left is called once for every viewer that was counted.
func (e *Engine) left(s Slot) {
	e.open.Add(-1)
	if e.cfg.Release != nil {
		e.cfg.Release(s)
	}
}

// grants numbers what viewers showed, so that a viewer needs only a number. They are few: as many as keys, links and public sites.
type grants struct {
	mu    sync.Mutex
	ids   map[string]int32
	names []string
	used  []int32
	free  []int32
}

func (g *grants) take(name string) int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids == nil {
		g.ids = map[string]int32{}
	}
	id, ok := g.ids[name]
	if !ok {
		if n := len(g.free); n > 0 {
			id, g.free = g.free[n-1], g.free[:n-1]
		} else {
			id = int32(len(g.names)) //nolint:gosec // bounded by the viewers
			g.names, g.used = append(g.names, ""), append(g.used, 0)
		}
		g.ids[name], g.names[id] = id, name
	}
	g.used[id]++
	return id
}

func (g *grants) leave(id int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.used[id]--; g.used[id] == 0 {
		delete(g.ids, g.names[id])
		g.names[id] = ""
		g.free = append(g.free, id)
	}
}

// without returns those that don't hold any more.
func (g *grants) without(holds func(string) bool) (gone []int32) {
	g.mu.Lock()
	names := make(map[int32]string, len(g.ids))
	for name, id := range g.ids {
		names[id] = name
	}
	g.mu.Unlock()
	for id, name := range names {
		if !holds(name) {
			gone = append(gone, id)
		}
	}
	return gone
}
