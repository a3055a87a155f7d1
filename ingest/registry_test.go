package ingest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/site"
)

// series returns the value of a metric with a label.
func series(t *testing.T, from prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("there is no %s of %s", name, label)
	return 0
}

// TestRegistry runs with the real registry of sites: before the list of sites is known beacons are
// refused and not dropped, and a site counts as soon as it exists.
func TestRegistry(t *testing.T) {
	cluster := logtest.Start(t)
	log := slog.New(slog.DiscardHandler)
	sites := site.NewRegistry(cluster.Client, log)
	metrics := prometheus.NewRegistry()
	s, err := New(Config{},
		Deps{Broker: cluster.Client, Sites: sites, Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Service: s, log: cluster, url: serve(t, s)}

	if a := w.post(t, page); a.status != 503 {
		t.Errorf("before the start: %+v", a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- sites.Run(ctx) }()
	go func() { done <- s.Run(ctx) }()
	logtest.Until(t, "ready", func() bool { ok, _ := s.Ready(); return ok })
	if a := w.post(t, page); a.status != 202 || a.header.Get("x-plausible-dropped") != "1" {
		t.Errorf("before the site was made: %+v", a)
	}
	if err := sites.Put(t.Context(), site.Site{Domain: "example.com", Timezone: "UTC"}); err != nil {
		t.Fatal(err)
	}
	if a := w.post(t, page); a.status != 202 || a.header.Get("x-plausible-dropped") != "" {
		t.Errorf("after it: %+v", a)
	}
	rules := site.Rules{
		Hostnames:        []string{"example.com", "*.shop.example"},
		BlockedAddresses: []string{"9.9.9.0/24", "2001:db8::/32"},
		BlockedCountries: []string{"US"}, BlockedPaths: []string{"/admin/**", "/caf\u00e9"},
	}
	if err := sites.Put(t.Context(), site.Site{Domain: "example.com", Rules: rules}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, addr, reason string }{
		{"https://example.com/", "127.0.0.1", ""},
		{"https://WWW.example.com:8443/a", "127.0.0.1", ""},
		{"https://eu.shop.example/a", "127.0.0.1", ""},
		{"https://shop.example/a", "127.0.0.1", "hostname"},
		{"https://example.com.evil.example/a", "127.0.0.1", "hostname"},
		{"/a", "127.0.0.1", "hostname"},
		{"https://example.com/a", "9.9.9.9", "address"},
		{"https://example.com/a", "2001:db8:ffff::1", "address"},
		{"https://example.com/a", "8.8.8.8", "country"},
		{"https://example.com/admin/a?b", "127.0.0.1", "path"},
		{"https://example.com/%61dmin/a", "127.0.0.1", "path"},
		{"https://example.com/caf%C3%A9", "127.0.0.1", "path"},
		{"https://example.com/admin", "127.0.0.1", ""},
	} {
		count := func() (n float64) {
			if c.reason != "" {
				n = series(t, metrics, "nowcast_ingest_beacons_total", c.reason)
			}
			return n
		}
		before := count()
		a := w.post(t, `{"n":"pageview","d":"example.com","u":"`+c.url+`"}`, "X-Forwarded-For", c.addr)
		if got := a.header.Get("x-plausible-dropped"); a.status != 202 ||
			(got == "1") != (c.reason != "") || c.reason != "" && count() != before+1 {
			t.Errorf("%s from %s: %+v, want %q", c.url, c.addr, a, c.reason)
		}
	}
	if n := len(w.events(t)); n != 5 {
		t.Errorf("%d events in the log", n)
	}
	cancel()
	<-done
	<-done
}
