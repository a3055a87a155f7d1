package live

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// emitOne makes a second final in one partition, with a page view.
func (w *world) emitOne(partition int, at int64) {
	w.T.Helper()
	w.Emit(partition, &window.Emission{
		Offset: at, Watermark: (at + 1) * 1000, Now: (at + 1) * 1000,
		Seconds: []window.Second{{
			Site: "open.example.com", At: at, Pageviews: 1, Visitors: 1, Events: 1, Active: 3, Final: true,
			Revision: 2, Version: window.RowVersion(window.Epoch, true, at),
		}},
	})
}

// emitEpoch writes an empty emission of an epoch.
func (w *world) emitEpoch(partition int, epoch uint32) {
	w.T.Helper()
	e := window.Emission{Version: window.Version, Epoch: epoch, Partition: uint32(partition)}
	_, err := w.Kafka.Produce(w.T.Context(), topic.Windows, partition, time.Now(), e.Append(nil))
	if err != nil {
		w.T.Fatal(err)
	}
}

// A partition stands still. The stream goes on without it and says so; so do /readyz and the metrics. When
// the partition is back, nothing is degraded.
func TestSilentPartition(t *testing.T) {
	w := newWorld(t)
	var skip atomic.Int64 // by which the streamer's clock is ahead
	w.now = func() time.Time { return time.Now().Add(time.Duration(skip.Load())) }
	w.Final(20)
	silentSince := w.At
	s, base := w.service(Config{})
	v, _ := w.open(base, nil)
	v.Next()
	for range 100 { // seconds of the log, at once
		w.At++
		w.emitOne(0, w.At)
	}
	w.eventually("all is read", func() bool {
		return s.Degraded() == nil && s.tail.board().WatermarkOffsets(w.At)[0] >= 0
	})
	skip.Store(int64(2 * time.Minute))
	w.At++
	w.emitOne(0, w.At)
	m := v.Next()
	if m.Second == nil || !m.Second.Lacks || !m.Lacks || m.Visitors != 3 ||
		m.Second.Pageviews != uint32(w.At-silentSince) {
		t.Errorf("%s", m.Data)
	}
	w.eventually("degraded", func() bool {
		ok, _ := s.Ready()
		reason := s.Degraded()["live"]
		return ok && strings.Contains(reason, "partition 1 of nowcast.windows.v1 has sent nothing since "+
			time.Unix(silentSince+1, 0).UTC().Format(time.RFC3339)) && strings.Contains(reason, "incomplete")
	})
	if n := w.metric("missing_partitions"); n != 1 {
		t.Errorf("%v partitions are missing", n)
	}
	if n := w.metric("incomplete_seconds_total"); n != float64(w.At-silentSince) {
		t.Errorf("%v seconds are incomplete", n)
	}
	for at := silentSince + 1; at <= w.At; at++ {
		w.emitOne(1, at)
	}
	w.eventually("not degraded", func() bool { return s.Degraded() == nil })
	w.Final(1)
	for m = v.Next(); m.Second.Lacks; m = v.Next() {
	}
	if m.Lacks || m.Second.Pageviews != 2 || m.Visitors != 6 {
		t.Errorf("%s", m.Data)
	}
	skip.Add(int64(2 * quietAfter))
	if reason := s.Degraded()["live"]; !strings.Contains(reason, "no windows have come") {
		t.Errorf("a log that stands still: %q", reason)
	}
}

// Windows of another epoch are counted and said for as long as they come. A streamer that can't read any
// partition isn't ready.
func TestOtherEpoch(t *testing.T) {
	w := newWorld(t)
	w.Final(1)
	s, _ := w.service(Config{})
	w.emitEpoch(1, window.Epoch+1)
	w.eventually("degraded", func() bool {
		ok, _ := s.Ready()
		reason := s.Degraded()["live"]
		return ok && strings.Contains(reason, "partition 1 of nowcast.windows.v1 has windows of epoch 2, "+
			"and this streamer reads those of epoch 1: update the streamers")
	})
	w.emitEpoch(0, window.Epoch+1)
	w.eventually("unready", func() bool {
		ok, reason := s.Ready()
		return !ok && strings.Contains(reason, "update the streamers")
	})
	if n := w.metric("other_epoch_windows_total"); n != 2 {
		t.Errorf("%v are counted", n)
	}
	w.Final(1)
	w.eventually("ready", func() bool { ok, _ := s.Ready(); return ok && s.Degraded() == nil })
}
