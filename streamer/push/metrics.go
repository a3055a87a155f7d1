package push

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	viewers                         *prometheus.GaugeVec // by transport and rate
	frames, bytes                   *prometheus.CounterVec
	ended                           *prometheus.CounterVec // by endReason
	skipped, conflated, writeBlocks prometheus.Counter
	age                             prometheus.Histogram
}

// rateMetrics are the counters of what was sent at one rate.
type rateMetrics struct{ frames, bytes prometheus.Counter }

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "nowcast", Subsystem: "streamer", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), []string{label})
	}
	m := &metrics{
		viewers: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("viewers",
			"Streams that are open, by transport (io_uring, epoll, handler) and rate.")),
			[]string{"transport", "rate"}),
		frames: vec("frames_total", "Frames written, by rate.", "rate"),
		bytes:  vec("bytes_total", "Bytes of frames written, by rate.", "rate"),
		skipped: counter("skipped_frames_total",
			"Frames merged into a later one because the viewer was slow."),
		conflated: counter("conflated_frames_total",
			"Frames made for one viewer because it was slow or joined between two frames."),
		writeBlocks: counter("write_blocks_total", "Writes that a socket accepted only in part."),
		ended:       vec("streams_ended_total", "Streams that ended, by reason.", "reason"),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "nowcast", Subsystem: "streamer", Name: "frame_age_seconds",
			Help:    "Age of a frame when the first and the last viewer of a thread were written to.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	for _, c := range []prometheus.Collector{
		m.viewers, m.frames, m.bytes, m.skipped, m.conflated, m.writeBlocks, m.ended, m.age,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metric: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) countEnd(reason endReason) { m.ended.WithLabelValues(string(reason)).Inc() }

func (m *metrics) ofRate(rate string) rateMetrics {
	return rateMetrics{m.frames.WithLabelValues(rate), m.bytes.WithLabelValues(rate)}
}
