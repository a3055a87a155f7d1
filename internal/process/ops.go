package process

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewOps returns the handler for operators: /metrics, /healthz (always 200), /readyz (503 with the reasons
// while the process can't do its main work, 200 with what it does without otherwise), and, with profiles,
// /debug/pprof/, which shows what is in memory and costs CPU time. Serve it on an address that only
// operators reach.
func NewOps(health *Health, reg *prometheus.Registry, profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, reasons := health.Ready()
		answerReady(w, ready, struct {
			Ready    bool              `json:"ready"`
			Reasons  map[string]string `json:"reasons"`
			Degraded map[string]string `json:"degraded"`
		}{ready, reasons, health.Degraded()})
	})
	if !profiles {
		return mux
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// alive answers 200. It is /healthz of both addresses.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

// Public returns the handlers of an address that everybody reaches, by path. openapi.yaml describes them.
func Public(health *Health) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{"/healthz": alive, "/readyz": publicReady(health)}
}

// publicReady returns /readyz of an address that everybody reaches. It names what the process does without,
// and gives no reasons.
func publicReady(health *Health) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		ready, _ := health.Ready()
		degraded := slices.AppendSeq([]string{}, maps.Keys(health.Degraded()))
		slices.Sort(degraded)
		answerReady(w, ready, struct {
			Ready    bool     `json:"ready"`
			Degraded []string `json:"degraded"`
		}{ready, degraded})
	}
}

func answerReady(w http.ResponseWriter, ready bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body)
}
