package aggregator

import (
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/aggregator/fold"
	"nowcast/internal/broker"
)

type metrics struct {
	events     *prometheus.CounterVec
	envelopes  *prometheus.CounterVec
	lag        *prometheus.GaugeVec
	lagSeconds *lagSeconds
	watermark  *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	cuts       *prometheus.CounterVec
	warmUp     *prometheus.GaugeVec
	partitions *prometheus.GaugeVec
	halted     *prometheus.GaugeVec
	rebalances *prometheus.CounterVec
	emitted    *prometheus.CounterVec
	stored     *prometheus.CounterVec
	insert     *prometheus.HistogramVec
	retries    *prometheus.CounterVec
	waits      *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "nowcast", Subsystem: "aggregator",
			Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "nowcast", Subsystem: "aggregator",
			Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		events: counter("events_total",
			"Events read, by what became of them: counted, late, stale or duplicate.", "lane", "result"),
		envelopes: counter("envelopes_total", "Records of the events topic: read, retried (dropped) or "+
			"unreadable (dead letter; those of the windows topic too).", "lane", "result"),
		lag: gauge("lag_records",
			"Records of a partition not read yet, as of the last fetch.", "lane", "topic", "partition"),
		watermark: gauge("watermark_timestamp_seconds",
			"Everything before this time is final.", "lane", "partition"),
		lost: counter("lost_records_total", "Records that were gone before they were read.", "lane", "topic"),
		cuts: counter("log_cuts_total", "Places where the log has lost its newest records, and was read on.",
			"lane", "topic"),
		warmUp: gauge("warm_up_seconds",
			"How long the last warm-up of a partition took.", "lane", "partition"),
		partitions: gauge("partitions", "Partitions assigned to this instance.", "lane"),
		halted: gauge("left_alone_partitions",
			"Partitions of this instance that are not worked on, for a reason that /readyz gives.", "lane"),
		rebalances: counter("rebalances_total", "Assignments of partitions to this instance.", "lane"),
		emitted: counter("emitted_rows_total",
			"Rows written to the windows topic: final, provisional or now.", "kind"),
		stored:  counter("stored_rows_total", "Rows acknowledged by ClickHouse.", "table"),
		retries: counter("retries_total", "Writes that had to be tried again.", "sink"),
		waits:   counter("waits_total", "Times that reading waited because a sink was behind.", "sink"),
	}
	m.lagSeconds = &lagSeconds{newest: map[[3]string]*atomic.Int64{},
		desc: prometheus.NewDesc("nowcast_aggregator_lag_seconds",
			"Age of the newest record read of a partition; 0 when there is no newer one. "+
				"A lane that waits for its sink ages too.", []string{"lane", "topic", "partition"}, nil)}
	r.MustRegister(m.lagSeconds)
	m.insert = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "nowcast",
		Subsystem: "aggregator",
		Name:      "insert_seconds", Help: "Time of an insert that ClickHouse acknowledged.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)}, []string{"table"})
	r.MustRegister(m.insert)
	return m
}

// assigned counts a rebalance and deletes the metrics of the last generation's partitions.
func (m *metrics) assigned(lane string, partitions []int) {
	m.rebalances.WithLabelValues(lane).Inc()
	m.partitions.WithLabelValues(lane).Set(float64(len(partitions)))
	m.halted.WithLabelValues(lane).Set(0)
	for _, g := range []*prometheus.GaugeVec{m.lag, m.watermark, m.warmUp} {
		g.DeletePartialMatch(prometheus.Labels{"lane": lane})
	}
	m.lagSeconds.delete(lane)
}

// lagSeconds is the metric of how far lanes are behind in time. It is computed when it is collected, so that
// it also grows for a lane that stands still.
type lagSeconds struct {
	desc *prometheus.Desc

	mu     sync.Mutex
	newest map[[3]string]*atomic.Int64 // timestamp of the newest record, ms, by lane, topic and partition
}

