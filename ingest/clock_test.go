package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/event"
	"nowcast/internal/topic"
)

// TestSlowClock: another node's records are ahead of this machine's clock.
func TestSlowClock(t *testing.T) {
	w := start(t, Config{})
	produce := func(node uint64, ahead time.Duration) {
		t.Helper()
		at := time.Now().Add(ahead)
		b := event.AppendHeader(nil, event.Header{Node: node, Sequence: 1 << 40, Low: at.UnixMilli() - 1})
		if _, err := w.client.Produce(t.Context(), topic.Events, 0, at, b); err != nil {
			t.Fatal(err)
		}
	}
	check := func() time.Duration {
		t.Helper()
		off, err := behind(t.Context(), w.client, w.publisher.node)
		if err != nil {
			t.Fatal(err)
		}
		return off
	}
	produce(7, -time.Hour)
	produce(w.publisher.node, 4*time.Second) // its own says nothing
	if off := check(); off != 0 {
		t.Errorf("behind by %s", off)
	}
	produce(7, 3*time.Second)
	if off := check(); off <= clockLimit || off > 3*time.Second {
		t.Errorf("behind by %s, want nearly 3 s", off)
	}
	w.compareClock(t.Context())
	if ok, why := w.Ready(); ok || !strings.Contains(why, "clock") {
		t.Errorf("ready %v: %s", ok, why)
	}
	until(t, "ready", func() bool { w.compareClock(t.Context()); ok, _ := w.Ready(); return ok })
}

// TestFastClock: the brokers refuse this machine's time, and what another node writes shows by how much.
func TestFastClock(t *testing.T) {
	w := start(t, Config{})
	w.kafka.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic != topic.Events || req.Topics[0].Partitions[0].Partition == 0 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		res.Topics = []kmsg.ProduceResponseTopic{{Topic: topic.Events, Partitions: []kmsg.ProduceResponseTopicPartition{
			{Partition: req.Topics[0].Partitions[0].Partition, ErrorCode: kerr.InvalidTimestamp.Code}}}}
		return res, nil, true
	})
	until(t, "unready", func() bool { ok, why := w.Ready(); return !ok && strings.Contains(why, "more than 5 s: set it right") })
	sequence := uint64(0)
	until(t, "the difference is known", func() bool {
		sequence++
		at := time.Now().Add(-7300 * time.Millisecond)
		b := event.AppendHeader(nil, event.Header{Node: 7, Sequence: sequence, Low: at.UnixMilli() - 1})
		if _, err := w.client.Produce(t.Context(), topic.Events, 0, at, b); err != nil {
			t.Fatal(err)
		}
		_, why := w.Ready()
		return strings.HasPrefix(why, "this machine's clock is 7.3 s ahead of the log's newest timestamp") || strings.HasPrefix(why, "this machine's clock is 7.4 s ahead")
	})
}
