package ingest

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

// TestRegistry runs on the real registry of sites: before its list is known nothing is dropped as unknown, and a site counts from
// the moment it is made.
func TestRegistry(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	client := broker.New(broker.Config{Addrs: k.ListenAddrs(), Timeout: 5 * time.Second})
	defer client.Close()
	if err := client.Ensure(t.Context(), topic.Specs(partitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	sites := site.NewRegistry(client, log)
	s, err := New(Config{}, Deps{Broker: client, Sites: sites, Log: log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	engine := gin.New()
	s.Routes(engine)
	server := httptest.NewServer(engine)
	defer server.Close()
	w := &world{Service: s, kafka: k, client: client, url: server.URL}

	if a := w.post(t, page); a.status != 503 {
		t.Errorf("before the start: %+v", a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- sites.Run(ctx) }()
	go func() { done <- s.Run(ctx) }()
	until(t, "ready", func() bool { ok, _ := s.Ready(); return ok })
	if a := w.post(t, page); a.status != 202 || a.header.Get("x-plausible-dropped") != "1" {
		t.Errorf("before the site was made: %+v", a)
	}
	if err := sites.Put(t.Context(), site.Site{Domain: "example.com", Timezone: "UTC"}); err != nil {
		t.Fatal(err)
	}
	if a := w.post(t, page); a.status != 202 || a.header.Get("x-plausible-dropped") != "" {
		t.Errorf("after it: %+v", a)
	}
	if n := len(w.events(t)); n != 1 {
		t.Errorf("%d events in the log", n)
	}
	cancel()
	<-done
	<-done
}
