package ingest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	// kafka-go's pool looks for brokers until its idle timeout, whatever its owner does
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.127 Safari/537.36"

// knownSites is a registry of three sites.
type knownSites struct{}

func (knownSites) Wait(context.Context) error { return nil }
func (knownSites) Secret() [32]byte           { return [32]byte{1, 2, 3} }
func (knownSites) Lookup(domain string) (site.Site, bool) {
	return site.Site{Domain: domain}, slices.Contains([]string{"example.com", "other.example", "localhost", "www.third.example"}, domain)
}

// world is a service behind HTTP, in front of a broker in this process.
type world struct {
	*Service
	kafka  *kfake.Cluster
	client *broker.Client
	url    string
	stop   func() // and waits until the service has stopped
}

const partitions = 4

func start(t testing.TB, cfg Config) *world {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	w := &world{kafka: k, client: broker.New(broker.Config{Addrs: k.ListenAddrs(), Timeout: 5 * time.Second})}
	t.Cleanup(w.client.Close)
	if err := w.client.Ensure(context.Background(), topic.Specs(partitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	w.Service, err = New(cfg, Deps{Broker: w.client, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	w.sites = knownSites{}
	engine := gin.New()
	w.Routes(engine)
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	w.url = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}
	}
	t.Cleanup(w.stop)
	until(t, "ready", func() bool { ok, _ := w.Ready(); return ok })
	return w
}

// until waits for something that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s within 10 s", what)
		}
	}
}

type answer struct {
	status int
	body   string
	header http.Header
}

// post sends a beacon; header are pairs of name and value.
func (w *world) post(t *testing.T, body string, header ...string) answer {
	t.Helper()
	return w.request(t, "POST /api/event", body, header...)
}

// request asks for what ("POST /api/event").
func (w *world) request(t *testing.T, what, body string, header ...string) answer {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", chrome)
	req.Header.Set("Content-Type", "text/plain")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, string(b), res.Header}
}

// record is one envelope as it is in the log.
type record struct {
	event.Header
	partition int
	at        int64
	events    []event.Event
	tallies   []event.Tally
}

// records reads the whole log.
func (w *world) records(t *testing.T) (all []record) {
	t.Helper()
	for p := range partitions {
		_, end, err := w.client.Bounds(t.Context(), topic.Events, p)
		if err != nil {
			t.Fatal(err)
		}
		if end == 0 {
			continue
		}
		err = w.client.Follow(t.Context(), broker.Follower{Topic: topic.Events, Partition: p, Record: func(r broker.Record) error {
			all = append(all, decoded(t, p, r.Time, slices.Clone(r.Value)))
			if r.Offset+1 >= end {
				return errSeen
			}
			return nil
		}})
		if err != errSeen {
			t.Fatal(err)
		}
	}
	return all
}

func decoded(t *testing.T, partition int, at int64, value []byte) record {
	t.Helper()
	var d event.Decoder
	h, err := d.Reset(value)
	if err != nil {
		t.Fatal(err)
	}
	r := record{Header: h, partition: partition, at: at}
	for e := (event.Event{}); d.Next(&e); {
		r.events = append(r.events, e)
	}
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	r.tallies = slices.Clone(d.Tallies())
	return r
}

// events are those in the log that weren't there before.
func (w *world) events(t *testing.T) (all []event.Event) {
	t.Helper()
	for _, r := range w.records(t) {
		all = append(all, r.events...)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { return int(a.Time - b.Time) })
	return all
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
