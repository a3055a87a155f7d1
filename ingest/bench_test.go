package ingest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/event"
)

// service is one that isn't run, with salts.
func service(tb testing.TB) *Service {
	tb.Helper()
	s, err := New(Config{}, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		tb.Fatal(err)
	}
	s.sites = knownSites{}
	s.salts.known.Store(&map[day]sipKey{dayOf(time.Now().UnixMilli()): {1, 2}})
	s.identity.Store(newIdentity([32]byte{}, 4))
	return s
}

// BenchmarkBeacon is the whole way of a beacon from its body to the bytes of an envelope, without HTTP and the log.
func BenchmarkBeacon(b *testing.B) {
	s := service(b)
	for _, c := range []struct{ name, body string }{
		{"pageview", `{"n":"pageview","v":36,"u":"https://example.com/pricing","d":"example.com","r":"https://news.ycombinator.com/item?id=1","id":"0.8127364512736451"}`},
		{"campaign", `{"n":"Signup","u":"https://example.com/pricing?utm_source=news&utm_medium=email&utm_campaign=launch%20day","d":"example.com","r":"https://www.google.com/","p":{"plan":"pro","seats":5},"$":{"amount":9.99,"currency":"USD"}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			raw := []byte(c.body)
			addr := netip.MustParseAddr("8.8.8.8")
			d, buf := &draft{}, make([]byte, 0, 1<<20)
			for b.Loop() {
				bc, errs := parseBeacon(string(raw)) // the copy is part of it
				if errs != nil {
					b.Fatal(errs)
				}
				from := sender{addr: addr, agent: chrome, language: language("de-CH,de;q=0.9"), says: s.agents.parse(chrome)}
				found, _ := s.sites.Lookup(bc.domains[0])
				s.fill(d, bc, &from, found.Domain)
				s.guard.bound(&d.Event, s.guard.begin)
				ids := s.identity.Load()
				d.ID, d.HasID = ids.eventID(d.who, bc.id), true
				_ = ids.partitionOf(d.who)
				if err := s.stamp(d, time.Now().UnixMilli()); err != nil {
					b.Fatal(err)
				}
				if buf = event.AppendEvent(buf, &d.Event); len(buf) > 900_000 {
					buf = buf[:0]
				}
			}
		})
	}
}

// BenchmarkPost is a beacon through HTTP into the log of a broker in this process, with 64 clients at a time: all three of them
// share the machine.
func BenchmarkPost(b *testing.B) {
	w := start(b, Config{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		ua := chrome + " v" + strconv.FormatInt(n.Add(1), 10)
		for pb.Next() {
			req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/api/event", strings.NewReader(page))
			req.Header.Set("User-Agent", ua)
			res, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusAccepted {
				b.Error(res.Status)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "beacons/s")
}
