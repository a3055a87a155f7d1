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

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/event"
	"nowcast/internal/httpserver"
	"nowcast/internal/site"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	// kafka-go's connection pool stops looking for brokers at its idle timeout, after its owner has
	// closed it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) " +
	"Chrome/126.0.6478.127 Safari/537.36"

// knownSites is a registry of a few sites.
type knownSites struct{}

func (knownSites) Wait(context.Context) error { return nil }
func (knownSites) PartitionKey() [16]byte     { return [16]byte{1, 2, 3} }
func (knownSites) Lookup(domain string) (site.Site, bool) {
	all := []string{"example.com", "other.example", "localhost", "www.third.example", farSite}
	s := site.Site{Domain: domain}
	if domain == farSite {
		s.Timezone = "Pacific/Kiritimati"
	}
	return s, slices.Contains(all, domain)
}

// farSite is 14 hours ahead of UTC.
const farSite = "far.example"

// world is a service behind HTTP, with a log in this process.
type world struct {
	*Service
	log  *logtest.Cluster
	url  string
	stop func() // waits until the service has stopped
}

// start runs a service until the test ends. Before that it calls prepare.
func start(t testing.TB, cfg Config, prepare ...func(*world)) *world {
	t.Helper()
	log := logtest.Start(t)
	deps := Deps{Broker: log.Client, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	s.intake.sites = knownSites{}
	w := &world{Service: s, log: log, url: serve(t, s)}
	for _, f := range prepare {
		f(w)
	}
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
	logtest.Until(t, "ready", func() bool { ok, _ := w.Ready(); return ok })
	return w
}

// serve serves the routes of a service and returns their base URL. The test is a trusted proxy.
func serve(t testing.TB, s *Service) string {
	t.Helper()
	engine := gin.New()
	proxies := httpserver.Proxies{Trusted: prefixes("127.0.0.0/8")}
	engine.Use(func(c *gin.Context) { proxies.SetClientAddress(c.Request) })
	s.Routes(engine)
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	return server.URL
}

type answer struct {
	status int
	body   string
	header http.Header
}

// post sends a beacon of the Plausible Events API. header has pairs of name and value.
func (w *world) post(t *testing.T, body string, header ...string) answer {
	t.Helper()
	return w.request(t, "POST /api/event", body, header...)
}

// request sends a request. what has method and path, such as "POST /api/event".
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

// events returns all events in the log, by time.
func (w *world) events(t *testing.T) (all []event.Event) {
	t.Helper()
	for _, r := range w.log.Records(t) {
		all = append(all, r.Events...)
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
