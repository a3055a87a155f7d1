// Package streamertest has what the tests of several packages of the streamer share: a windows topic to
// write to, and a viewer that reads streams.
package streamertest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"nowcast/internal/broker"
	"nowcast/internal/site"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// Log is a broker with the topics of a cluster; the windows topic has two partitions.
type Log struct {
	T       *testing.T
	Cluster *kfake.Cluster
	Kafka   *broker.Client
	Start   int64 // the test's first second, Unix
	At      int64 // the newest final second written
}

// NewLog starts a broker whose windows begin a minute ago.
func NewLog(t *testing.T) *Log {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	kafka := broker.New(broker.Config{Addrs: k.ListenAddrs()})
	l := &Log{T: t, Cluster: k, Kafka: kafka, Start: time.Now().Unix() - 60}
	l.At = l.Start - 1
	t.Cleanup(l.Kafka.Close)
	if err := l.Kafka.Ensure(t.Context(), topic.Specs(2, 1), nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// Sites runs a registry with the sites given, which were created an hour before the first second.
func (l *Log) Sites(sites ...site.Site) *site.Registry {
	l.T.Helper()
	r := site.NewRegistry(l.Kafka, slog.New(slog.DiscardHandler))
	l.Run(r.Run)
	if err := r.Wait(l.T.Context()); err != nil {
		l.T.Fatal(err)
	}
	for _, s := range sites {
		if s.Created.IsZero() {
			s.Created = time.Unix(l.Start, 0).Add(-time.Hour).UTC() // the log has seconds of the past
		}
		if err := r.Put(l.T.Context(), s); err != nil {
			l.T.Fatal(err)
		}
	}
	return r
}

// Run runs f until the test ends.
func (l *Log) Run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f(ctx) }()
	l.T.Cleanup(func() { cancel(); <-done })
}

// Emit writes an emission to a partition.
func (l *Log) Emit(part int, e *window.Emission) {
	l.T.Helper()
	e.Version, e.Epoch, e.Partition = window.Version, window.Epoch, uint32(part)
	if _, err := l.Kafka.Produce(l.T.Context(), topic.Windows, part, time.Now(), e.Append(nil)); err != nil {
		l.T.Fatal(err)
	}
}

// Final makes the next n seconds final, each with one page view of open.example.com in either partition.
func (l *Log) Final(n int) {
	l.T.Helper()
	for range n {
		l.At++
		for p := range 2 {
			l.Emit(p, &window.Emission{
				Offset: l.At, Watermark: (l.At + 1) * 1000, Now: (l.At+1)*1000 + 250,
				Seconds: []window.Second{{
					Site: "open.example.com", At: l.At, Pageviews: 1, Visitors: 1, Events: 1, Active: 3,
					Final: true, Revision: 2, Version: window.RowVersion(window.Epoch, true, l.At),
				}},
			})
		}
	}
}

// Eventually polls until ok returns true, or fails the test after 10 s.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s: ", what)
		}
	}
}

// Metric is the value of a counter or gauge of the streamer, summed over the series that have all of the
// label values.
func Metric(t *testing.T, from prometheus.Gatherer, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "nowcast_streamer_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			text := fmt.Sprint(m.GetLabel())
			lacks := func(l string) bool { return !strings.Contains(text, `value:"`+l+`"`) }
			if slices.ContainsFunc(labels, lacks) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
