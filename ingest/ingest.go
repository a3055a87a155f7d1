// Package ingest takes beacons over HTTP and puts them into the log.
//
// Its promise: a beacon that was answered 202 "ok" is acknowledged by every in-sync replica of the log, once, in the partition of
// its visitor, with the time at which it came; or, while the log is away, it is on this machine's disk (Deps.Spool) and will be in the log once
// that is back, as it would have been. When that can't be kept within Config.AckTimeout, the answer is 503 with Retry-After. An event may still reach the log after a 503 (and does, once the log is back), so a client that sends it again
// should send the same event id: readers count one id once. Bad input is answered 400 and leaves nothing in the log.
package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/spool"
	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

// EventPath takes most of all beacons: small ones, answered with little and soon, by a handler that asks nothing of net/http's server.
const EventPath = "/api/event"

const defaultAckTimeout = 5 * time.Second

// Config is what an operator decides.
type Config struct {
	// TrustedProxies may name a visitor's address by header: X-Plausible-IP, CF-Connecting-IP, B-Forwarded-For, X-Forwarded-For,
	// Forwarded, the first that has one. Nobody else may.
	TrustedProxies []netip.Prefix
	// AckTimeout is how long a request waits for the log; 0 means 5 s, at most 1 minute.
	AckTimeout time.Duration
	// GeoFile is a database in the MaxMind format, for countries, regions and cities in place of the one that is built in. It is read
	// again when it is replaced.
	GeoFile string
	// Script is the tracker, served at /js/script.js. Without one that answers 404.
	Script []byte
	// RespectOptOut drops what comes with DNT: 1 or Sec-GPC: 1.
	RespectOptOut bool
	// AddressLimit and SiteLimit are what one sender and one site may send; zero: any number. Above it the answer is 429.
	AddressLimit, SiteLimit Limit
}

// Deps are the parts that ingest works with. None of them is started or closed by it.
type Deps struct {
	Broker  *broker.Client
	Sites   *site.Registry
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Spool   *spool.Spool // where events go while the log is away; nil: nowhere, and beacons get 503 then
}

// registry is the part of the sites that ingest needs.
type registry interface {
	Wait(ctx context.Context) error
	Lookup(domain string) (site.Site, bool)
	Secret() [32]byte
}

// Service is the ingest role.
type Service struct {
	cfg       Config
	broker    *broker.Client
	sites     registry
	log       *slog.Logger
	meter     *meter
	sources   *sources
	spammers  spammers
	agents    *agents
	places    *places
	geo       *geoFile // nil: none
	salts     *salts
	publisher *publisher
	limits    *limiter
	guard     *guard
	script    *script
	room      chan struct{} // for large bodies
	work      sync.Pool     // *work
	timers    sync.Pool     // *time.Timer, of acknowledged

	identity atomic.Pointer[identity] // nil until beacons can be taken
	waits    atomic.Pointer[string]   // what the start waits for
	clock    atomic.Pointer[string]   // what is wrong with the clock; nil when nothing is
}

// New wires a service and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if cfg.AckTimeout == 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	if cfg.AckTimeout < 0 || cfg.AckTimeout > time.Minute {
		return nil, fmt.Errorf("acknowledgement timeout is %s: give one between 0 and 1m", cfg.AckTimeout)
	}
	m, err := newMeter(deps.Metrics)
	if err != nil {
		return nil, err
	}
	where, err := newPlaces(deps.Log)
	if err != nil {
		return nil, err
	}
	var geo *geoFile
	if cfg.GeoFile != "" {
		if geo, err = newGeoFile(cfg.GeoFile, where, deps.Log, deps.Metrics); err != nil {
			return nil, err
		}
	}
	bots, err := newCrawlers(deps.Log)
	if err != nil {
		return nil, err
	}
	limits, err := newLimiter(cfg.AddressLimit, cfg.SiteLimit)
	if err != nil {
		return nil, err
	}
	tracker, err := newScript(cfg.Script)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, broker: deps.Broker, sites: deps.Sites, log: deps.Log, meter: m, sources: newSources(sourceList), spammers: newSpammers(spammerList), agents: newAgents(bots),
		places: where, geo: geo, salts: newSalts(deps.Broker, deps.Log), limits: limits, guard: newGuard(deps.Log, m.others), script: tracker, room: make(chan struct{}, largeBodies),
	}
	s.work.New = func() any { return &work{} }
	s.timers.New = func() any { return time.NewTimer(cfg.AckTimeout) }
	if deps.Spool != nil {
		if err := spoolMetrics(deps.Metrics, deps.Spool); err != nil {
			return nil, err
		}
	}
	s.publisher = newPublisher(deps.Broker, deps.Spool, deps.Log, m, s.stamp)
	s.waiting("this instance is starting")
	return s, nil
}

