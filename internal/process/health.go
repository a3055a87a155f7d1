package process

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Health collects, by component, why a process can't do its main work, and which lesser part of its work it
// can't do. With the latter it is degraded, and still ready. It is safe for concurrent use.
type Health struct {
	mu       sync.Mutex
	reasons  map[string]string
	degraded map[string]string
	probes   map[string]func() (bool, string)
	parts    []func() map[string]string
	hidden   []string // see Hide
}

// NewHealth returns a Health without components. It is ready.
func NewHealth() *Health {
	return &Health{
		reasons: map[string]string{}, degraded: map[string]string{},
		probes: map[string]func() (bool, string){},
	}
}

// Set sets the reason why component can't do its work. An empty reason means that it can.
func (h *Health) Set(component, reason string) { h.set(h.reasons, component, reason) }

// SetDegraded sets the reason why the process does its main work without component. An empty reason means
// that component works.
func (h *Health) SetDegraded(component, reason string) { h.set(h.degraded, component, reason) }

func (h *Health) set(reasons map[string]string, component, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reasons[component] = reason; reason == "" {
		delete(reasons, component)
	}
}

// AddProbe adds a component. Ready calls probe for its state, so probe must not block.
func (h *Health) AddProbe(component string, probe func() (ok bool, reason string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes[component] = probe
}

// AddDegradedProbe adds a part that says what it can't do, and why, by component. Degraded calls it, so probe
// must not block.
func (h *Health) AddDegradedProbe(probe func() map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts = append(h.parts, probe)
}

// Hide keeps a text, such as the name of a broker's host, out of all reasons. What looks like an address or a
// file is left out anyway; see sanitize.
func (h *Health) Hide(texts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range texts {
		if len(text) > 2 && !slices.Contains(h.hidden, text) {
			h.hidden = append(h.hidden, text)
		}
	}
}

// Ready reports whether all components can do their work. If not, the map says why, by component, without
// addresses and files.
func (h *Health) Ready() (bool, map[string]string) {
	h.mu.Lock()
	reasons, probes := maps.Clone(h.reasons), maps.Clone(h.probes)
	h.mu.Unlock()
	for component, probe := range probes {
		if ok, reason := probe(); !ok {
			reasons[component] = cmp.Or(reason, "not ready")
		}
	}
	return len(reasons) == 0, h.sanitized(reasons)
}

// Degraded says, by component, what the process does without, and why, without addresses and files.
func (h *Health) Degraded() map[string]string {
	h.mu.Lock()
	degraded, parts := maps.Clone(h.degraded), slices.Clone(h.parts)
	h.mu.Unlock()
	for _, probe := range parts {
		for component, reason := range probe() {
			if before := degraded[component]; before != "" && before != reason {
				reason = before + "; " + reason
			}
			degraded[component] = reason
		}
	}
	return h.sanitized(degraded)
}

func (h *Health) sanitized(reasons map[string]string) map[string]string {
	h.mu.Lock()
	hidden := slices.Clone(h.hidden)
	h.mu.Unlock()
	for component, reason := range reasons {
		reasons[component] = sanitize(reason, hidden)
	}
	return reasons
}

// healthMetrics are the metrics of a Health.
type healthMetrics struct {
	health          *Health
	ready, degraded *prometheus.Desc
}

// Metrics returns a collector of nowcast_ready and nowcast_degraded.
func (h *Health) Metrics() prometheus.Collector {
	return &healthMetrics{h,
		prometheus.NewDesc("nowcast_ready", "1 while the process can do its main work, as /readyz says.", nil,
			nil),
		prometheus.NewDesc("nowcast_degraded",
			"1 while the process does its main work without a component; absent otherwise.",
			[]string{"component"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *healthMetrics) Describe(c chan<- *prometheus.Desc) { c <- m.ready; c <- m.degraded }

// Collect implements prometheus.Collector.
func (m *healthMetrics) Collect(c chan<- prometheus.Metric) {
	ready := 0.0
	if ok, _ := m.health.Ready(); ok {
		ready = 1
	}
	c <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, ready)
	for component := range m.health.Degraded() {
		c <- prometheus.MustNewConstMetric(m.degraded, prometheus.GaugeValue, 1, component)
	}
}
