package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"nowcast/ingest"
	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/httpserver"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

const ingestSite = "bench.example.com"

// ingests measures the ingest role, each server in a process of its own: nowcast, a gin route that answers 202 and does nothing, and one that does all
// that nowcast does with a beacon but has kafka-go's Writer bring the event to the log, on net/http as the route that does nothing is, and on nowcast's
// own server.
func ingests(ctx context.Context) error {
	r, stop, err := ingestRig(ctx)
	if err != nil {
		return err
	}
	defer stop()
	const span = 6 * time.Second
	rate := map[string]float64{}
	for round := range 3 { // in turn, so that a machine's moods are in all
		for _, kind := range []string{"nothing", "nowcast", "writer", "writer-here"} {
			s, err := r.serve(ctx, kind)
			if err != nil {
				return err
			}
			for _, conns := range []int{256, 1} {
				if conns == 1 && (round > 0 || strings.HasPrefix(kind, "writer")) {
					continue
				}
				b := blast{addr: s.addr, site: ingestSite, conns: conns, span: time.Second}
				if _, err := b.run(ctx); err != nil { // warm
					return err
				}
				b.span = span
				before := cpuOf(s.pid())
				a, err := b.run(ctx)
				if err != nil || a.other+a.unavailable+a.busy > 0 {
					return fmt.Errorf("%s: %d answers that aren't 202: %w", kind, a.other+a.unavailable+a.busy, err)
				}
				cpu := cpuOf(s.pid()) - before
				fmt.Printf("%-34s %8.0f beacons/s, %.1f µs of CPU each\n", fmt.Sprintf("%s, %d connections", kind, conns), a.rate(span), cpu.Seconds()*1e6/float64(max(1, a.accepted)))
				quantiles("", a.lat)
				if conns == 256 {
					rate[kind] = max(rate[kind], a.rate(span))
				}
			}
			s.stop()
		}
	}
	fmt.Printf("%-34s %.2f of doing nothing, %.1f × kafka-go's Writer, %.1f × it on nowcast's server\n", "best of each, 256 connections",
		rate["nowcast"]/rate["nothing"], rate["nowcast"]/rate["writer"], rate["nowcast"]/rate["writer-here"])

	s, err := r.serve(ctx, "nowcast")
	if err != nil {
		return err
	}
	defer s.stop()
	half := blast{addr: s.addr, site: ingestSite, conns: 256, rate: rate["nowcast"] / 2, span: time.Second}
	if _, err := half.run(ctx); err != nil { // warm
		return err
	}
	half.span = span
	for range 3 {
		a, err := half.run(ctx)
		if err != nil {
			return err
		}
		quantiles(fmt.Sprintf("half load, %.0f beacons/s", half.rate), a.lat)
	}
	return idleConnections(ctx, s)
}

// idleConnections opens ten thousand that have sent one beacon each.
func idleConnections(ctx context.Context, s *ingestServer) error {
	const n = 10_000
	b := blast{addr: s.addr, site: ingestSite}
	before, err := s.collected(ctx)
	if err != nil {
		return err
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range n {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return err
		}
		open = append(open, c)
		if _, err := c.Write(b.request(i)); err != nil {
			return err
		}
	}
	pause(ctx, 3*time.Second)
	after, err := s.collected(ctx)
	fmt.Printf("%-34s %.1f KB each\n", "10,000 idle connections", float64(after-before)/n)
	return err
}

// overload sends twice what the server can take, looks at what it answers and how much memory it needs, and how soon it is as before.
func overload(ctx context.Context) error {
	span, err := time.ParseDuration(envOr("SPAN", "1m"))
	if err != nil {
		return err
	}
	r, stop, err := ingestRig(ctx)
	if err != nil {
		return err
	}
	defer stop()
	s, err := r.serve(ctx, "nowcast")
	if err != nil {
		return err
	}
	defer s.stop()
	most, err := blast{addr: s.addr, site: ingestSite, conns: 256, span: 8 * time.Second}.run(ctx)
	if err != nil {
		return err
	}
	can := most.rate(8 * time.Second)
	fmt.Printf("%-34s %.0f beacons/s\n", "it can take", can)
	resident := residentKB(s.pid())
	done := make(chan struct{})
	peak := resident
	go func() {
		defer close(done)
		for end := time.Now().Add(span); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, time.Second) {
			peak = max(peak, residentKB(s.pid()))
		}
	}()
	a, err := blast{addr: s.addr, site: ingestSite, conns: 4000, rate: 2 * can, span: span}.run(ctx)
	<-done
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %d × 202 (%.0f/s), %d × 429, %d × 503, %d others, %d connections broken\n", fmt.Sprintf("twice of that for %v", span), a.accepted, a.rate(span), a.busy, a.unavailable, a.other, a.broken)
	fmt.Printf("%-34s %d MB, before %d MB\n", "resident at most", peak>>10, resident>>10)
	pause(ctx, 3*time.Second)
	after, err := blast{addr: s.addr, site: ingestSite, conns: 256, rate: can / 2, span: 5 * time.Second}.run(ctx)
	if err != nil {
		return err
	}
	quantiles("half load, 3 s afterwards", after.lat)
	return nil
}

