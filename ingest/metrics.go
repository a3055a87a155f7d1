package ingest

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/ingest/spool"
)

// meter is what ingest counts.
type meter struct {
	others                                        *prometheus.CounterVec // by dimension
	beacons                                       *prometheus.CounterVec // by result and reason
	accepted, unknown, invalid, timeouts, refused prometheus.Counter
	limitedAddress, limitedSite                   prometheus.Counter
	retries, lost, spooled, untallied             prometheus.Counter
	ack, envelopes                                prometheus.Histogram
}

// reasons for which a beacon for a site that exists is left out: short lower-case words, those of the metric and of the site's ledger.
var reasons = []string{"bot", "prefetch", "opted_out", "spam_referrer", "hostname", "address", "country", "path", "not_kept"}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	beacons := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nowcast_ingest_beacons_total", Help: "Beacons by what became of them; one for several sites counts for each.",
	}, []string{"result", "reason"})
	m := &meter{
		beacons:        beacons,
		accepted:       beacons.WithLabelValues("accepted", ""),
		unknown:        beacons.WithLabelValues("dropped", "unknown_site"),
		limitedAddress: beacons.WithLabelValues("limited", "address"),
		limitedSite:    beacons.WithLabelValues("limited", "site"),
		invalid:        beacons.WithLabelValues("invalid", ""),
		timeouts:       beacons.WithLabelValues("unavailable", "not_acknowledged"),
		refused:        beacons.WithLabelValues("unavailable", "refused"),
		others: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nowcast_ingest_other_values_total", Help: "Values that count as (other), and properties left out, since a site has too many different ones."},
			[]string{"dimension"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_produce_retries_total", Help: "Envelopes sent once more."}),
		lost:    prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_lost_events_total", Help: "Events, none of them acknowledged, that were given up: at a stop, or refused by the log for good."}),
		spooled: prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_spooled_events_total", Help: "Events that were acknowledged by this machine's disk, since the log was away."}),
		untallied: prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_ingest_untallied_beacons_total",
			Help: "Dropped beacons that are missing in their site's ledger: too many waited for the log."}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nowcast_ingest_ack_seconds", Help: "From a beacon's arrival to its acknowledgement by the log.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2, 4},
		}),
		envelopes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nowcast_ingest_envelope_events", Help: "Events in an envelope that was acknowledged, ticks left out.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, fullEvents},
		}),
	}
	for _, reason := range reasons { // there from the start
		m.dropped(reason)
	}
	for _, c := range []prometheus.Collector{beacons, m.others, m.retries, m.lost, m.spooled, m.untallied, m.ack, m.envelopes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// spoolMetrics adds the gauges of a spool.
func spoolMetrics(reg prometheus.Registerer, s *spool.Spool) error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "nowcast_ingest_spool_" + name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		gauge("bytes", "Bytes on disk that wait for the log.", func() float64 { return float64(s.Bytes()) }),
		gauge("envelopes", "Envelopes on disk that wait for the log.", func() float64 { return float64(s.Envelopes()) }),
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
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "nowcast_ingest_spool_cut_bytes_total",
			Help: "Bytes on disk that could not be read back: a tail torn by a crash, or damage."}, func() float64 { return float64(s.Cut()) }),
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// dropped counts the beacons that were dropped for a reason.
func (m *meter) dropped(reason string) prometheus.Counter {
	return m.beacons.WithLabelValues("dropped", reason)
}

func (m *meter) envelope(events int) {
	if events > 0 {
		m.envelopes.Observe(float64(events))
	}
}
