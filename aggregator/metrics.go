package aggregator

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
)

type metrics struct {
	events     *prometheus.CounterVec
	envelopes  *prometheus.CounterVec
	lag        *prometheus.GaugeVec
	watermark  *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	warmUp     *prometheus.GaugeVec
	partitions *prometheus.GaugeVec
	rebalances *prometheus.CounterVec
	emitted    *prometheus.CounterVec
	stored     *prometheus.CounterVec
	insert     *prometheus.HistogramVec
	retries    *prometheus.CounterVec
	waits      *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "nowcast", Subsystem: "aggregator", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "nowcast", Subsystem: "aggregator", Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		events:     counter("events_total", "Events read, by what became of them: counted, late, stale or repeated.", "lane", "result"),
		envelopes:  counter("envelopes_total", "Records of the events topic: read, retried (dropped) or unreadable (dead letter).", "lane", "result"),
		lag:        gauge("lag_records", "Records of a partition not read yet.", "lane", "topic", "partition"),
		watermark:  gauge("watermark_timestamp_seconds", "Everything before this time is final.", "lane", "partition"),
		lost:       counter("lost_records_total", "Records that were gone before they were read.", "lane", "topic"),
		warmUp:     gauge("warm_up_seconds", "How long the last warm-up of a partition took.", "lane", "partition"),
		partitions: gauge("partitions", "Partitions assigned to this instance.", "lane"),
		rebalances: counter("rebalances_total", "Assignments of partitions to this instance.", "lane"),
		emitted:    counter("emitted_rows_total", "Rows written to the windows topic: final, provisional or now.", "kind"),
		stored:     counter("stored_rows_total", "Rows acknowledged by ClickHouse.", "table"),
		retries:    counter("retries_total", "Writes that had to be tried again.", "sink"),
		waits:      counter("waits_total", "Times that reading waited because a sink was behind.", "sink"),
	}
	m.insert = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "nowcast", Subsystem: "aggregator", Name: "insert_seconds",
		Help: "Time of an insert that ClickHouse acknowledged.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)}, []string{"table"})
	r.MustRegister(m.insert)
	return m
}

// assigned counts a rebalance and forgets the partitions that are others' now.
func (m *metrics) assigned(lane string, partitions []int) {
	m.rebalances.WithLabelValues(lane).Inc()
	m.partitions.WithLabelValues(lane).Set(float64(len(partitions)))
	for _, g := range []*prometheus.GaugeVec{m.lag, m.watermark, m.warmUp} {
		g.DeletePartialMatch(prometheus.Labels{"lane": lane})
	}
}

// reading are a partition's metrics, looked up once.
type reading struct {
	counted, late, stale, repeated prometheus.Counter
	read, retried, unreadable      prometheus.Counter
	lost                           prometheus.Counter
	lag, watermark, warmUp         prometheus.Gauge
}

func (m *metrics) reading(lane, topic string, partition int) reading {
	p := strconv.Itoa(partition)
	event := func(result string) prometheus.Counter { return m.events.WithLabelValues(lane, result) }
	envelope := func(result string) prometheus.Counter { return m.envelopes.WithLabelValues(lane, result) }
	return reading{event("counted"), event("late"), event("stale"), event("repeated"), envelope("read"), envelope("retried"), envelope("unreadable"),
		m.lost.WithLabelValues(lane, topic), m.lag.WithLabelValues(lane, topic, p), m.watermark.WithLabelValues(lane, p), m.warmUp.WithLabelValues(lane, p)}
}

func (r *reading) count(o fold.Outcome) {
	if o.Retried {
		r.retried.Inc()
		return
	}
	r.read.Inc()
	for c, n := range map[prometheus.Counter]int{r.counted: o.Counted, r.late: o.Late, r.stale: o.Stale, r.repeated: o.Repeated} {
		if n > 0 {
			c.Add(float64(n))
		}
	}
}