func envOr(name, or string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return or
}

// rigOfIngest is a real Kafka with the topics and the site.
type rigOfIngest struct {
	dir   string
	addrs []string
}

func ingestRig(ctx context.Context) (*rigOfIngest, func(), error) {
	dir, err := os.MkdirTemp("", "nowcast-bench-")
	if err != nil {
		return nil, nil, err
	}
	k, err := kafkatest.Start(kafkatest.Config{Dir: filepath.Join(dir, "kafka"), HeapMB: 512})
	if err != nil {
		return nil, nil, err
	}
	stop := func() { k.Stop(); os.RemoveAll(dir) }
	c := broker.New(broker.Config{Addrs: k.Addrs()})
	defer c.Close()
	err = c.Ensure(ctx, topic.Specs(4, 1), nil)
	if err == nil {
		sites := site.NewRegistry(c, slog.New(slog.DiscardHandler))
		end := run1(ctx, sites.Run)
		if err = sites.Wait(ctx); err == nil {
			err = sites.Put(ctx, site.Site{Domain: ingestSite, Timezone: "UTC"})
		}
		end()
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return &rigOfIngest{dir, k.Addrs()}, stop, nil
}

type ingestServer struct {
	cmd       *exec.Cmd
	addr, ops string
}

// collected is its memory once the collector has run.
func (s *ingestServer) collected(ctx context.Context) (kb int, err error) {
	for range 2 { // what a sync.Pool holds survives one
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+"/debug/pprof/heap?gc=1", nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil {
			return 0, err
		}
	}
	return residentKB(s.pid()), nil
}

func (s *ingestServer) pid() int { return s.cmd.Process.Pid }

func (s *ingestServer) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// serve starts a server in a process of its own.
func (r *rigOfIngest) serve(ctx context.Context, kind string) (*ingestServer, error) {
	var addrs [2]string
	for i := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addrs[i] = l.Addr().String()
		l.Close()
	}
	s := &ingestServer{addr: addrs[0], ops: addrs[1]}
	kafkas := strings.Join(r.addrs, ",")
	if kind == "nowcast" {
		s.cmd = exec.CommandContext(ctx, "bin/nowcast", "ingest", "--listen", s.addr, "--ops-listen", s.ops, "--kafka", kafkas, "--log-level", "warn",
			"--spool-dir", filepath.Join(r.dir, "spool"))
	} else {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		s.cmd = exec.CommandContext(ctx, self, "serve-"+kind, s.addr, kafkas)
	}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	return s, until(ctx, time.Minute, func() bool {
		a, err := blast{addr: s.addr, site: ingestSite, conns: 1, span: 100 * time.Millisecond}.run(ctx)
		return err == nil && a.accepted > 0
	})
}

// serveOther is a gin server that does nothing, or one that differs from nowcast in its way to the log alone.
func serveOther(ctx context.Context, kind, addr, kafkas string) error {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	handle := func(c *gin.Context) { c.String(http.StatusAccepted, "ok") }
	if strings.HasPrefix(kind, "serve-writer") {
		through, stop, err := writer(ctx, strings.Split(kafkas, ","))
		if err != nil {
			return err
		}
		defer stop()
		handle = through
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

// writer reads, checks and enriches a beacon as nowcast does, and gives its event to kafka-go's Writer by one call a request.
func writer(ctx context.Context, kafkas []string) (handle gin.HandlerFunc, stop func(), err error) {
	log := slog.New(slog.DiscardHandler)
	c := broker.New(broker.Config{Addrs: kafkas})
	sites := site.NewRegistry(c, log)
	service, err := ingest.New(ingest.Config{}, ingest.Deps{Broker: c, Sites: sites, Log: log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return nil, nil, err
	}
	endSites, endService := run1(ctx, sites.Run), run1(ctx, service.Run) // for the sites, the salts and the number of partitions
	w := &kafka.Writer{Addr: kafka.TCP(kafkas...), Topic: topic.Events, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(m.Key[0]) })}
	handle = func(c *gin.Context) {
		partition, record, err := service.Single(c.Request)
		if err == nil {
			err = w.WriteMessages(c.Request.Context(), kafka.Message{Key: []byte{byte(partition)}, Value: record})
		}
		if err != nil {
			c.String(http.StatusServiceUnavailable, err.Error())
			return
		}
		c.String(http.StatusAccepted, "ok")
	}
	return handle, func() { _ = w.Close(); endService(); endSites(); c.Close() }, nil
}

// residentKB is a process's memory.
func residentKB(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kb, _ := strconv.Atoi(f[0])
	return kb
}
