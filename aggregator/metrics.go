package aggregator

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
)

type metrics struct {
	events     *prometheus.CounterVec
	envelopes  *prometheus.CounterVec
	lag        *prometheus.GaugeVec
	lags       *lags
	watermark  *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	warmUp     *prometheus.GaugeVec
	partitions *prometheus.GaugeVec
	alone      *prometheus.GaugeVec
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
		envelopes:  counter("envelopes_total", "Records of the events topic: read, retried (dropped) or unreadable (dead letter; those of the windows topic too).", "lane", "result"),
		lag:        gauge("lag_records", "Records of a partition not read yet, as of the last fetch.", "lane", "topic", "partition"),
		watermark:  gauge("watermark_timestamp_seconds", "Everything before this time is final.", "lane", "partition"),
		lost:       counter("lost_records_total", "Records that were gone before they were read.", "lane", "topic"),
		warmUp:     gauge("warm_up_seconds", "How long the last warm-up of a partition took.", "lane", "partition"),
		partitions: gauge("partitions", "Partitions assigned to this instance.", "lane"),
		alone:      gauge("left_alone_partitions", "Partitions of this instance that are not worked on, for a reason that /readyz gives.", "lane"),
		rebalances: counter("rebalances_total", "Assignments of partitions to this instance.", "lane"),
		emitted:    counter("emitted_rows_total", "Rows written to the windows topic: final, provisional or now.", "kind"),
		stored:     counter("stored_rows_total", "Rows acknowledged by ClickHouse.", "table"),
		retries:    counter("retries_total", "Writes that had to be tried again.", "sink"),
		waits:      counter("waits_total", "Times that reading waited because a sink was behind.", "sink"),
	}
	m.lags = &lags{newest: map[[3]string]*atomic.Int64{}, desc: prometheus.NewDesc("nowcast_aggregator_lag_seconds",
		"Age of the newest record read of a partition; 0 when there is no newer one. A lane that waits for its sink ages too.",
		[]string{"lane", "topic", "partition"}, nil)}
	r.MustRegister(m.lags)
	m.insert = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "nowcast", Subsystem: "aggregator", Name: "insert_seconds",
		Help: "Time of an insert that ClickHouse acknowledged.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)}, []string{"table"})
	r.MustRegister(m.insert)
	return m
}

// assigned counts a rebalance and forgets the partitions that are others' now.
func (m *metrics) assigned(lane string, partitions []int) {
	m.rebalances.WithLabelValues(lane).Inc()
	m.partitions.WithLabelValues(lane).Set(float64(len(partitions)))
	m.alone.WithLabelValues(lane).Set(0)
	for _, g := range []*prometheus.GaugeVec{m.lag, m.watermark, m.warmUp} {
		g.DeletePartialMatch(prometheus.Labels{"lane": lane})
	}
	m.lags.forget(lane)
}

// lags is the metric of how far behind lanes are in time. It is computed when asked for, since a lane that stands still falls behind too.
type lags struct {
	desc *prometheus.Desc

	mu     sync.Mutex
	newest map[[3]string]*atomic.Int64 // by lane, topic and partition
}

// Of a partition's newest record, where there isn't a timestamp in ms.
const (
	unread   = -1 // nothing has been fetched yet: there is nothing to say
	caughtUp = 0
)

func (l *lags) of(lane, topic, partition string) *atomic.Int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := &atomic.Int64{}
	newest.Store(unread)
	l.newest[[3]string{lane, topic, partition}] = newest
	return newest
}

func (l *lags) forget(lane string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.newest, func(labels [3]string, _ *atomic.Int64) bool { return labels[0] == lane })
}

// Describe is a prometheus.Collector's.
func (l *lags) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect is a prometheus.Collector's.
func (l *lags) Collect(ch chan<- prometheus.Metric) {
	now := time.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	for labels, newest := range l.newest {
		var age int64
		switch at := newest.Load(); at {
		case unread:
			continue
		case caughtUp:
		default:
			age = max(0, now-at) // another machine's clock may be ahead
		}
		ch <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, float64(age)/1000, labels[:]...)
	}
}

// reading are a partition's metrics, most of them looked up once. Gauges of what isn't known yet are left out, since 0 would be a lie.
type reading struct {
	of                             *metrics
	lane, topic, partition         string
	counted, late, stale, repeated prometheus.Counter
	read, retried, unreadable      prometheus.Counter
	lost                           prometheus.Counter
	newest                         *atomic.Int64
}

func (m *metrics) reading(lane, topic string, partition int) reading {
	p := strconv.Itoa(partition)
	event := func(result string) prometheus.Counter { return m.events.WithLabelValues(lane, result) }
	envelope := func(result string) prometheus.Counter { return m.envelopes.WithLabelValues(lane, result) }
	return reading{m, lane, topic, p, event("counted"), event("late"), event("stale"), event("repeated"), envelope("read"), envelope("retried"), envelope("unreadable"),
		m.lost.WithLabelValues(lane, topic), m.lags.of(lane, topic, p)}
}

// record is called before a record is dealt with, which may take as long as a sink is away.
func (r *reading) record(at int64) { r.newest.Store(at) }

func (r *reading) fetched(next, end int64) {
	r.of.lag.WithLabelValues(r.lane, r.topic, r.partition).Set(float64(end - next))
	if next >= end {
		r.newest.Store(caughtUp)
	}
}

func (r *reading) reached(watermark int64) {
	if watermark != fold.None {
		r.of.watermark.WithLabelValues(r.lane, r.partition).Set(float64(watermark) / 1000)
	}
}

func (r *reading) warmedUp(took time.Duration) {
	r.of.warmUp.WithLabelValues(r.lane, r.partition).Set(took.Seconds())
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
