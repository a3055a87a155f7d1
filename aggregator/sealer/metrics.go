package sealer

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	waiting, oldest                             prometheus.Gauge
	seconds                                     prometheus.Histogram
	sealed, rows, failures, collisions, dropped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "nowcast_seal_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "nowcast_seal_" + name, Help: help})
	}
	m := &metrics{
		waiting: gauge("waiting_days", "Days of sites that are read from their events: open, or not "+
			"sealed yet."),
		oldest: gauge("oldest_waiting_seconds", "How long the longest waiting closed day has waited."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "nowcast_seal_build_seconds",
			Help: "Time of a build of sealed days.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 14)}),
		sealed:     counter("days_total", "Days of sites that were sealed, each time they were."),
		rows:       counter("rows_total", "Page views and custom events that were sealed."),
		failures:   counter("failures_total", "Turns of the sealer that failed."),
		collisions: counter("collisions_total", "Days that aren't sealed because two strings have one key."),
		dropped:    counter("dropped_partitions_total", "Partitions dropped because no seal names them."),
	}
	reg.MustRegister(m.waiting, m.oldest, m.seconds, m.sealed, m.rows, m.failures, m.collisions, m.dropped)
	return m
}
