package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/httpserver"
	"nowcast/internal/process"
	"nowcast/internal/retry"
	"nowcast/internal/site"
)

const drainTime = 10 * time.Second // for running requests

// Flags that several commands share.
type (
	opsAddress struct {
		OpsListen string `default:"127.0.0.1:8081" placeholder:"ADDR" help:"Address for operators: /metrics, /healthz, /readyz, /debug/pprof/ (${default})."`
	}
	opsFlags struct {
		opsAddress
		Pprof        bool     `help:"Serve /debug/pprof/ also where --ops-listen isn't a loopback address."`
		AllowedHosts []string `placeholder:"HOST" help:"Further host names, as stats.example.com or *.example.com, by which clients may address the dashboard, the API and --ops-listen; IP addresses, localhost and the host of --public-url always may. Beacons need none."`
	}
	spoolFlags struct {
		SpoolSize int64         `default:"1024" placeholder:"MB" help:"How much may wait on disk while Kafka is down (${default} MB); then beacons get 503."`
		SpoolFree int64         `default:"256" placeholder:"MB" help:"How much of the disk has to stay free (${default} MB)."`
		SpoolAge  time.Duration `default:"24h" placeholder:"TIME" help:"How old the oldest event on disk may become (${default})."`
	}
	geoFlags struct {
		GeoFile string `placeholder:"FILE" help:"A database in the MaxMind format (GeoLite2-City.mmdb), for regions and cities too, instead of the countries built in; read again when it is replaced."`
	}
)

// host is the process that runs one or more roles.
type host struct {
	log     *slog.Logger
	health  *process.Health
	metrics *prometheus.Registry
	group   process.Group
	// what the process is degraded by while ClickHouse doesn't answer; see watchWarehouse
	needWarehouse []string
	// closed when the topics exist with the right settings; nil before kafka
	topicsReady <-chan struct{}
}

// newHost serves the ops address, so that /readyz answers from the process's first moment to its last.
func newHost(log *slog.Logger, f opsFlags, publicURL string) (*host, error) {
	hosts, err := f.hosts(publicURL)
	if err != nil {
		return nil, err
	}
	h := &host{log: log, health: process.NewHealth(), metrics: prometheus.NewRegistry()}
	h.metrics.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(), h.health.Metrics())
	l, err := httpserver.Listen(f.OpsListen)
	if err != nil {
		return nil, fmt.Errorf("--ops-listen: %w", err)
	}
	h.serve("ops", l, hosts.Handler(process.NewOps(h.health, h.metrics, f.Pprof || isLoopback(l.Addr()))))
	h.group.Add("memory", process.ReleaseMemory)
	return h, nil
}

// newWebHost is newHost for a role with a public address: it also listens there and makes the router.
func newWebHost(log *slog.Logger, ops opsFlags, web *webFlags) (*host, net.Listener, *gin.Engine, error) {
	if web.PublicURL == "" && web.ACME != "" {
		web.PublicURL = "https://" + web.ACME
	}
	if _, err := web.basePath(); err != nil {
		return nil, nil, nil, err
	}
	h, err := newHost(log, ops, web.PublicURL)
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := web.open(h)
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := h.engine(web)
	if err != nil {
		l.Close()
		return nil, nil, nil, err
	}
	h.publicHealth(e)
	return h, l, e, nil
}

// serveWeb answers on the public address, with and without the path of --public-url.
func (h *host) serveWeb(l net.Listener, handler http.Handler, web *webFlags, fastPaths ...string) {
	base, err := web.basePath()
	if err == nil && base != "" {
		for _, p := range slices.Clone(fastPaths) {
			fastPaths = append(fastPaths, base+p)
		}
	}
	h.serve("http", l, httpserver.StripBase(base, handler), fastPaths...)
}

// serve answers on l; fastPaths are answered past net/http where the request is plain.
func (h *host) serve(name string, l net.Listener, handler http.Handler, fastPaths ...string) {
	h.group.Add(name, func(ctx context.Context) error {
		return httpserver.Serve(ctx, l, handler, drainTime, fastPaths...)
	})
}

