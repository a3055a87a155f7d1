package process

import (
	"maps"
	"sync"
)

// Health gathers why a process can't do its work. It is safe for concurrent use.
type Health struct {
	mu      sync.Mutex
	reasons map[string]string
	probes  map[string]func() (bool, string)
}

// NewHealth makes one without components, which is ready.
func NewHealth() *Health {
	return &Health{reasons: map[string]string{}, probes: map[string]func() (bool, string){}}
}

// Set says why component can't do its work; an empty reason says that it can.
func (h *Health) Set(component, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons[component] = reason; reason == "" {
		delete(h.reasons, component)
	}
}

// Probe has f asked each time that Ready is; it must not block.
func (h *Health) Probe(component string, f func() (ok bool, reason string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes[component] = f
}

// Ready says whether all components can do their work, and else why not, by component.
func (h *Health) Ready() (bool, map[string]string) {
	h.mu.Lock()
	reasons, probes := maps.Clone(h.reasons), maps.Clone(h.probes)
	h.mu.Unlock()
	for component, f := range probes {
		if ok, reason := f(); !ok {
			if reason == "" {
				reason = "not ready"
			}
			reasons[component] = reason
		}
	}
	return len(reasons) == 0, reasons
}
