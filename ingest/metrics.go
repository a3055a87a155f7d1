package ingest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what ingest counts. The publisher has metrics of its own.
type metrics struct {
	others                                        *prometheus.CounterVec // by dimension
	beacons                                       *prometheus.CounterVec // by result and reason
	accepted, unknown, invalid, timeouts, refused prometheus.Counter
	limitedAddress, limitedSite                   prometheus.Counter
	ack                                           prometheus.Histogram
}

// dropReasons are the reasons why a beacon for a site is dropped: labels of the metric, and reasons in
// the ledger of the site.
var dropReasons = []string{
	"bot", "prefetch", "opted_out", "spam_referrer", "hostname", "address", "country", "path", "not_kept",
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	beacons := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nowcast_ingest_beacons_total",
		Help: "Beacons by what became of them; one for several sites counts for each.",
	}, []string{"result", "reason"})
	m := &metrics{
		beacons:        beacons,
		accepted:       beacons.WithLabelValues("accepted", ""),
		unknown:        beacons.WithLabelValues("dropped", "unknown_site"),
		limitedAddress: beacons.WithLabelValues("limited", "address"),
		limitedSite:    beacons.WithLabelValues("limited", "site"),
		invalid:        beacons.WithLabelValues("invalid", ""),
		timeouts:       beacons.WithLabelValues("unavailable", "not_acknowledged"),
		refused:        beacons.WithLabelValues("unavailable", "refused"),
		others: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nowcast_ingest_other_values_total",
			Help: "Values that count as (other), and properties left out, " +
				"since a site has too many different ones.",
		}, []string{"dimension"}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "nowcast_ingest_ack_seconds",
			Help:    "From a beacon's arrival to its acknowledgement by the log.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2, 4},
		}),
	}
	for _, reason := range dropReasons { // so that each is 0 from the start
		m.dropped(reason)
	}
	for _, c := range []prometheus.Collector{beacons, m.others, m.ack} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// dropped counts the beacons that are dropped for a reason.
func (m *metrics) dropped(reason string) prometheus.Counter {
	return m.beacons.WithLabelValues("dropped", reason)
}