// add adds a part that reports whether it is ready. A part that is added after kafka starts once the topics
// exist with the right settings.
func (h *host) add(name string, part interface {
	Run(context.Context) error
	Ready() (bool, string)
}) {
	h.health.AddProbe(name, part.Ready)
	if d, ok := part.(degradable); ok {
		h.health.AddDegradedProbe(d.Degraded)
	}
	topicsReady := h.topicsReady
	h.group.Add(name, func(ctx context.Context) error {
		if topicsReady != nil {
			select {
			case <-topicsReady:
			case <-ctx.Done():
				return nil
			}
		}
		return part.Run(ctx)
	})
}

// run runs all parts until ctx ends. From then on the process isn't ready.
func (h *host) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		h.health.Set("process", "it is stopping")
		h.log.Info("stopping")
	})
	defer stop()
	return h.group.Run(ctx)
}

// prepare adds work that is done once: until it returns nil the process isn't ready, for the given reason.
func (h *host) prepare(name, reason string, work func(context.Context) error) {
	h.health.Set(name, reason)
	h.group.Add(name, func(ctx context.Context) error {
		err := work(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		h.health.Set(name, "")
		<-ctx.Done()
		return nil
	})
}

// untilDone repeats try until it succeeds, fails with a permanent error, or ctx ends. /readyz
// shows what it waits for at once, the log every few seconds.
func (h *host) untilDone(ctx context.Context, component, what string,
	try func(ctx context.Context, onError func(error)) error) error {
	const attempt = 5 * time.Second
	var last time.Time
	start := time.Now()
	for {
		limited, cancel := context.WithTimeout(ctx, attempt)
		reason := errors.New("no answer yet")
		setReason := func(err error) {
			reason = err
			h.health.Set(component, fmt.Sprintf("waiting for %s: %v", what, err))
		}
		pause := 200 * time.Millisecond
		err := try(limited, setReason)
		timedOut := limited.Err() != nil
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case broker.Denied(err): // until an operator has changed something on one of the two sides
			pause = 2 * time.Second
			setReason(err)
		case !timedOut:
			if errors.Is(err, broker.ErrMismatch) || !broker.Retryable(err) {
				return err
			}
			setReason(err)
		}
		if time.Since(last) >= attempt && time.Since(start) > time.Second {
			last = time.Now()
			h.log.Warn("waiting for "+what, "error", reason, "waited", time.Since(start).Round(time.Second))
		}
		_ = retry.Sleep(ctx, pause)
	}
}

// sites adds the registry of sites and keys.
func (h *host) sites(c *broker.Client) *site.Registry {
	r := site.NewRegistry(c, h.log)
	h.add("sites", r)
	return r
}

// erasures adds the view of the erasures.
func (h *host) erasures(c *broker.Client) *erasure.Log {
	l := erasure.NewLog(c, h.log)
	h.add("erasures", l)
	return l
}

// engine makes the router of the public address. It writes no access log, and a panic fails only its own
// request.
func (h *host) engine(f *webFlags) (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	if err := e.SetTrustedProxies(nil); err != nil { // ClientIP is RemoteAddr, and no header counts in gin
		return nil, fmt.Errorf("set up routes: %w", err)
	}
	proxies := f.proxies()
	e.Use(func(c *gin.Context) { proxies.SetClientAddress(c.Request) })
	e.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, cause any) {
		h.log.Error("a request failed", "path", c.Request.URL.Path, "panic", cause, "stack",
			string(debug.Stack()))
		refuseCaching(c)
		c.AbortWithStatusJSON(http.StatusInternalServerError,
			gin.H{"error": "this is an error in nowcast: see its log"})
	}))
	e.HandleMethodNotAllowed = true
	e.NoMethod(func(c *gin.Context) {
		methods := c.Writer.Header().Get("Allow")
		refuseCaching(c)
		c.JSON(http.StatusMethodNotAllowed, gin.H{
			"error": "that path takes " + methods + "; the contract is at /api/openapi.yaml"})
	})
	return e, nil
}

// refuseCaching sets what every answer in JSON has.
func refuseCaching(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
}
