// Package streamer wires the live view, history, administration and access control, and routes requests to
// them.
package streamer

import (
	"bytes"
	"context"
	_ "embed" // the contract
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/site"
	"nowcast/internal/warehouse"
	"nowcast/streamer/access"
	"nowcast/streamer/admin"
	"nowcast/streamer/api"
	"nowcast/streamer/backfill"
	"nowcast/streamer/behaviour"
	"nowcast/streamer/board"
	"nowcast/streamer/eraser"
	"nowcast/streamer/exporter"
	"nowcast/streamer/history"
	"nowcast/streamer/importer"
	"nowcast/streamer/live"
	"nowcast/streamer/retention"
)

//go:embed openapi.yaml
var contract []byte

// Config configures the parts.
type Config struct {
	Access    access.Config
	Limits    access.Limits
	Live      live.Config
	History   history.Config // Metrics is set by New
	Dashboard fs.FS          // the built frontend; nil: a page says how to build it
	Version   string         // of the program
}

// Deps are what a Service works with.
type Deps struct {
	Broker    *broker.Client
	Warehouse *warehouse.DB // nil: history is unavailable
	Sites     *site.Registry
	Erasures  *erasure.Log // nil: nothing can be erased
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Service is one streamer.
type Service struct {
	log       *slog.Logger
	sites     *site.Registry
	access    *access.Control
	live      *live.Server
	handlers  handlers
	eraser    *eraser.Worker // nil: there is no ClickHouse
	retention *retention.Worker
	backfill  *backfill.Worker
	dashboard dashboard
}

// handlers implements api.ServerInterface by embedding the handlers of the parts.
type handlers struct {
	*accessHandlers
	*adminHandlers
	*historyHandlers
	*behaviourHandlers
	*eraserHandlers
	*importHandlers
	*exportHandlers
	*live.Server
}

type (
	accessHandlers    = access.Handlers
	adminHandlers     = admin.Handlers
	historyHandlers   = history.Handlers
	behaviourHandlers = behaviour.Handlers
	eraserHandlers    = eraser.Handlers
	importHandlers    = importer.Handlers
	exportHandlers    = exporter.Handlers
)

var _ api.ServerInterface = handlers{}

// New wires a streamer and starts nothing.
func New(cfg Config, d Deps) (*Service, error) {
	cfg.Access.Metrics = d.Metrics
	control, err := access.New(cfg.Access, d.Sites)
	if err != nil {
		return nil, err
	}
	s := &Service{log: d.Log, sites: d.Sites, access: control}
	s.dashboard = dashboard{files: cfg.Dashboard, base: control.BasePath(),
		frameAncestors: control.FrameAncestors, fail: s.fail}
	deps := live.Deps{Broker: d.Broker, Access: control, Limits: access.NewLimiter(cfg.Limits), Fail: s.fail,
		Life: lives(d.Sites), Log: d.Log, Metrics: d.Metrics}
	var engine *history.Engine
	if d.Warehouse != nil {
		cfg.History.Metrics = d.Metrics
		if engine, err = history.New(d.Warehouse, cfg.History); err != nil {
			return nil, err
		}
		deps.History = storedSeconds{engine, d.Sites}
	}
	if s.live, err = live.New(cfg.Live, deps); err != nil {
		return nil, err
	}
	importing := importer.NewHandlers(nil, d.Sites, control, s.fail)
	exporting := exporter.NewHandlers(exporter.Config{}, nil, d.Sites, control, d.Log, s.fail)
	if d.Warehouse != nil {
		importing = importer.NewHandlers(d.Warehouse, d.Sites, control, s.fail)
		exporting = exporter.NewHandlers(exporter.Config{}, d.Warehouse, d.Sites, control, d.Log, s.fail)
	}
	erasing := eraser.NewHandlers(d.Erasures, nil, d.Sites, control, s.fail)
	if d.Warehouse != nil && d.Erasures != nil {
		erasing = eraser.NewHandlers(d.Erasures, d.Warehouse, d.Sites, control, s.fail)
		s.eraser, err = eraser.New(d.Erasures, d.Warehouse, d.Broker, d.Sites, d.Log, d.Metrics)
		if err != nil {
			return nil, err
		}
		policy := func() retention.Policy { return policyOf(d.Sites) }
		if s.retention, err = retention.New(d.Warehouse, policy, d.Log, d.Metrics); err != nil {
			return nil, err
		}
		zones := func() map[string]string { return zonesOf(d.Sites) }
		s.backfill = backfill.New(d.Warehouse, zones, d.Log)
	}
	s.handlers = handlers{
		access.NewHandlers(control, cfg.Version, s.fail),
		admin.New(d.Sites, control, erasing, history.CheckFilters, s.fail),
		history.NewHandlers(engine, s.live, control, d.Sites.Goals, s.fail),
		behaviour.NewHandlers(engine, control, s.fail),
		erasing,
		importing,
		exporting,
		s.live,
	}
	return s, nil
}

// activeSpan is how long, in seconds, after its last event a visitor may be counted as active, with what
// clocks differ and an instance takes to know of a removal.
const activeSpan = 5*60 + 10

// lives returns which seconds of a domain are those of its site in the registry.
func lives(sites *site.Registry) func(domain string) board.Life {
	return func(domain string) board.Life {
		st, ok := sites.Lookup(domain)
		switch {
		case !ok:
			return board.Life{Since: math.MaxInt64}
		case st.Previous.IsZero():
			return board.Life{Since: st.Created.Unix()}
		}
		return board.Life{Since: st.Created.Unix(), MixedUntil: st.Previous.Unix() + activeSpan}
	}
}

// storedSeconds adapts history.Engine to live's history interface.
type storedSeconds struct {
	engine *history.Engine
	sites  *site.Registry
}

func (s storedSeconds) Seconds(ctx context.Context, domain string, from, to int64) ([]board.Second, error) {
	st, _ := s.sites.Lookup(domain)
	from = max(from, time.Now().UTC().AddDate(0, 0, -st.Retention()).Unix())
	seconds, err := s.engine.Seconds(ctx, domain, from, to)
	if err != nil {
		return nil, err
	}
	out := make([]board.Second, len(seconds))
	for i, x := range seconds {
		out[i] = board.Second{At: x.At, Pageviews: x.Pageviews, Visitors: x.Visitors, Events: x.Events,
			Revision: x.Revision, Final: true}
	}
	return out, nil
}

// Routes adds the routes of openapi.yaml except ingest's, the login, and, if r is a *gin.Engine, the
// dashboard for all other paths.
func (s *Service) Routes(r gin.IRouter) {
	engine, isEngine := r.(*gin.Engine)
	r = r.Group("", s.access.SecureHeaders, s.access.RequireHost)
	api.RegisterHandlersWithOptions(r, s.handlers, api.GinServerOptions{
		Middlewares:  []api.MiddlewareFunc{s.authenticate, api.CheckQuery},
		ErrorHandler: func(c *gin.Context, err error, status int) { api.Refuse(c, status, "%v", err) },
	})
	served := contract
	if base := s.access.BasePath(); base != "" {
		served = bytes.Replace(contract, []byte("\n  - url: /\n"), []byte("\n  - url: "+base+"\n"), 1)
	}
	r.GET("/api/openapi.yaml", func(c *gin.Context) {
		c.Header("Cache-Control", "no-cache")
		c.Data(http.StatusOK, "application/yaml; charset=utf-8", served)
	})
	s.handlers.Routes(r) // those of access that are not in the contract
	if isEngine {
		engine.NoRoute(s.access.SecureHeaders, s.access.RequireHost, s.dashboard.serve)
	}
}

// authenticate is the middleware of the contract's operations.
func (s *Service) authenticate(c *gin.Context) {
	if !s.access.RequireSites(c) {
		return
	}
	s.access.AwaitSession(c)
	if err := s.access.LimitFailures(c); err != nil {
		s.fail(c, err)
		return
	}
	s.access.RenewSession(c)
}

// policyOf returns how long the sites keep their rows.
func policyOf(sites *site.Registry) retention.Policy {
	p := retention.Policy{Default: site.DefaultRetentionDays, Sites: map[string]int{}}
	for _, st := range sites.Sites() {
		if days := st.Retention(); days != p.Default {
			p.Sites[st.Domain] = days
		}
	}
	return p
}

// zonesOf returns the sites' time zones.
func zonesOf(sites *site.Registry) map[string]string {
	zones := map[string]string{}
	for _, st := range sites.Sites() {
		zones[st.Domain] = st.Timezone
	}
	return zones
}

// Viewers returns how many streams are open.
func (s *Service) Viewers() int { return s.live.Viewers() }

// Ready reports whether the live view can be served, and if not, why.
func (s *Service) Ready() (ok bool, reason string) { return s.live.Ready() }

// Degraded says what the live view lacks, and why, by component.
func (s *Service) Degraded() map[string]string { return s.live.Degraded() }

// Drain waits until ctx ends and then disconnects the viewers; see live.Server.Drain. It has to return
// before the service and its HTTP server end.
func (s *Service) Drain(ctx context.Context) error { return s.live.Drain(ctx) }

// Run tails the windows topic, serves viewers and looks after the rows of ClickHouse until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var erasing sync.WaitGroup // and other work on rows
	defer erasing.Wait()
	if s.eraser != nil {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		erasing.Go(func() { s.eraser.Run(ctx) })
		erasing.Go(func() {
			if s.sites.Wait(ctx) == nil {
				s.retention.Run(ctx)
			}
		})
		erasing.Go(func() {
			if s.sites.Wait(ctx) == nil {
				s.backfill.Run(ctx)
			}
		})
	}
	return s.live.Run(ctx)
}
