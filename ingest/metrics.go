package ingest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// meter is what ingest counts.
type meter struct {
	accepted, bots, unknown, invalid, timeouts, refused prometheus.Counter
	retries, lost                                       prometheus.Counter
	ack, envelopes                                      prometheus.Histogram
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	beacons := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nowcast_ingest_beacons_total", Help: "Beacons by what became of them; one for several sites counts for each.",
	}, []string{"result", "reason"})
	m := &meter{
		accepted: beacons.WithLabelValues("accepted", ""),
		bots:     beacons.WithLabelValues("dropped", "bot"),
		unknown:  beacons.WithLabelValues("dropped", "unknown_site"),
		invalid:  beacons.WithLabelValues("invalid", ""),
		timeouts: beacons.WithLabelValues("unavailable", "not_acknowledged"),
		refused:  beacons.WithLabelValues("unavailable", "refused"),
		retries:  prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_produce_retries_total", Help: "Envelopes sent once more."}),
		lost:     prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_lost_events_total", Help: "Events, none of them acknowledged, that were given up: at a stop, or refused by the log for good."}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nowcast_ingest_ack_seconds", Help: "From a beacon's arrival to its acknowledgement by the log.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2, 4},
		}),
		envelopes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nowcast_ingest_envelope_events", Help: "Events in an envelope that was acknowledged, ticks left out.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, fullEvents},
		}),
	}
	for _, c := range []prometheus.Collector{beacons, m.retries, m.lost, m.ack, m.envelopes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *meter) envelope(events int) {
	if events > 0 {
		m.envelopes.Observe(float64(events))
	}
}
