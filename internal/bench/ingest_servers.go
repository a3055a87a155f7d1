package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"nowcast/ingest"
	"nowcast/ingest/dialect"
	"nowcast/ingest/enrich"
	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/event"
	"nowcast/internal/httpserver"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

const ingestSite = "bench.example.com"

// ingestKafka is a real Kafka with the topics and the site that ingest needs.
type ingestKafka struct {
	dir   string
	addrs []string
	stop  func()
}

func startIngestKafka(ctx context.Context) (*ingestKafka, error) {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return nil, err
	}
	k, err := kafkatest.Start(kafkatest.Config{Dir: filepath.Join(dir, "kafka"), HeapMB: 512})
	if err != nil {
		return nil, err
	}
	stop := func() { k.Stop(); os.RemoveAll(dir) }
	c := broker.New(broker.Config{Addrs: k.Addrs()})
	defer c.Close()
	err = c.Ensure(ctx, topic.Specs(4, 1), nil)
	if err == nil {
		err = putSites(ctx, c, site.Site{Domain: ingestSite, Timezone: "UTC"})
	}
	if err != nil {
		stop()
		return nil, err
	}
	return &ingestKafka{dir, k.Addrs(), stop}, nil
}

// putSites writes sites to their topic.
func putSites(ctx context.Context, c *broker.Client, list ...site.Site) error {
	sites := site.NewRegistry(c, slog.New(slog.DiscardHandler))
	defer background(ctx, sites.Run)()
	if err := sites.Wait(ctx); err != nil {
		return err
	}
	for _, s := range list {
		if err := sites.Put(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// ingestServer is a process that takes beacons.
type ingestServer struct {
	pid       int
	addr, ops string
	stop      func()
}

// serve starts nowcast or one of the baselines, and waits until it accepts beacons.
func (k *ingestKafka) serve(ctx context.Context, kind string) (*ingestServer, error) {
	addrs, err := freeAddrs(ctx, "127.0.0.1", 2)
	if err != nil {
		return nil, err
	}
	s := &ingestServer{addr: addrs[0], ops: addrs[1]}
	kafkas := strings.Join(k.addrs, ",")
	bin, args := nowcastBinary, []string{"ingest", "--listen", s.addr, "--ops-listen", s.ops, "--kafka",
		kafkas, "--log-level", "warn", "--spool-dir", filepath.Join(k.dir, "spool")}
	if kind != "nowcast" {
		if bin, err = os.Executable(); err != nil {
			return nil, err
		}
		args = []string{"serve-" + kind, s.addr, kafkas}
	}
	if s.pid, s.stop, err = startProcess(bin, args...); err != nil {
		return nil, fmt.Errorf("serve %s: %w", kind, err)
	}
	err = waitFor(ctx, time.Minute, func() bool {
		return blast{addr: s.addr, site: ingestSite, conns: 1,
			span: 100 * time.Millisecond}.run(ctx).accepted > 0
	})
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("serve %s: %w", kind, err)
	}
	return s, nil
}

// serveBaseline is a gin server that does nothing, or one that differs from nowcast in its way to the log
// only.
func serveBaseline(ctx context.Context, kind, addr, kafkas string) error {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	handle := func(c *gin.Context) { c.String(http.StatusAccepted, "ok") }
	if strings.HasPrefix(kind, "serve-writer") {
		write, stop, err := kafkaWriter(ctx, strings.Split(kafkas, ","))
		if err != nil {
			return err
		}
		defer stop()
		handle = write
	}
	e.POST(ingest.EventPath, handle)
	if kind == "serve-writer-here" {
		l, err := httpserver.Listen(addr)
		if err != nil {
			return err
		}
		return httpserver.Serve(ctx, l, e, time.Second, ingest.EventPath)
	}
	s := &http.Server{Addr: addr, Handler: e, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// kafkaWriter reads and enriches a beacon by the parts of ingest, and writes its event by one call a
// request of kafka-go's Writer. It has no limits and no salts: ids and partition are hashes with a random
// key.
func kafkaWriter(ctx context.Context, kafkas []string) (handle gin.HandlerFunc, stop func(), err error) {
	log := slog.New(slog.DiscardHandler)
	c := broker.New(broker.Config{Addrs: kafkas})
	partitions, err := c.Partitions(ctx, topic.Events)
	if err != nil {
		return nil, nil, err
	}
	enricher, err := enrich.New(enrich.Config{}, log, prometheus.NewRegistry())
	if err != nil {
		return nil, nil, err
	}
	sites := site.NewRegistry(c, log)
	stopSites := background(ctx, sites.Run)
	if err := sites.Wait(ctx); err != nil {
		return nil, nil, err
	}
	w := &kafka.Writer{
		Addr: kafka.TCP(kafkas...), Topic: topic.Events, RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond,
		Balancer:     kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(m.Key[0]) }),
	}
	node, seed := rand.Uint64()|1, maphash.MakeSeed()
	handle = func(c *gin.Context) {
		e, err := readEvent(c.Request, sites, enricher)
		if err == nil {
			at := time.Now().UnixMilli()
			e.Time = at
			e.Visitor = max(1, maphash.String(seed, e.Site+c.Request.RemoteAddr+c.Request.UserAgent()))
			b := event.AppendHeader(make([]byte, 0, 512), event.Header{Node: node, Sequence: 1, Low: at - 1})
			key := []byte{byte(e.Visitor % uint64(partitions))}
			m := kafka.Message{Key: key, Value: event.AppendEvent(b, e)}
			err = w.WriteMessages(c.Request.Context(), m)
		}
		if err != nil {
			c.String(http.StatusServiceUnavailable, err.Error())
			return
		}
		c.String(http.StatusAccepted, "ok")
	}
	return handle, func() { _ = w.Close(); stopSites(); c.Close() }, nil
}

// readEvent makes an event of a request, except for its time and ids.
func readEvent(r *http.Request, sites *site.Registry, enricher *enrich.Enricher) (*event.Event, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, dialect.MaxBody))
	if err != nil {
		return nil, err
	}
	b, errs := dialect.ParsePlausible(string(body))
	if errs != nil {
		return nil, fmt.Errorf("read beacon: %v", errs)
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	facts := enricher.Facts(r.Header, addr.Addr())
	s, ok := sites.Lookup(b.Domains[0])
	if !ok || facts.Bot || facts.Prefetched || enricher.FromSpammer(b) {
		return nil, errors.New("the beacon makes no event")
	}
	e := &event.Event{}
	enricher.Fill(e, b, &facts, s.Domain)
	return e, nil
}
