// Package streamer shows what the aggregator found: live over Server-Sent Events, and as answers about history. It also has the
// administration of sites and keys, and serves the dashboard.
//
// It promises that a viewer who stays connected, or comes back within five minutes to any instance, is given every final second once;
// that a viewer who stops reading costs bounded memory and disturbs nobody; and that a live frame never waits for ClickHouse. When the
// log stands still viewers get heartbeats only, so that nothing old looks like news.
package streamer

import (
	"context"
	_ "embed" // the contract
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
	"nowcast/internal/window"
	"nowcast/streamer/api"
	"nowcast/streamer/board"
	"nowcast/streamer/hub"
	"nowcast/streamer/push"
	"nowcast/streamer/query"
)

//go:embed openapi.yaml
var contract []byte

// Config is the streamer's own.
type Config struct {
	PublicURL   string        // where browsers find this, e.g. https://stats.example.com; cookies are Secure when it is https
	DefaultSite string        // of GET /api/events without a site; the first one made when empty
	AdminKey    string        // an admin key beside those in the log; none when empty
	Dashboard   fs.FS         // the built frontend; nil: a page says how to build it
	Version     string        // of the program
	Lifetime    time.Duration // of a stream, ± 10 %; an hour when 0
	Blocked     time.Duration // how long a viewer may take nothing; 30 s when 0
	Transport   Transport     // how viewers are served; the best there is when empty
	Limits      Limits
	History     query.Config // what questions about history may cost
}

// Transport is how viewers are served.
type Transport string

// The transports that can be asked for; without, it is io_uring where the system has it, else Writes, and Handlers behind TLS and HTTP/2.
const (
	Writes   Transport = "epoll"    // a write(2) a viewer and frame
	Handlers Transport = "handlers" // a goroutine a viewer
)

// Deps are what it works with.
type Deps struct {
	Broker    *broker.Client
	Warehouse *warehouse.DB
	Sites     *site.Registry
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service is one streamer.
type Service struct {
	cfg     Config
	kafka   *broker.Client
	sites   *site.Registry
	log     *slog.Logger
	history *query.Engine
	past    past // history, as far as streams need it; nil: there is none
	secure  bool
	metrics *metrics
	push    *push.Engine
	seats   *seats
	live    atomic.Pointer[live] // nil until the number of partitions is known
	asking  singleflight.Group   // see committed

	mu    sync.Mutex
	cold  int    // partitions that haven't reached the end seen at start
	state string // why it isn't ready; "" when it is
}

// past tells of seconds that the board has no more.
type past interface {
	Seconds(ctx context.Context, domain string, from, to int64) ([]query.WindowSecond, error)
}

// live is what is read of one windows topic, and the frames made of it.
type live struct {
	board *board.Board
	hub   *hub.Hub
}

var _ api.ServerInterface = (*Service)(nil)

// New wires a streamer and starts nothing.
func New(cfg Config, d Deps) (*Service, error) {
	u, err := url.Parse(cfg.PublicURL)
	if err != nil || cfg.PublicURL != "" && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the public URL %q has to begin with http:// or https://", cfg.PublicURL)
	}
	if cfg.AdminKey != "" && (!strings.HasPrefix(cfg.AdminKey, "nck_") || len(cfg.AdminKey) < 20) {
		return nil, errors.New("the admin key has to begin with nck_ and have at least 20 characters")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = time.Hour
	}
	s := &Service{cfg: cfg, kafka: d.Broker, sites: d.Sites, log: d.Log, secure: u.Scheme == "https", seats: newSeats(cfg.Limits),
		state: "reading the windows from Kafka"}
	if d.Warehouse != nil {
		cfg.History.Metrics = d.Metrics
		s.history = query.New(d.Warehouse, cfg.History)
		s.past = s.history
	}
	if s.metrics, err = newMetrics(d.Metrics); err != nil {
		return nil, err
	}
	s.push, err = push.New(push.Config{Stall: cfg.Blocked, HandlersOnly: cfg.Transport == Handlers, DisableIOURing: cfg.Transport == Writes, Authorized: s.stillHolds, Release: s.seats.leave}, d.Metrics)
	if err != nil {
		return nil, fmt.Errorf("set up streams: %w", err)
	}
	return s, nil
}

