package ingest

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/ingest/publisher/logtest"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

const page = `{"n":"pageview","u":"https://example.com/a"}`

// refuse lets the broker refuse all events until the handle is removed.
func (w *world) refuse(err *kerr.Error) *kfake.FaultHandle {
	return w.log.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Events, Err: err, Count: -1})
}

// TestAcknowledged lets the broker refuse an event: the answer 202 comes after it accepts it.
func TestAcknowledged(t *testing.T) {
	w := start(t, Config{AckTimeout: time.Minute})
	fault := w.refuse(kerr.NotEnoughReplicas)
	got := make(chan answer, 1)
	go func() { got <- w.post(t, page) }()
	logtest.Until(t, "retried", func() bool { return fault.Hits() > 10 })
	select {
	case a := <-got:
		t.Fatalf("answered before it was acknowledged: %+v", a)
	default:
	}
	fault.Remove()
	if a := <-got; a.status != 202 {
		t.Errorf("%+v", a)
	}
	if n := len(w.events(t)); n != 1 {
		t.Errorf("%d events in the log", n)
	}
}

// TestNotAcknowledged lets the broker refuse an event: the answer after the timeout is 503, and the event
// reaches the log later.
func TestNotAcknowledged(t *testing.T) {
	w := start(t, Config{AckTimeout: 100 * time.Millisecond})
	fault := w.refuse(kerr.LeaderNotAvailable)
	a := w.post(t, page)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" ||
		!strings.Contains(a.body, `{"error":"not counted yet`) {
		t.Errorf("%+v", a)
	}
	logtest.Until(t, "unready", func() bool {
		ok, reason := w.Ready()
		return !ok &&
			strings.Contains(reason, "hasn't acknowledged")
	})
	fault.Remove()
	logtest.Until(t, "in the log", func() bool { return len(w.events(t)) == 1 })
	logtest.Until(t, "ready", func() bool { ok, _ := w.Ready(); return ok })
	if a := w.post(t, page); a.status != 202 {
		t.Errorf("after the fault: %+v", a)
	}
}

// TestUnknownOutcome lets the broker append envelopes and answer with an error: the log has duplicates,
// equal to the first record.
func TestUnknownOutcome(t *testing.T) {
	w := start(t, Config{})
	w.log.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Events,
		Err: kerr.NotEnoughReplicasAfterAppend, Count: logtest.Partitions * 3})
	if a := w.post(t, page); a.status != 202 {
		t.Errorf("%+v", a)
	}
	w.stop()
	type key struct {
		partition int
		sequence  uint64
	}
	seen := map[key]logtest.Record{}
	last := map[int]logtest.Record{}
	duplicates := 0
	for _, r := range w.log.Records(t) {
		k := key{r.Partition, r.Sequence}
		if first, ok := seen[k]; ok {
			duplicates++
			if first.At != r.At || first.Low != r.Low || len(first.Events) != len(r.Events) {
				t.Errorf("a duplicate differs: %+v and %+v", first, r)
			}
			continue
		}
		if p := last[r.Partition]; r.Sequence != p.Sequence+1 || r.Low < p.Low || r.At < p.At ||
			p.CloseMarker {
			t.Errorf("%+v follows %+v", r, p)
		}
		seen[k], last[r.Partition] = r, r
	}
	if duplicates == 0 {
		t.Error("no duplicates: the fault had no effect")
	}
	for p := range logtest.Partitions {
		if !last[p].CloseMarker {
			t.Errorf("partition %d has no close marker", p)
		}
	}
}

// TestStop stops a service: an event that was taken before is acknowledged, later ones are refused.
func TestStop(t *testing.T) {
	var taken atomic.Bool
	w := start(t, Config{}, func(w *world) {
		// The publisher takes an event under the same lock as it stamps it.
		replacePublisher(t, w.Service, w.log.Client, func(e *event.Event, visitor any, at int64) error {
			err := w.salts.stamp(e, visitor, at)
			taken.Store(true)
			return err
		})
	})
	fault := w.refuse(kerr.NotEnoughReplicas)
	got := make(chan answer, 1)
	go func() { got <- w.post(t, page) }()
	logtest.Until(t, "taken", taken.Load)
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	logtest.Until(t, "refusing", func() bool {
		a := w.post(t, page)
		return a.status == 503 &&
			strings.Contains(a.body, "stopping")
	})
	fault.Remove()
	if a := <-got; a.status != 202 {
		t.Errorf("%+v", a)
	}
	<-stopped
	n := 0
	for _, r := range w.log.Records(t) {
		n += len(r.Events)
	}
	if n == 0 {
		t.Error("the event isn't in the log")
	}
}
