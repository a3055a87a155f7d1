package process

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A process that is degraded is ready. The public address says what is missing, and the ops address also why,
// without addresses.
func TestDegraded(t *testing.T) {
	health, reg := NewHealth(), prometheus.NewRegistry()
	reg.MustRegister(health.Metrics())
	health.Hide("ch.internal", "")
	parts := map[string]string{}
	health.AddDegradedProbe(func() map[string]string { return parts })
	ops := NewOps(health, reg, false)
	get := func(h http.Handler) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	for _, row := range []struct {
		name        string
		do          func()
		code        int
		public, ops string
	}{
		{"ready", func() {}, 200, `{"ready":true,"degraded":[]}`,
			`{"ready":true,"reasons":{},"degraded":{}}`},
		{"degraded", func() { health.SetDegraded("history", "ch.internal: dial tcp 10.0.0.1:9000: refused") },
			200, `{"ready":true,"degraded":["history"]}`,
			`{"ready":true,"reasons":{},"degraded":{"history":"[address]: dial tcp [address]: refused"}}`},
		{"by a part", func() { parts["live"] = "a partition is missing" }, 200,
			`{"ready":true,"degraded":["history","live"]}`,
			`{"ready":true,"reasons":{},"degraded":{"history":"[address]: dial tcp [address]: refused",` +
				`"live":"a partition is missing"}}`},
		{"unready", func() { health.SetDegraded("history", ""); health.Set("sites", "at kafka-1:9092") }, 503,
			`{"ready":false,"degraded":["live"]}`,
			`{"ready":false,"reasons":{"sites":"at [address]"},` +
				`"degraded":{"live":"a partition is missing"}}`},
	} {
		row.do()
		if code, body := get(Public(health)["/readyz"]); code != row.code || body != row.public {
			t.Errorf("%s: public %d %s", row.name, code, body)
		}
		if code, body := get(ops); code != row.code || body != row.ops {
			t.Errorf("%s: ops %d %s", row.name, code, body)
		}
	}
	want := `
# HELP nowcast_degraded 1 while the process does its main work without a component; absent otherwise.
# TYPE nowcast_degraded gauge
nowcast_degraded{component="live"} 1
# HELP nowcast_ready 1 while the process can do its main work, as /readyz says.
# TYPE nowcast_ready gauge
nowcast_ready 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "nowcast_ready",
		"nowcast_degraded"); err != nil {
		t.Error(err)
	}
}
