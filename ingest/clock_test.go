package ingest

import (
	"strings"
	"testing"
	"time"

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
