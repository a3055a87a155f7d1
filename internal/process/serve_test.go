package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serving runs Serve and returns its address, how to stop it, and where its result comes.
func serving(t *testing.T, h http.HandlerFunc, drain time.Duration) (addr string, stop context.CancelFunc, result chan error) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result = make(chan error, 1)
	go func() { result <- Serve(ctx, l, h, drain) }()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return l.Addr().String(), cancel, result
}

// get returns a body's first byte and the rest when it is there.
func get(t *testing.T, addr string) (rest chan string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	rest = make(chan string, 1)
	go func() {
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			b = append(b, "!"...)
		}
		rest <- string(b)
	}()
	return rest
}

func begin(w http.ResponseWriter) {
	_, _ = w.Write([]byte("."))
	_ = http.NewResponseController(w).Flush()
}

func TestServeDrains(t *testing.T) {
	finish := make(chan struct{})
	addr, stop, result := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		begin(w)
		<-finish
		_, _ = w.Write([]byte("done"))
	}, time.Minute)
	rest := get(t, addr)
	stop()
	for deadline := time.Now().Add(5 * time.Second); ; { // no new ones while it drains
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still takes connections")
		}
	}
	close(finish)
	if s := <-rest; s != "done" {
		t.Errorf("the running request got %q", s)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestServeEndsEndlessRequests(t *testing.T) {
	addr, stop, result := serving(t, func(w http.ResponseWriter, r *http.Request) { begin(w); <-r.Context().Done() }, time.Minute)
	rest := get(t, addr)
	stop()
	if s := <-rest; s != "" {
		t.Errorf("got %q", s)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestServeCutsWhatDoesNotEnd(t *testing.T) {
	addr, stop, result := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		for begin(w); ; time.Sleep(time.Millisecond) {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}, 50*time.Millisecond)
	rest := get(t, addr)
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if s := <-rest; !strings.HasSuffix(s, "!") {
		t.Error("the response ended as if it were whole")
	}
}

func TestServeSaysWhenTheListenerBreaks(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler(), time.Second); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, row := range []struct{ addr, want string }{
		{l.Addr().String(), "is taken: stop the program"},
		{"198.51.100.7:1234", "isn't one of this machine's"},
		{"nonsense", "listen on nonsense"},
	} {
		l, err := Listen(row.addr)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.addr, err)
		}
	}
}

func TestOps(t *testing.T) {
	health := NewHealth()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_test_total", Help: "For the test."}))
	h := NewOps(health, reg)
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	for _, row := range []struct{ path, want string }{
		{"/metrics", "nowcast_test_total 0"},
		{"/healthz", "ok"},
		{"/debug/pprof/", "goroutine"},
		{"/debug/pprof/cmdline", "test"},
	} {
		if w := ask(row.path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), row.want) {
			t.Errorf("%s: %d %.200s", row.path, w.Code, w.Body)
		}
	}
	ok, reason := true, ""
	health.Probe("tail", func() (bool, string) { return ok, reason })
	for _, row := range []struct {
		name  string
		do    func()
		code  int
		wants map[string]string
	}{
		{"ready", func() {}, 200, map[string]string{}},
		{"set", func() { health.Set("log", "away") }, 503, map[string]string{"log": "away"}},
		{"probe", func() { ok = false }, 503, map[string]string{"log": "away", "tail": "not ready"}},
		{"probe says why", func() { reason = "behind" }, 503, map[string]string{"log": "away", "tail": "behind"}},
		{"again", func() { health.Set("log", ""); ok = true }, 200, map[string]string{}},
	} {
		row.do()
		w := ask("/readyz")
		var got struct {
			Ready   bool
			Reasons map[string]string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != row.code || got.Ready != (row.code == 200) || !reflect.DeepEqual(got.Reasons, row.wants) {
			t.Errorf("%s: %v %d %s", row.name, err, w.Code, w.Body)
		}
	}
}

func TestLoggerWritesJSONToFiles(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := NewLogger(f, slog.LevelWarn)
	log.Info("too quiet")
	log.Warn("heard", "why", "level", "after", 1500*time.Millisecond)
	b, err := os.ReadFile(f.Name())
	var line struct{ Msg, Why, After string }
	if err != nil || json.Unmarshal(b, &line) != nil || line.Msg != "heard" || line.Why != "level" || line.After != "1.5s" {
		t.Errorf("%v %q", err, b)
	}
}
