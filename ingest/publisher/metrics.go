package publisher

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/publisher/spool"
)

// metrics is what a publisher counts.
type metrics struct {
	retries, lost, spooled, untallied prometheus.Counter
	refused                           *prometheus.CounterVec
	envelopes                         prometheus.Histogram
}

// newMetrics registers the metrics of a publisher, and those of its spool if disk isn't nil.
func newMetrics(reg prometheus.Registerer, disk *spool.Spool) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_" + name, Help: help})
	}
	m := &metrics{
		retries: counter("produce_retries_total", "Envelopes sent once more."),
		lost: counter("lost_events_total",
			"Events that were given up: not acknowledged at a stop, or refused by the log for good."),
		spooled: counter("spooled_events_total",
			"Events that this machine's disk acknowledged, because the log didn't."),
		untallied: counter("untallied_beacons_total",
			"Dropped beacons that are missing in their site's ledger: too many waited for the log."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nowcast_ingest_refused_events_total",
			Help: "Acknowledged events on disk that the log refused for good, by whether they are kept."},
			[]string{"kept"}),
		envelopes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "nowcast_ingest_envelope_events",
			Help:    "Events in an envelope that was acknowledged, ticks left out.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, maxEvents},
		}),
	}
	all := []prometheus.Collector{m.retries, m.lost, m.spooled, m.untallied, m.refused,
		m.envelopes}
	if disk != nil {
		all = append(all, spoolMetrics(disk)...)
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func spoolMetrics(s *spool.Spool) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		opts := prometheus.GaugeOpts{Name: "nowcast_ingest_spool_" + name, Help: help}
		return prometheus.NewGaugeFunc(opts, value)
	}
	return []prometheus.Collector{
		gauge("bytes", "Bytes on disk that wait for the log.", func() float64 { return float64(s.Bytes()) }),
		gauge("envelopes", "Envelopes on disk that wait for the log.", func() float64 {
			return float64(s.Envelopes())
		}),
		gauge("age_seconds", "Age of the oldest envelope on disk, 0 when there is none.", func() float64 {
			if at := s.Oldest(); at != 0 {
				return max(0, time.Since(time.UnixMilli(at)).Seconds())
			}
			return 0
		}),
		gauge("full", "1 while nothing may be put on disk.", func() float64 {
			if s.Full() != nil {
				return 1
			}
			return 0
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "nowcast_ingest_spool_cut_bytes_total",
			Help: "Bytes on disk that could not be read back: a tail torn by a crash, or damage.",
		}, func() float64 { return float64(s.UnreadableBytes()) }),
	}
}

// observe counts an acknowledged envelope. One without events is a tick.
func (m *metrics) observe(events int) {
	if events > 0 {
		m.envelopes.Observe(float64(events))
	}
}
