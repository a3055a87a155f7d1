package streamer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/internal/httpserver"
	"nowcast/internal/process"
	"nowcast/internal/site"
	"nowcast/streamer/access"
	"nowcast/streamer/api/apitest"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const adminSecret = "nck_9Yc2vUqL7dXw4KpTzR0sHn6JbEaG3mFo"

// world is a cluster with a public site, open.example.com, and a private one, own.example.com.
type world struct {
	*streamertest.Log
	sites *site.Registry
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Log: streamertest.NewLog(t)}
	w.sites = w.Sites(
		site.Site{Domain: "open.example.com", Public: true}, site.Site{Domain: "own.example.com"},
	)
	return w
}

// streamer starts one and returns its address.
func (w *world) streamer(cfg Config) string {
	w.T.Helper()
	return w.start(w.sites, cfg, prometheus.NewRegistry())
}

// streamerWith is streamer with a registry of metrics.
func (w *world) streamerWith(cfg Config, metrics *prometheus.Registry) string {
	w.T.Helper()
	return w.start(w.sites, cfg, metrics)
}

// streamerOf is streamer with its own view of the sites topic, as another instance has.
func (w *world) streamerOf(sites *site.Registry, cfg Config) string {
	w.T.Helper()
	return w.start(sites, cfg, prometheus.NewRegistry())
}

func (w *world) start(sites *site.Registry, cfg Config, metrics *prometheus.Registry) string {
	w.T.Helper()
	cfg.Access.AdminKey = adminSecret
	s, err := New(cfg, Deps{
		Broker: w.Kafka, Sites: sites, Log: slog.New(slog.DiscardHandler), Metrics: metrics,
	})
	if err != nil {
		w.T.Fatal(err)
	}
	w.Run(s.Run)
	e := gin.New()
	s.Routes(e)
	for path, handler := range process.Public(process.NewHealth()) { // as cmd/nowcast does
		e.Match([]string{http.MethodGet, http.MethodHead}, path, gin.WrapF(handler))
	}
	srv := httptest.NewServer(httpserver.StripBase(s.access.BasePath(), e))
	w.T.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	streamertest.Eventually(w.T, "ready", func() bool { ok, _ := s.Ready(); return ok })
	return srv.URL
}

// open opens a stream; the query is given as name and value.
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

// checker has read the contract, once for all tests.
var checker = sync.OnceValues(apitest.New)

// inContract matches the paths of the contract that the streamer's world serves.
var inContract = regexp.MustCompile(`^/(api/v|api/events$|healthz$|readyz$)`)

// do makes a request and checks the answer against the contract. It does not read a stream.
func do(t *testing.T, method, target, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if method == http.MethodOptions {
		return res, ""
	}
	stream := res.Header.Get("Content-Type") == "text/event-stream"
	if stream && res.Header.Get("X-Accel-Buffering") == "no" &&
		res.Header.Get("Cache-Control") != "no-store" {
		return res, ""
	}
	b, _ := io.ReadAll(res.Body)
	if check, err := checker(); err != nil {
		t.Fatal(err)
	} else if inContract.MatchString(req.URL.Path) && !stream {
		if err := check.Response(req, res.StatusCode, res.Header, b); err != nil {
			t.Errorf("%s %s: %d %s differs from the contract: %v", method, target, res.StatusCode, b, err)
		}
	}
	return res, string(b)
}

// get makes a request with a key and further headers, given as name and value.
func (w *world) get(method, target, key, body string, header ...string) (*http.Response, string) {
	w.T.Helper()
	h := http.Header{}
	if key != "" {
		h.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return do(w.T, method, target, body, h)
}

// accessWorld is a world with one more private site, other.example.com, and one streamer.
type accessWorld struct {
	*world
	base string
}

func newAccessWorld(t *testing.T) *accessWorld {
	t.Helper()
	w := newWorld(t)
	if err := w.sites.Put(t.Context(), site.Site{Domain: "other.example.com"}); err != nil {
		t.Fatal(err)
	}
	return &accessWorld{w, w.streamer(Config{Access: access.Config{PublicURL: "http://stats.example.com"}})}
}

// key makes a key for sites; without any, for all.
func (w *accessWorld) key(sites ...string) (site.Key, string) {
	w.T.Helper()
	if len(sites) == 0 {
		k, secret, err := w.sites.NewKeyForAllSites(w.T.Context(), "viewer")
		if err != nil {
			w.T.Fatal(err)
		}
		return k, secret
	}
	k, secret, err := w.sites.NewKey(w.T.Context(), "viewer", false, sites)
	if err != nil {
		w.T.Fatal(err)
	}
	return k, secret
}

func (w *accessWorld) link(domain string) (site.Link, string) {
	w.T.Helper()
	l, secret, err := w.sites.NewLink(w.T.Context(), domain, "viewer")
	if err != nil {
		w.T.Fatal(err)
	}
	return l, secret
}

// cookie requests a login or a share link and returns the cookie that the answer sets.
func (w *accessWorld) cookie(path string) string {
	w.T.Helper()
	res, body := w.do("GET", path, "")
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		w.T.Fatalf("%s: %s %s", path, res.Status, body)
	}
	return res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
}

// session logs in with a key and returns the session's cookie.
func (w *accessWorld) session(key string) string {
	w.T.Helper()
	return logIn(w.T, w.base, "key", key)
}

// logIn sends the login form with one field and returns the session's cookie.
func logIn(t *testing.T, base, field, secret string) string {
	t.Helper()
	res, body := postLogin(t, base, url.Values{field: {secret}})
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		t.Fatalf("log in: %s %s", res.Status, body)
	}
	return res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
}

// postLogin sends the login form, with further headers, given as name and value.
func postLogin(t *testing.T, base string, form url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return do(t, http.MethodPost, base+"/login", form.Encode(), h)
}

// ticket requests a ticket.
func (w *accessWorld) ticket(body string, v shown) string {
	w.T.Helper()
	status, _, answer := w.ask("POST", "/api/v1/tickets", body, v)
	var made struct {
		Ticket  string
		Expires time.Time
	}
	err := json.Unmarshal([]byte(answer), &made)
	if err != nil || status != http.StatusCreated || made.Ticket == "" {
		w.T.Fatalf("%s: %d %s", body, status, answer)
	}
	return made.Ticket
}

// shown is what a request shows, and the page that makes it.
type shown struct{ bearer, cookie, query, origin string }

// ask makes a request and returns its status, header and body; not the body of a stream.
func (w *accessWorld) ask(method, path, body string, v shown) (int, http.Header, string) {
	w.T.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	h := []string{"Cookie", v.cookie, "X-Forwarded-For", nextAddress()}
	if v.origin != "" {
		h = append(h, "Origin", v.origin)
	}
	if v.bearer != "" {
		h = append(h, "Authorization", "Bearer "+v.bearer)
	}
	res, answer := w.do(method, path+separator+v.query, body, h...)
	return res.StatusCode, res.Header, answer
}

// clients counts requests, each of which has an address of its own, so that none reaches an address's limit.
var clients atomic.Uint32

func nextAddress() string {
	n := clients.Add(1)
	return fmt.Sprintf("198.18.%d.%d", n>>8&255, n&255)
}

func (w *accessWorld) do(method, path, body string, header ...string) (*http.Response, string) {
	w.T.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return do(w.T, method, w.base+path, body, h)
}
