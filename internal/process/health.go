package process

import (
	"cmp"
	"maps"
	"sync"
)

// Health collects the reasons why a process can't do its work, by component. It is safe for concurrent
// use.
type Health struct {
	mu      sync.Mutex
	reasons map[string]string
	probes  map[string]func() (bool, string)
}

// NewHealth returns a Health without components. It is ready.
func NewHealth() *Health {
	return &Health{reasons: map[string]string{}, probes: map[string]func() (bool, string){}}
}

// Set sets the reason why component can't do its work. An empty reason means that it can.
func (h *Health) Set(component, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons[component] = reason; reason == "" {
		delete(h.reasons, component)
	}
}

// AddProbe adds a component. Ready calls probe for its state, so probe must not block.
func (h *Health) AddProbe(component string, probe func() (ok bool, reason string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes[component] = probe
}

// Ready reports whether all components can do their work. If not, the map says why, by component.
func (h *Health) Ready() (bool, map[string]string) {
	h.mu.Lock()
	reasons, probes := maps.Clone(h.reasons), maps.Clone(h.probes)
	h.mu.Unlock()
	for component, probe := range probes {
		if ok, reason := probe(); !ok {
			reasons[component] = cmp.Or(reason, "not ready")
		}
	}
	return len(reasons) == 0, reasons
}
