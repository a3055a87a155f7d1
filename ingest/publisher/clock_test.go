package publisher

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// start runs a publisher on a cluster in this process until the test ends.
func start(t *testing.T) (*Publisher, *logtest.Cluster) {
	t.Helper()
	c := logtest.Start(t)
	stamp := func(e *event.Event, _ any, at int64) error { e.Time = at; return nil }
	deps := Deps{Broker: c.Client, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	p, err := New(stamp, deps)
	if err != nil {
		t.Fatal(err)
	}
	p.Open(logtest.Partitions)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { p.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return p, c
}

// produceTick writes a tick of a node to partition 0, with a timestamp that is ahead of this machine's
// clock.
func produceTick(t *testing.T, c *logtest.Cluster, node, sequence uint64, ahead time.Duration) {
	t.Helper()
	at := time.Now().Add(ahead)
	b := event.AppendHeader(nil, event.Header{Node: node, Sequence: sequence, Low: at.UnixMilli() - 1})
	if _, err := c.Client.Produce(t.Context(), topic.Events, 0, at, b); err != nil {
		t.Fatal(err)
	}
}

// TestSlowClock lets another node's timestamps be ahead of this machine's clock.
func TestSlowClock(t *testing.T) {
	p, c := start(t)
	lag := func() time.Duration {
		t.Helper()
		lag, err := p.clock.lag(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return lag
	}
	produceTick(t, c, 7, 1<<40, -time.Hour)
	produceTick(t, c, p.node, 1<<40, 4*time.Second) // its own timestamps don't count
	if lag := lag(); lag != 0 {
		t.Errorf("behind by %s", lag)
	}
	produceTick(t, c, 7, 1<<40, 3*time.Second)
	if lag := lag(); lag <= maxClockLag || lag > 3*time.Second {
		t.Errorf("behind by %s, want nearly 3 s", lag)
	}
	p.clock.compare(t.Context())
	if ok, reason := p.Ready(); ok || !strings.Contains(reason, "clock") {
		t.Errorf("ready %v: %s", ok, reason)
	}
	logtest.Until(t, "ready", func() bool { p.clock.compare(t.Context()); ok, _ := p.Ready(); return ok })
}

// A slow clock is noticed by a record of another node however many records this node has written since.
func TestSlowClockOfABusyNode(t *testing.T) {
	p, c := start(t)
	produceTick(t, c, 7, 1<<40, 5*time.Second)
	for range 20 {
		var own [][]byte
		for range 50 {
			own = append(own, event.AppendHeader(nil, event.Header{Node: p.node, Sequence: 1 << 40}))
		}
		if _, err := c.Client.Produce(t.Context(), topic.Events, 0, time.Now(), own...); err != nil {
			t.Fatal(err)
		}
	}
	lag, err := p.clock.lag(t.Context())
	if err != nil || lag <= maxClockLag || lag > 5*time.Second {
		t.Errorf("behind by %s (%v), want nearly 5 s", lag, err)
	}
}

// The look back ends where the records are older than clockLookBack.
func TestClockLooksBackByTime(t *testing.T) {
	p, c := start(t)
	produceTick(t, c, 7, 1<<40, 5*time.Second)
	var old [][]byte
	for range 1000 {
		old = append(old, event.AppendHeader(nil, event.Header{Node: p.node, Sequence: 1 << 40}))
	}
	at := time.Now().Add(-clockLookBack - time.Second)
	if _, err := c.Client.Produce(t.Context(), topic.Events, 0, at, old...); err != nil {
		t.Fatal(err)
	}
	if lag, err := p.clock.lag(t.Context()); err != nil || lag != 0 {
		t.Errorf("behind by %s (%v), want 0: that record is too far back", lag, err)
	}
}

// TestFastClock lets the brokers refuse this machine's timestamps. Another node's timestamps show by how
// much it is ahead.
func TestFastClock(t *testing.T) {
	p, c := start(t)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic != topic.Events || req.Topics[0].Partitions[0].Partition == 0 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		res.Topics = []kmsg.ProduceResponseTopic{{
			Topic: topic.Events,
			Partitions: []kmsg.ProduceResponseTopicPartition{{
				Partition: req.Topics[0].Partitions[0].Partition, ErrorCode: kerr.InvalidTimestamp.Code,
			}},
		}}
		return res, nil, true
	})
	logtest.Until(t, "unready", func() bool {
		ok, reason := p.Ready()
		return !ok && strings.Contains(reason, "more than 5 s: set it right")
	})
	sequence := uint64(0)
	logtest.Until(t, "the difference is known", func() bool {
		sequence++
		produceTick(t, c, 7, sequence, -7300*time.Millisecond)
		_, reason := p.Ready()
		return strings.HasPrefix(reason, "this machine's clock is 7.3 s ahead of the log's newest "+
			"timestamp") ||
			strings.HasPrefix(reason, "this machine's clock is 7.4 s ahead")
	})
}
