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

	"nowcast/ingest/dialect"
	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/event"
)

// service returns a service that isn't run and has the salts of today.
func service(tb testing.TB) *Service {
	tb.Helper()
	s, err := New(Config{}, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		tb.Fatal(err)
	}
	s.intake.sites = knownSites{}
	today := dayOf(time.Now().UnixMilli(), 0)
	s.salts.byDay.Store(&map[day]sipKey{today - 1: {5, 6}, today: {1, 2}, today + 1: {3, 4}})
	s.intake.identity.Store(newIdentity([16]byte{}, logtest.Partitions))
	return s
}

// BenchmarkBeacon makes the bytes of an envelope from the body and header of a beacon, without HTTP and
// the log.
func BenchmarkBeacon(b *testing.B) {
	s := service(b)
	for _, c := range []struct{ name, body string }{
		{"pageview", `{"n":"pageview","v":36,"u":"https://example.com/pricing","d":"example.com",` +
			`"r":"https://news.ycombinator.com/item?id=1","id":"0.8127364512736451"}`},
		{"campaign", `{"n":"Signup","u":"https://example.com/pricing?utm_source=news&utm_medium=email&` +
			`utm_campaign=launch%20day","d":"example.com","r":"https://www.google.com/",` +
			`"p":{"plan":"pro","seats":5},"$":{"amount":9.99,"currency":"USD"}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			raw := []byte(c.body)
			addr := netip.MustParseAddr("8.8.8.8")
			buf, envelope := s.intake.getBuffers(), make([]byte, 0, 1<<20)
			header := http.Header{"User-Agent": {chrome}, "Accept-Language": {"de-CH,de;q=0.9"}}
			for b.Loop() {
				beacon, errs := dialect.ParsePlausible(string(raw)) // a request copies its body too
				if errs != nil {
					b.Fatal(errs)
				}
				facts := s.enricher.Facts(header, addr)
				found, _ := s.intake.sites.Lookup(beacon.Domains[0])
				s.enricher.Fill(&buf.event, beacon, &facts, found.Domain)
				s.intake.cardinality.limit(&buf.event, s.intake.cardinality.startedAt)
				key := appendVisitorKey(buf.visitor.key[:0], found.Domain, facts.Addr, facts.UserAgent)
				buf.visitor = visitor{key, s.intake.clocks.of(found.Domain, found.Timezone)}
				ids := s.intake.identity.Load()
				client := clientID(key[len(key):], found.Domain, beacon.ID)
				buf.event.ID, buf.event.HasID = client, true
				_ = ids.partition(key)
				if err := s.salts.stamp(&buf.event, &buf.visitor, time.Now().UnixMilli()); err != nil {
					b.Fatal(err)
				}
				if envelope = event.AppendEvent(envelope, &buf.event); len(envelope) > 900_000 {
					envelope = envelope[:0]
				}
			}
		})
	}
}

// BenchmarkPost sends beacons over HTTP into a log in this process, 64 at a time. Clients, service and
// log share the machine.
func BenchmarkPost(b *testing.B) {
	w := start(b, Config{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		ua := chrome + " v" + strconv.FormatInt(n.Add(1), 10)
		for pb.Next() {
			req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/api/event",
				strings.NewReader(page))
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