func (s *Service) waiting(what string) { s.waits.Store(&what) }

// Routes adds the public paths of ingest. What takes beacons keeps senders to their limits.
func (s *Service) Routes(r gin.IRouter) {
	r = r.Group("", nosniff)
	beacons := func(h beaconHandler) gin.HandlerFunc { return s.throttle(s.large(h)) }
	r.POST(EventPath, beacons(s.postEvent))
	r.OPTIONS(EventPath, preflight("Content-Type, X-Debug-Request"))
	for path, post := range map[string]beaconHandler{"/api/send": s.postSend, "/api/batch": s.postBatch} {
		r.POST(path, beacons(post))
		r.OPTIONS(path, preflight("Content-Type, X-Umami-Cache, X-Umami-Website-Id, X-Umami-Hostname"))
	}
	r.GET("/pixel.gif", beacons(s.getPixel))
	r.HEAD("/pixel.gif", headPixel)
	r.GET("/js/script.js", s.getScript)
	r.HEAD("/js/script.js", s.getScript)
}

// Ready says whether beacons can be taken, and why not.
func (s *Service) Ready() (bool, string) {
	switch {
	case s.identity.Load() == nil:
		return false, *s.waits.Load()
	case !s.salts.ready():
		return false, errNoSalt.Error()
	}
	if reason := s.clock.Load(); reason != nil {
		return false, *reason
	}
	return s.publisher.ready()
}

// Run takes beacons until ctx ends, then sends what it has (for at most 5 s), says farewell in every partition and returns nil.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	salting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	wg.Go(func() { s.salts.run(salting) })
	if s.geo != nil {
		wg.Go(func() { s.geo.watch(ctx) })
	}
	n, err := s.start(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	s.publisher.open(n)
	s.identity.Store(newIdentity(s.sites.Secret(), n))
	wg.Go(func() { s.watchClock(ctx) })
	s.publisher.run(ctx)
	return nil
}

// start waits until everything is known that an event needs, and returns the number of partitions.
func (s *Service) start(ctx context.Context) (int, error) {
	s.waiting("waiting for the list of sites")
	if err := s.sites.Wait(ctx); err != nil {
		return 0, fmt.Errorf("wait for sites: %w", err)
	}
	for {
		n, err := s.broker.Partitions(ctx, topic.Events)
		if err == nil && n > 0 {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		s.waiting(fmt.Sprintf("waiting for the topic %s: %v", topic.Events, err))
		s.broker.Refresh()
		wait(ctx, slowRetry)
	}
}

// watchClock compares this machine's clock with the log's, at the start, every 30 s, and when the log refuses its time.
func (s *Service) watchClock(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	s.compareClock(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.compareClock(ctx)
		case <-s.publisher.suspected:
			s.measureAhead(ctx)
		}
	}
}

// measureAhead says in Ready by how much the clock is ahead.
func (s *Service) measureAhead(ctx context.Context) {
	off, err := ahead(ctx, s.broker, s.publisher.node)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("can't measure by how much the clock is ahead of the log's, trying again", "error", err)
	}
	s.publisher.ahead.Store(int64(off))
	wait(ctx, clockPause)
}

func (s *Service) compareClock(ctx context.Context) {
	off, err := behind(ctx, s.broker, s.publisher.node)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			s.log.Warn("can't compare the clock with the log's, trying again", "error", err)
		}
	case off > clockLimit:
		reason := fmt.Sprintf("this machine's clock is %s behind the log's newest timestamp: set it right (NTP)", off.Round(time.Millisecond))
		s.clock.Store(&reason)
	default:
		s.clock.Store(nil)
	}
}
