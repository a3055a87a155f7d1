package live

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	unreadable, fetchErrors prometheus.Counter
	refused, gaps           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "nowcast", Subsystem: "streamer", Name: name, Help: help}
	}
	m := &metrics{
		unreadable: prometheus.NewCounter(opts("unreadable_windows_total",
			"Records of the windows topic that could not be read.")),
		fetchErrors: prometheus.NewCounter(opts("fetch_errors_total",
			"Fetches of the windows topic that failed and were tried again.")),
		refused: prometheus.NewCounterVec(opts("streams_refused_total",
			"Streams that were not opened, by reason."), []string{"reason"}),
		gaps: prometheus.NewCounterVec(opts("gaps_total",
			"Reconnections after a longer absence than the live windows cover, by result (filled, reset)."),
			[]string{"answer"}),
	}
	for _, c := range []prometheus.Collector{m.unreadable, m.fetchErrors, m.refused, m.gaps} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metric: %w", err)
		}
	}
	return m, nil
}