// Routes adds the streamer's side of the contract, the login and, where r is the whole engine, the dashboard on every other path.
func (s *Service) Routes(r gin.IRouter) {
	api.RegisterHandlersWithOptions(r, s, api.GinServerOptions{
		Middlewares: []api.MiddlewareFunc{func(c *gin.Context) { s.known(c) }},
		ErrorHandler: func(c *gin.Context, err error, status int) {
			refuse(c, status, "%v", err)
		}})
	r.GET("/api/openapi.yaml", func(c *gin.Context) { c.Data(200, "application/yaml; charset=utf-8", contract) })
	r.GET("/login", s.login)
	r.POST("/logout", s.logout)
	s.accessRoutes(r)
	if e, ok := r.(*gin.Engine); ok {
		e.NoRoute(s.pages)
	}
}

// Ready says whether frames are complete, and why not.
func (s *Service) Ready() (ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == "", s.state
}

func (s *Service) say(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// warmth is how far back a start reads: what a viewer can see, and some room for clocks.
const warmth = 6 * time.Minute

// drainTime is for letting all viewers go when the process ends.
const drainTime = 20 * time.Second

// Drain waits until ctx ends, and then lets the viewers go one after the other, so that the instances to which they go never see more than
// a pace of them, while those that are left go on seeing every second. It is to end before the service and its HTTP server do.
func (s *Service) Drain(ctx context.Context) error {
	<-ctx.Done()
	s.seats.refuse()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime+time.Second)
	defer cancel()
	if n := s.push.Viewers(); n > 0 {
		s.log.Info("letting viewers go", "viewers", n)
	}
	s.push.Drain(limited, drainTime)
	return nil
}

// Run tails all partitions of the windows topic, and serves viewers, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.push.Run(ctx) })
	for {
		err := s.tail(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.say(fmt.Sprintf("reading the windows from Kafka: %v", err))
		s.push.EndAll() // whoever is on the board that has ended
		if errors.Is(err, broker.ErrTopicRecreated) {
			s.log.Error("the windows topic was made anew: beginning with its log", "error", err)
		}
		s.kafka.Refresh()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) tail(ctx context.Context) error {
	n, err := s.kafka.Partitions(ctx, topic.Windows)
	if err != nil {
		return err
	}
	type start struct{ from, end int64 }
	starts := make([]start, n)
	for p := range starts {
		if starts[p].from, err = s.kafka.OffsetAt(ctx, topic.Windows, p, time.Now().Add(-warmth)); err != nil {
			return err
		}
		if _, starts[p].end, err = s.kafka.Bounds(ctx, topic.Windows, p); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b := board.New(n)
	l := &live{b, hub.New(b)}
	s.live.Store(l)
	s.mu.Lock()
	s.cold = n
	s.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.hub.Run(ctx) })
	for p, at := range starts {
		wg.Go(func() {
			warm := false
			var e window.Emission
			// One that was made anew has other seconds than the board: a new board begins with its log.
			stop(s.kafka.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: p, From: at.from, KnownEnd: at.end, RecreationGrace: broker.RecreationGrace,
				Record: func(r broker.Record) error {
					if err := e.Decode(r.Value); err != nil {
						s.metrics.unreadable.Inc()
						s.log.Warn("passed over a record of the windows topic", "partition", p, "offset", r.Offset, "error", err)
						return nil
					}
					b.Apply(p, r.Offset, &e)
					return nil
				},
				Batch: func(next, _ int64) error {
					if !warm && next >= at.end {
						warm = true
						s.warmed()
					}
					return nil
				},
				Gap:  func(g broker.Gap) { s.log.Warn("windows are gone before they were read", "gap", g.String()) },
				Fail: func(err error) { s.metrics.fetchErrors.Inc(); s.log.Debug("fetch windows", "error", err) },
			}))
		})
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s *Service) warmed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cold--; s.cold == 0 {
		s.state = ""
	}
}

type metrics struct {
	unreadable, fetchErrors prometheus.Counter
	refused, gaps           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "nowcast", Subsystem: "streamer", Name: name, Help: help}
	}
	m := &metrics{
		unreadable:  prometheus.NewCounter(opts("unreadable_windows_total", "Records of the windows topic that could not be read.")),
		fetchErrors: prometheus.NewCounter(opts("fetch_errors_total", "Fetches of the windows topic that failed and were tried again.")),
		refused:     prometheus.NewCounterVec(opts("streams_refused_total", "Streams that were not opened, by reason."), []string{"reason"}),
		gaps:        prometheus.NewCounterVec(opts("gaps_total", "Viewers that came back for more than the live windows hold, by how it was answered (filled, reset)."), []string{"answer"}),
	}
	for _, c := range []prometheus.Collector{m.unreadable, m.fetchErrors, m.refused, m.gaps} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metric: %w", err)
		}
	}
	return m, nil
}
