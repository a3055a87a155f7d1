package process

import (
	"encoding/json"
	"log/slog"
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

func TestOps(t *testing.T) {
	health := NewHealth()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(
		prometheus.CounterOpts{Name: "nowcast_test_total", Help: "For the test."}))
	h := NewOps(health, reg, true)
	get := func(path string) *httptest.ResponseRecorder {
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
		if w := get(row.path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), row.want) {
			t.Errorf("%s: %d %.200s", row.path, w.Code, w.Body)
		}
	}
	ok, reason := true, ""
	health.AddProbe("tail", func() (bool, string) { return ok, reason })
	for _, row := range []struct {
		name  string
		do    func()
		code  int
		wants map[string]string
	}{
		{"ready", func() {}, 200, map[string]string{}},
		{"set", func() { health.Set("log", "down") }, 503, map[string]string{"log": "down"}},
		{"probe", func() { ok = false }, 503, map[string]string{"log": "down", "tail": "not ready"}},
		{"reason", func() { reason = "behind" }, 503, map[string]string{"log": "down", "tail": "behind"}},
		{"again", func() { health.Set("log", ""); ok = true }, 200, map[string]string{}},
	} {
		row.do()
		w := get("/readyz")
		var got struct {
			Ready   bool
			Reasons map[string]string
		}
		err := json.Unmarshal(w.Body.Bytes(), &got)
		if err != nil || w.Code != row.code || got.Ready != (row.code == 200) ||
			!reflect.DeepEqual(got.Reasons, row.wants) {
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
	if err != nil || json.Unmarshal(b, &line) != nil ||
		line.Msg != "heard" || line.Why != "level" || line.After != "1.5s" {
		t.Errorf("%v %q", err, b)
	}
}
