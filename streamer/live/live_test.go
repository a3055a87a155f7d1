package live

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/streamer/api"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

// world is a windows topic and the servers that stream it.
type world struct {
	*streamertest.Log
	history history              // of the next server
	now     func() time.Time     // of the next server; nil: time.Now
	metrics *prometheus.Registry // of the newest server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{Log: streamertest.NewLog(t)}
}

// streamer starts a server and returns its address.
func (w *world) streamer(cfg Config) string {
	w.T.Helper()
	_, base := w.service(cfg)
	return base
}

func (w *world) service(cfg Config) (*Server, string) {
	w.T.Helper()
	w.metrics = prometheus.NewRegistry()
	s, err := New(cfg, Deps{
		Broker: w.Kafka, History: w.history, Access: keyed{}, Limits: &stoppable{}, Metrics: w.metrics,
		Fail: func(c *gin.Context, err error) { api.Refuse(c, http.StatusUnauthorized, "%v", err) },
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.T.Fatal(err)
	}
	if w.now != nil {
		s.tail.now = w.now
	}
	w.Run(s.Run)
	e := gin.New()
	api.RegisterHandlers(e, routes{server: s})
	srv := httptest.NewServer(e)
	w.T.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	w.eventually("ready", func() bool { ok, _ := s.Ready(); return ok })
	return s, srv.URL
}

// routes are those of the contract that a Server serves.
type routes struct {
	api.ServerInterface
	server *Server
}

func (r routes) StreamEvents(c *gin.Context, p api.StreamEventsParams) { r.server.StreamEvents(c, p) }

// keyed lets everybody read open.example.com, and a request with any key every site.
type keyed struct{}

func (keyed) AuthorizeAll(c *gin.Context, domains []string) ([]string, []api.Principal, error) {
	for _, d := range domains {
		if d != "open.example.com" && c.GetHeader("Authorization") == "" {
			return nil, nil, errors.New("a key is needed")
		}
	}
	return domains, make([]api.Principal, len(domains)), nil
}

func (keyed) MayRead(api.Principal, string) bool { return true }

// stoppable is a limiter without limits.
type stoppable struct{ stopped atomic.Bool }

func (s *stoppable) Acquire(string, []api.Principal) (addr, key uint64, err error) {
	if s.stopped.Load() {
		return 0, 0, errors.New("this instance is about to stop")
	}
	return 0, 0, nil
}

func (s *stoppable) Release(uint64, uint64) {}

func (s *stoppable) Stop() { s.stopped.Store(true) }

func (w *world) eventually(what string, ok func() bool) {
	w.T.Helper()
	streamertest.Eventually(w.T, what, ok)
}

func (w *world) metric(name string, labels ...string) float64 {
	w.T.Helper()
	return streamertest.Metric(w.T, w.metrics, name, labels...)
}

// both runs a test of streams once for each way in which viewers are served.
func both(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, transport := range []Transport{"", Epoll, Handlers} {
		t.Run(
			string(transport), func(t *testing.T) { f(t, Config{Transport: transport, Stall: time.Second}) },
		)
	}
}

// open opens a stream of open.example.com with further parameters, given as name and value.
func (w *world) open(
	base string, header http.Header, query ...string,
) (*streamertest.Stream, *http.Response) {
	w.T.Helper()
	q := url.Values{"site": {"open.example.com"}}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	return streamertest.Open(w.T, base+"/api/events?"+q.Encode(), header)
}

// get makes a request that is expected to be refused.
func (w *world) get(target string) (*http.Response, string) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		w.T.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.T.Fatal(err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return res, ""
	}
	b, _ := io.ReadAll(res.Body)
	return res, string(b)
}
