package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
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
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

const drainTime = 10 * time.Second // for running requests

// Flags that several commands share.
type (
	opsFlags struct {
		OpsListen string `default:"127.0.0.1:8081" placeholder:"ADDR" help:"Address for operators: /metrics, /healthz, /readyz, /debug/pprof/ (${default})."`
	}
	webFlags struct {
		Listen         string    `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address for browsers and beacons (${default})."`
		TrustedProxies []network `placeholder:"CIDR" help:"Networks of proxies that may name a visitor's address by X-Forwarded-For."`
	}
	spoolFlags struct {
		SpoolSize int64         `default:"1024" placeholder:"MB" help:"How much may wait on disk while Kafka is down (${default} MB); then beacons get 503."`
		SpoolFree int64         `default:"256" placeholder:"MB" help:"How much of the disk has to stay free (${default} MB)."`
		SpoolAge  time.Duration `default:"24h" placeholder:"TIME" help:"How old the oldest event on disk may become (${default})."`
	}
	geoFlags struct {
		GeoFile string `placeholder:"FILE" help:"A database in the MaxMind format (GeoLite2-City.mmdb), for regions and cities too, instead of the countries built in; read again when it is replaced."`
	}
	kafkaFlags struct {
		Kafka []string `required:"" placeholder:"HOST:PORT" help:"One or more of Kafka's brokers."`
	}
	clickhouseFlags struct {
		Clickhouse string `required:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user:password@host:9000/database."`
	}
)

// open listens on the public address. A role does it first, so that an address in use is reported before
// anything starts.
func (f *webFlags) open() (net.Listener, error) {
	l, err := httpserver.Listen(f.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	return l, nil
}

// network is a CIDR prefix or a single address.
type network struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.0/8, 2001:db8::/32 or a single address.
func (n *network) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%q is no network: give one as 10.0.0.0/8", b)
	}
	n.Prefix = p.Masked()
	return nil
}

func (f *webFlags) proxies() []netip.Prefix {
	var out []netip.Prefix
	for _, n := range f.TrustedProxies {
		out = append(out, n.Prefix)
	}
	return out
}

// host is the process that runs one or more roles.
type host struct {
	log     *slog.Logger
	health  *process.Health
	metrics *prometheus.Registry
	group   process.Group
	// closed when the topics exist with the right settings; nil before kafka
	topicsReady <-chan struct{}
}

// newHost serves the ops address, so that /readyz answers from the process's first moment to its last.
func newHost(log *slog.Logger, f opsFlags) (*host, error) {
	h := &host{log: log, health: process.NewHealth(), metrics: prometheus.NewRegistry()}
	h.metrics.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	l, err := httpserver.Listen(f.OpsListen)
	if err != nil {
		return nil, fmt.Errorf("--ops-listen: %w", err)
	}
	h.serve("ops", l, process.NewOps(h.health, h.metrics))
	return h, nil
}

// newWebHost is newHost for a role with a public address: it also listens there and makes the router.
func newWebHost(log *slog.Logger, ops opsFlags, web *webFlags) (*host, net.Listener, *gin.Engine, error) {
	h, err := newHost(log, ops)
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := web.open()
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := h.engine(web)
	if err != nil {
		l.Close()
		return nil, nil, nil, err
	}
	return h, l, e, nil
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

// kafka makes the client and adds the work of making or checking its topics. With partitions 0 the events
// topic has to exist, and the others get as many partitions and replicas as it has.
func (h *host) kafka(addrs []string, partitions int) *broker.Client {
	c := newBroker(addrs)
	ready := make(chan struct{})
	h.topicsReady = ready
	h.prepare("kafka", "waiting for Kafka to answer", func(ctx context.Context) error {
		err := h.untilDone(ctx, "kafka", "Kafka at "+fmt.Sprint(addrs),
			func(ctx context.Context, onError func(error)) error {
				return ensureTopics(ctx, c, partitions, onError)
			})
		if err == nil {
			close(ready)
		}
		return err
	})
	return c
}

// ensureTopics makes or checks the topics; see kafka.
func ensureTopics(ctx context.Context, c *broker.Client, partitions int, onError func(error)) error {
	replicas := 1
	if partitions == 0 {
		var err error
		if partitions, replicas, err = c.Shape(ctx, topic.Events); err != nil {
			c.Refresh()
			if errors.Is(err, broker.ErrUnknownTopic) {
				return fmt.Errorf("topic %s is missing, make the topics with `nowcast topics`: %w",
					topic.Events, err)
			}
			return err
		}
	}
	return c.Ensure(ctx, topic.Specs(partitions, replicas), onError)
}

func newBroker(addrs []string) *broker.Client {
	topics := []string{topic.Events, topic.Windows, topic.Sites, topic.Salts, topic.DeadLetter,
		topic.Erasures}
	return broker.New(broker.Config{Addrs: addrs, Topics: topics})
}

// untilDone repeats try until it succeeds, fails with a permanent error, or ctx ends. /readyz
// shows what it waits for at once, the log every few seconds.
func (h *host) untilDone(ctx context.Context, component, what string,
	try func(ctx context.Context, onError func(error)) error) error {
	const attempt, pause = 5 * time.Second, 200 * time.Millisecond
	var last time.Time
	start := time.Now()
	for {
		limited, cancel := context.WithTimeout(ctx, attempt)
		reason := errors.New("no answer yet")
		setReason := func(err error) {
			reason = err
			h.health.Set(component, fmt.Sprintf("waiting for %s: %v", what, err))
		}
		err := try(limited, setReason)
		timedOut := limited.Err() != nil
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
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

// warehouse opens ClickHouse. Until ClickHouse has answered once, the process isn't ready. The wait is
// logged to log: an aggregator in the same process logs it by itself.
func (h *host) warehouse(dsn string, log *slog.Logger) (*warehouse.DB, error) {
	db, err := warehouse.Open(dsn)
	if err != nil {
		return nil, err
	}
	h.prepare("clickhouse", "waiting for ClickHouse to answer",
		func(ctx context.Context) error { return db.Wait(ctx, log) })
	return db, nil
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
	var proxies []string
	for _, p := range f.proxies() {
		proxies = append(proxies, p.String())
	}
	if err := e.SetTrustedProxies(proxies); err != nil {
		return nil, fmt.Errorf("--trusted-proxies: %w", err)
	}
	e.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, cause any) {
		h.log.Error("a request failed", "path", c.Request.URL.Path, "panic", cause, "stack",
			string(debug.Stack()))
		c.AbortWithStatusJSON(http.StatusInternalServerError,
			gin.H{"error": "this is an error in nowcast: see its log"})
	}))
	e.HandleMethodNotAllowed = true
	e.NoMethod(func(c *gin.Context) {
		methods := c.Writer.Header().Get("Allow")
		c.JSON(http.StatusMethodNotAllowed, gin.H{
			"error": "that path takes " + methods + "; the contract is at /api/openapi.yaml"})
	})
	return e, nil
}
