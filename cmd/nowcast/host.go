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
	"nowcast/internal/process"
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
		SpoolSize int64         `default:"1024" placeholder:"MB" help:"How much may wait on disk while Kafka is away (${default} MB); then beacons get 503."`
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

// network is a CIDR or one address.
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

// host is the process around one or more roles.
type host struct {
	log     *slog.Logger
	health  *process.Health
	metrics *prometheus.Registry
	group   process.Group
	topics  <-chan struct{} // closed when they are as they have to be; nil before kafka
}

// newHost opens the ops address: whether a process is ready can be asked from its first moment to its last.
func newHost(log *slog.Logger, f opsFlags) (*host, error) {
	h := &host{log: log, health: process.NewHealth(), metrics: prometheus.NewRegistry()}
	h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	l, err := process.Listen(f.OpsListen)
	if err != nil {
		return nil, fmt.Errorf("--ops-listen: %w", err)
	}
	h.serve("ops", l, process.NewOps(h.health, h.metrics))
	return h, nil
}

// serve answers on l; quick are paths whose POST requests needn't go through net/http's server.
func (h *host) serve(name string, l net.Listener, handler http.Handler, quick ...string) {
	h.group.Add(name, func(ctx context.Context) error { return process.Serve(ctx, l, handler, drainTime, quick...) })
}

// add adds a role or another part with a Ready of its own. What is added after kafka starts when the topics are there: nothing works on
// topics that don't fit.
func (h *host) add(name string, part interface {
	Run(context.Context) error
	Ready() (bool, string)
}) {
	h.health.Probe(name, part.Ready)
	topics := h.topics
	h.group.Add(name, func(ctx context.Context) error {
		if topics != nil {
			select {
			case <-topics:
			case <-ctx.Done():
				return nil
			}
		}
		return part.Run(ctx)
	})
}

// run works until ctx ends; from then on it isn't ready.
func (h *host) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		h.health.Set("process", "it is stopping")
		h.log.Info("stopping")
	})
	defer stop()
	return h.group.Run(ctx)
}

// settle adds a part that prepares something once: until work returns nil the process isn't ready, for the reason given.
func (h *host) settle(name, reason string, work func(context.Context) error) {
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

// kafka makes the client and has its topics made or checked. With partitions 0 the events topic has to be there, and the others are
// made with as many partitions and copies as it has.
func (h *host) kafka(addrs []string, partitions int) *broker.Client {
	c := newBroker(addrs)
	made := make(chan struct{})
	h.topics = made
	h.settle("kafka", "waiting for Kafka to answer", func(ctx context.Context) error {
		err := h.patiently(ctx, "kafka", "Kafka at "+fmt.Sprint(addrs), func(ctx context.Context, said func(error)) error {
			specs := topic.Specs(partitions, 1)
			if partitions == 0 {
				n, replicas, err := c.Shape(ctx, topic.Events)
				if err != nil {
					c.Refresh()
					if errors.Is(err, broker.ErrUnknownTopic) {
						err = fmt.Errorf("topic %s is missing, make the topics with `nowcast topics`: %w", topic.Events, err)
					}
					return err
				}
				specs = topic.Specs(n, replicas)
			}
			return c.Ensure(ctx, specs, said)
		})
		if err == nil {
			close(made)
		}
		return err
	})
	return c
}

func newBroker(addrs []string) *broker.Client {
	return broker.New(broker.Config{Addrs: addrs, Topics: []string{topic.Events, topic.Windows, topic.Sites, topic.Salts, topic.DeadLetter}})
}

// patiently tries until it works, the error can't be mended by waiting, or ctx ends; it says in the health at once and in the log
// every few seconds what it waits for.
func (h *host) patiently(ctx context.Context, component, what string, try func(ctx context.Context, said func(error)) error) error {
	const attempt, pause = 5 * time.Second, 200 * time.Millisecond
	var last time.Time
	start := time.Now()
	for {
		limited, cancel := context.WithTimeout(ctx, attempt)
		reason := errors.New("no answer yet")
		say := func(err error) {
			reason = err
			h.health.Set(component, fmt.Sprintf("waiting for %s: %v", what, err))
		}
		err := try(limited, say)
		timedOut := limited.Err() != nil
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !timedOut:
			if errors.Is(err, broker.ErrMismatch) || !broker.Retryable(err) {
				return err
			}
			say(err)
		}
		if time.Since(last) >= attempt && time.Since(start) > time.Second {
			last = time.Now()
			h.log.Warn("waiting for "+what, "error", reason, "waited", time.Since(start).Round(time.Second))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// warehouse opens ClickHouse; until it has answered once, the process isn't ready. The aggregator makes the tables, and says in the log
// what it waits for; where there is none, log does.
func (h *host) warehouse(dsn string, log *slog.Logger) (*warehouse.DB, error) {
	db, err := warehouse.Open(dsn)
	if err != nil {
		return nil, err
	}
	h.settle("clickhouse", "waiting for ClickHouse to answer", func(ctx context.Context) error { return db.Wait(ctx, log) })
	return db, nil
}

// sites adds the registry of sites and keys.
func (h *host) sites(c *broker.Client) *site.Registry {
	r := site.NewRegistry(c, h.log)
	h.add("sites", r)
	return r
}

// engine is the public side: no access log, and a handler that panics costs its own request only.
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
		h.log.Error("a request failed", "path", c.Request.URL.Path, "panic", cause, "stack", string(debug.Stack()))
		c.AbortWithStatusJSON(http.StatusInternalServerError, gin.H{"error": "this is a mistake of nowcast's: see its log"})
	}))
	e.HandleMethodNotAllowed = true
	e.NoMethod(func(c *gin.Context) {
		c.JSON(http.StatusMethodNotAllowed, gin.H{"error": "that path takes " + c.Writer.Header().Get("Allow") + "; the contract is at /api/openapi.yaml"})
	})
	return e, nil
}