// Values of lagSeconds.newest that aren't timestamps.
const (
	unread   = -1 // nothing has been fetched yet: the metric is left out
	caughtUp = 0
)

// add starts the metric of a partition.
func (l *lagSeconds) add(lane, topic, partition string) *atomic.Int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := &atomic.Int64{}
	newest.Store(unread)
	l.newest[[3]string{lane, topic, partition}] = newest
	return newest
}

func (l *lagSeconds) delete(lane string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.newest, func(labels [3]string, _ *atomic.Int64) bool { return labels[0] == lane })
}

// Describe implements prometheus.Collector.
func (l *lagSeconds) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect implements prometheus.Collector.
func (l *lagSeconds) Collect(ch chan<- prometheus.Metric) {
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
			age = max(0, now-at) // the clock of the machine that wrote the record may be ahead
		}
		ch <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, float64(age)/1000, labels[:]...)
	}
}

// partitionMetrics are the metrics of one partition, most of them looked up once. Gauges whose value isn't
// known yet are left out, since 0 would be wrong.
type partitionMetrics struct {
	all                             *metrics
	lane, topic, partition          string
	counted, late, stale, duplicate prometheus.Counter
	read, retried, unreadable       prometheus.Counter
	lost                            prometheus.Counter
	newest                          *atomic.Int64
}

func (m *metrics) partition(lane, topic string, partition int) partitionMetrics {
	p := strconv.Itoa(partition)
	event := func(result string) prometheus.Counter { return m.events.WithLabelValues(lane, result) }
	envelope := func(result string) prometheus.Counter { return m.envelopes.WithLabelValues(lane, result) }
	return partitionMetrics{all: m, lane: lane, topic: topic, partition: p,
		counted: event("counted"), late: event("late"), stale: event("stale"), duplicate: event("duplicate"),
		read: envelope("read"), retried: envelope("retried"), unreadable: envelope("unreadable"),
		lost: m.lost.WithLabelValues(lane, topic), newest: m.lagSeconds.add(lane, topic, p)}
}

// record is called before a record is consumed, which may take as long as a sink is unavailable.
func (p *partitionMetrics) record(at int64) { p.newest.Store(at) }

func (p *partitionMetrics) fetched(next, end int64) {
	p.all.lag.WithLabelValues(p.lane, p.topic, p.partition).Set(float64(end - next))
	if next >= end {
		p.newest.Store(caughtUp)
	}
}

// gap logs and counts records that were deleted before they were read.
func (p *partitionMetrics) gap(g broker.Gap, log *slog.Logger) {
	if n := g.To - g.From; n > 0 {
		p.lost.Add(float64(n))
		log.Error("records are gone before they were read",
			"topic", g.Topic, "from", g.From, "to", g.To-1, "records", n)
	}
}

func (p *partitionMetrics) setWatermark(watermark int64) {
	if watermark != fold.None {
		p.all.watermark.WithLabelValues(p.lane, p.partition).Set(float64(watermark) / 1000)
	}
}

func (p *partitionMetrics) setWarmUp(took time.Duration) {
	p.all.warmUp.WithLabelValues(p.lane, p.partition).Set(took.Seconds())
}

func (p *partitionMetrics) count(o fold.Outcome) {
	if o.Retried {
		p.retried.Inc()
		return
	}
	p.read.Inc()
	for c, n := range map[prometheus.Counter]int{p.counted: o.Counted, p.late: o.Late, p.stale: o.Stale,
		p.duplicate: o.Duplicate} {
		if n > 0 {
			c.Add(float64(n))
		}
	}
}

// cut logs and counts a cut of the log. Behind the committed position it was counted before.
func (p *partitionMetrics) cut(c broker.Cut, live bool, log *slog.Logger) {
	if live {
		p.all.cuts.WithLabelValues(p.lane, p.topic).Inc()
		log.Error("the log has lost its newest records at a loss of power, and goes on: "+
			"the last seconds before it may lack events", "cut", c.String())
	}
}
