package live

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/streamer/board"
)

type metrics struct {
	unreadable, otherEpochs, fetchErrors prometheus.Counter
	refused, gaps                        *prometheus.CounterVec
}

// newMetrics registers the metrics; current returns the board, nil before there is one.
func newMetrics(reg prometheus.Registerer, current func() *board.Board) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "nowcast", Subsystem: "streamer", Name: name, Help: help}
	}
	m := &metrics{
		unreadable: prometheus.NewCounter(opts("unreadable_windows_total",
			"Records of the windows topic that could not be read.")),
		otherEpochs: prometheus.NewCounter(opts("other_epoch_windows_total",
			"Records of the windows topic that were left out because their rows have other rules "+
				"(another epoch) than this program's.")),
		fetchErrors: prometheus.NewCounter(opts("fetch_errors_total",
			"Fetches of the windows topic that failed and were tried again.")),
		refused: prometheus.NewCounterVec(opts("streams_refused_total",
			"Streams that were not opened, by reason."), []string{"reason"}),
		gaps: prometheus.NewCounterVec(opts("gaps_total",
			"Reconnections after a longer absence than the live windows cover, by result (filled, reset)."),
			[]string{"answer"}),
	}
	missing := prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("missing_partitions",
		"Partitions without which the live view goes on, because they stand still.")), func() (n float64) {
		if b := current(); b != nil {
			for _, f := range b.Faults() {
				if f.Missing {
					n++
				}
			}
		}
		return n
	})
	incomplete := prometheus.NewCounterFunc(opts("incomplete_seconds_total",
		"Seconds that became final without a missing partition."), func() float64 {
		if b := current(); b != nil {
			return float64(b.IncompleteSeconds())
		}
		return 0
	})
	for _, c := range []prometheus.Collector{
		m.unreadable, m.otherEpochs, m.fetchErrors, m.refused, m.gaps, missing, incomplete,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metric: %w", err)
		}
	}
	return m, nil
}
