package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/feed"
	"nowcast/internal/embedded"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

// streams is the environment of the tests of streams: a broker whose windows topic a feed writes, and
// streamers, each a process of its own.
type streams struct {
	*world
	kafka      string
	clickhouse string
	client     *broker.Client
	feed       *feed.Feed
	replicas   []*replica
}

// replica is a streamer that keeps its addresses over restarts.
type replica struct {
	w           *streams
	listen, ops string

	mu   sync.Mutex
	proc *proc
}

const windowPartitions = 4

// startStreams starts everything and waits until all replicas know the sites. The feed begins with history
// seconds.
func startStreams(t *testing.T, replicas, history int, sites []feed.Site) *streams {
	t.Helper()
	b, err := embedded.NewBroker(embedded.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	background(t, b.Run)
	w := &streams{world: &world{key: clusterKey}, kafka: b.Addr(), clickhouse: clickhouse(t)}
	w.client = broker.New(broker.Config{Addrs: []string{w.kafka}})
	t.Cleanup(w.client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.client.Ensure(ctx, topic.Specs(windowPartitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	w.feed, err = feed.New(feed.Config{Broker: w.client, Partitions: windowPartitions, Seed: *chaosSeed,
		Sites: sites, History: history})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.feed.Run)
	for range replicas {
		r := &replica{w: w, listen: port(t), ops: port(t)}
		w.replicas = append(w.replicas, r)
		w.streamers = append(w.streamers, "http://"+r.listen)
		r.start(t)
	}
	for _, r := range w.replicas {
		r.ready(t)
	}
	var old []site.Site // older than what the feed begins with: nothing from before its creation is shown
	for _, s := range sites {
		old = append(old, site.Site{Domain: s.Domain, Created: time.Now().Add(-time.Hour)})
	}
	putSites(t, w.client, old...)
	eventually(t, 10*time.Second, "sites known everywhere", func(ctx context.Context) error {
		for _, s := range w.streamers {
			if a, err := w.call(ctx, http.MethodGet, s+"/api/v1/sites/"+sites[len(sites)-1].Domain, w.key,
				nil); err != nil || a.status != http.StatusOK {
				return fmt.Errorf("%s: %v %d %s", s, err, a.status, a.body)
			}
		}
		return nil
	})
	return w
}

// putSites writes sites to their topic, without a streamer.
func putSites(t *testing.T, client *broker.Client, sites ...site.Site) {
	t.Helper()
	r := site.NewRegistry(client, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	err := r.Wait(ctx)
	for _, s := range sites {
		if err == nil {
			err = r.Put(ctx, s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// background runs a part until the end of the test.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	args := []string{"streamer", "--listen", r.listen, "--ops-listen", r.ops, "--kafka", r.w.kafka,
		"--clickhouse", r.w.clickhouse, "--admin-key", clusterKey}
	p := start(t, append(args, unlimited(t)...)...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proc = p
}

// unlimited are the flags that raise the connection limits: all viewers of a test share an address and a key.
func unlimited(t *testing.T) (flags []string) {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), binary(t), "streamer", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"--max-viewers", "--viewers-per-address", "--viewers-per-key"} {
		if strings.Contains(string(help), f) {
			flags = append(flags, f, "1000000")
		}
	}
	return flags
}

func (r *replica) ready(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	p := r.proc
	r.mu.Unlock()
	ready(t, p, r.ops)
}

// restart stops a replica and waits until it is ready again.
func (r *replica) restart(t *testing.T, sig syscall.Signal) {
	t.Helper()
	begin := time.Now()
	if sig == syscall.SIGTERM {
		if code := r.proc.stop(t); code != 0 {
			t.Errorf("SIGTERM: exit %d", code)
		}
		if took := time.Since(begin); took > 22*time.Second {
			t.Errorf("a streamer took %v to drain, and has 20 s", took)
		}
	} else {
		r.proc.kill(sig)
	}
	stopped := time.Since(begin)
	r.start(t)
	r.ready(t)
	t.Logf("%s: %v: stopped after %v, ready again %v later", r.listen, sig, stopped.Round(time.Millisecond),
		(time.Since(begin) - stopped).Round(time.Millisecond))
}

// path is the request target of a stream, with further parameters as pairs of name and value.
func path(site, rate string, more ...string) string {
	q := url.Values{"site": {site}, "rate": {rate}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/api/events?" + q.Encode()
}
