// Package ingest takes beacons over HTTP and puts them into the log as events.
//
// A beacon that is answered 202 "ok" is in the log: acknowledged by every in-sync replica, once, in the
// partition of its visitor, with the time at which it came. While the log doesn't acknowledge, such a
// beacon is on this machine's disk (Deps.Spool), from which it is sent to the log later as the same record.
// If neither acknowledges within Config.AckTimeout, the answer is 503 with Retry-After. Its event may still
// reach the log, so a client sends it again with the same event id, and readers count an id once. An
// invalid beacon is answered 400 and leaves nothing in the log.
package ingest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/enrich"
	"nowcast/ingest/publisher"
	"nowcast/ingest/publisher/spool"
	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

// EventPath is the route of nearly all beacons. Their bodies are small, answers are short and quick, and
// the handler uses nothing that only net/http's server has, so a server may parse such requests on a fast
// path.
const EventPath = "/api/event"

const (
	defaultAckTimeout = 5 * time.Second
	maxAckTimeout     = time.Minute
	startRetry        = 200 * time.Millisecond // at most, between two attempts to find the topic of events
)

// Config is what an operator decides.
type Config struct {
	// AckTimeout is how long a request waits for the log; 0 means 5 s, at most 1 minute.
	AckTimeout time.Duration
	// GeoFile is a database of places; see enrich.Config.
	GeoFile string
	// Script is the tracker, served at /js/script.js. Without one that answers 404.
	Script []byte
	// RespectOptOut drops beacons with DNT: 1 or Sec-GPC: 1.
	RespectOptOut bool
	// AddressLimit and SiteLimit limit the events from an address and for a site; zero means no limit. A
	// beacon over a limit is answered 429.
	AddressLimit, SiteLimit Limit
}

// Deps are the parts that a Service works with. It neither starts nor closes them.
type Deps struct {
	Broker  *broker.Client
	Sites   *site.Registry
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Spool   *spool.Spool // nil: beacons are answered 503 while the log doesn't acknowledge
	Watched func() bool  // see publisher.Deps
}

// Service is the ingest role.
type Service struct {
	broker    *broker.Client
	log       *slog.Logger
	enricher  *enrich.Enricher
	salts     *salts
	publisher *publisher.Publisher
	intake    *intake
	limiter   *senderLimiter
	script    *script

	startReason atomic.Pointer[string] // what Run waits for before beacons can be taken
}

// New wires a service and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, defaultAckTimeout)
	if cfg.AckTimeout < 0 || cfg.AckTimeout > maxAckTimeout {
		return nil, fmt.Errorf("acknowledgement timeout is %s: give one between 0 and 1m", cfg.AckTimeout)
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	clocks := newSiteClocks()
	s := &Service{broker: deps.Broker, log: deps.Log}
	s.salts = newSalts(deps.Broker, clocks, deps.Log)
	s.enricher, err = enrich.New(enrich.Config{GeoFile: cfg.GeoFile}, deps.Log, deps.Metrics)
	if err != nil {
		return nil, err
	}
	limits, err := newRateLimiter(cfg.AddressLimit, cfg.SiteLimit)
	if err != nil {
		return nil, err
	}
	if s.script, err = newScript(cfg.Script); err != nil {
		return nil, err
	}
	s.publisher, err = publisher.New(s.salts.stamp, publisher.Deps{
		Broker: deps.Broker, Spool: deps.Spool, Log: deps.Log, Metrics: deps.Metrics,
		Watched: deps.Watched,
	})
	if err != nil {
		return nil, err
	}
	s.limiter = newSenderLimiter(limits, m)
	s.intake = &intake{
		sites: deps.Sites, clocks: clocks, enricher: s.enricher, limits: limits, publisher: s.publisher,
		metrics:     m,
		cardinality: newCardinalityLimiter(deps.Log, m.others),
		ackTimeout:  cfg.AckTimeout, respectOptOut: cfg.RespectOptOut,
	}
	s.intake.buffers.New = func() any { return &requestBuffers{} }
	s.intake.timers.New = func() any { return time.NewTimer(cfg.AckTimeout) }
	s.setStartReason("this instance is starting")
	return s, nil
}

func (s *Service) setStartReason(reason string) { s.startReason.Store(&reason) }

// Routes adds the public routes of ingest. Those that take beacons limit senders.
func (s *Service) Routes(r gin.IRouter) {
	r = r.Group("", nosniff)
	plausible := &plausibleHandler{s.intake, s.limiter}
	r.POST(EventPath, s.limiter.wrap(plausible.post))
	r.OPTIONS(EventPath, preflight("Content-Type, X-Debug-Request"))
	umami := &umamiHandler{s.intake, s.limiter}
	umamiPreflight := preflight("Content-Type, X-Umami-Cache, X-Umami-Website-Id, X-Umami-Hostname")
	r.POST("/api/send", s.limiter.wrap(umami.postSend))
	r.OPTIONS("/api/send", umamiPreflight)
	r.POST("/api/batch", s.limiter.wrap(umami.postBatch))
	r.OPTIONS("/api/batch", umamiPreflight)
	pixel := &pixelHandler{s.intake}
	r.GET("/pixel.gif", s.limiter.wrap(pixel.get))
	r.HEAD("/pixel.gif", headPixel)
	own := &ownID{s.intake, s.salts}
	r.GET("/api/visitor", s.limiter.wrap(own.get))
	r.GET("/js/script.js", s.script.get)
	r.HEAD("/js/script.js", s.script.get)
}

// Ready reports whether beacons can be acknowledged. The reason tells what to do.
func (s *Service) Ready() (ok bool, reason string) {
	switch {
	case s.intake.identity.Load() == nil:
		return false, *s.startReason.Load()
	case !s.salts.ready():
		return false, errNoSalt.Error()
	}
	return s.publisher.Ready()
}

// Degraded says under "log" why beacons are kept on disk, for as long as they are.
func (s *Service) Degraded() map[string]string {
	if s.intake.identity.Load() == nil { // the publisher has no partitions yet
		return nil
	}
	if reason := s.publisher.Degraded(); reason != "" {
		return map[string]string{"log": reason}
	}
	return nil
}

// Wake lets the log's time go on at once if the service is idle; see publisher.Deps. It reports whether it
// was.
func (s *Service) Wake() bool { return s.publisher.Wake() }

// Run takes beacons until ctx ends. Then it sends the events that it has, for at most 5 s, and a close
// marker to each partition, and returns nil.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	salting, stop := context.WithCancel(context.WithoutCancel(ctx)) // the last events need salts too
	defer stop()
	wg.Go(func() { s.salts.run(salting) })
	wg.Go(func() { s.enricher.Run(ctx) })
	partitions, err := s.start(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	s.publisher.Open(partitions)
	s.intake.identity.Store(newIdentity(s.intake.sites.PartitionKey(), partitions))
	s.publisher.Run(ctx)
	return nil
}

// start waits for the sites and returns the number of partitions of the topic of events.
func (s *Service) start(ctx context.Context) (partitions int, err error) {
	s.setStartReason("waiting for the list of sites")
	if err := s.intake.sites.Wait(ctx); err != nil {
		return 0, fmt.Errorf("wait for sites: %w", err)
	}
	backoff := retry.Backoff{Min: startRetry, Max: startRetry}
	for {
		n, err := s.broker.Partitions(ctx, topic.Events)
		if err == nil && n > 0 {
			return n, nil
		}
		s.setStartReason(fmt.Sprintf("waiting for the topic %s: %v", topic.Events, err))
		s.broker.Refresh()
		if err := backoff.Wait(ctx); err != nil {
			return 0, err
		}
	}
}
