package ingest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/internal/topic"
)

const page = `{"n":"pageview","u":"https://example.com/a"}`

// refuse has the broker refuse all events until the handle is removed.
func (w *world) refuse(err *kerr.Error) *kfake.FaultHandle {
	return w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Events, Err: err, Count: -1})
}

// TestAcknowledged: no 202 before the log has it.
func TestAcknowledged(t *testing.T) {
	w := start(t, Config{AckTimeout: time.Minute})
	fault := w.refuse(kerr.NotEnoughReplicas)
	got := make(chan answer, 1)
	go func() { got <- w.post(t, page) }()
	until(t, "retried", func() bool { return fault.Hits() > 10 })
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

// TestNotAcknowledged: 503 after the timeout, and the event lands when the log is back.
func TestNotAcknowledged(t *testing.T) {
	w := start(t, Config{AckTimeout: 100 * time.Millisecond})
	fault := w.refuse(kerr.LeaderNotAvailable)
	a := w.post(t, page)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, `{"error":"not counted yet`) {
		t.Errorf("%+v", a)
	}
	until(t, "unready", func() bool { ok, why := w.Ready(); return !ok && strings.Contains(why, "hasn't acknowledged") })
	fault.Remove()
	until(t, "in the log", func() bool { return len(w.events(t)) == 1 })
	until(t, "ready", func() bool { ok, _ := w.Ready(); return ok })
	if a := w.post(t, page); a.status != 202 {
		t.Errorf("after the fault: %+v", a)
	}
}

// TestUnknownOutcome: what the log took without saying so is there twice, as the same envelope.
func TestUnknownOutcome(t *testing.T) {
	w := start(t, Config{})
	w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Events, Err: kerr.NotEnoughReplicasAfterAppend, Count: partitions * 3})
	if a := w.post(t, page); a.status != 202 {
		t.Errorf("%+v", a)
	}
	w.stop()
	type key struct {
		partition int
		sequence  uint64
	}
	seen := map[key]record{}
	last := map[int]record{}
	repeats := 0
	for _, r := range w.records(t) {
		k := key{r.partition, r.Sequence}
		if first, ok := seen[k]; ok {
			repeats++
			if first.at != r.at || first.Low != r.Low || len(first.events) != len(r.events) {
				t.Errorf("a repeat differs: %+v and %+v", first, r)
			}
			continue
		}
		if p := last[r.partition]; r.Sequence != p.Sequence+1 || r.Low < p.Low || r.at < p.at || p.CloseMarker {
			t.Errorf("%+v follows %+v", r, p)
		}
		seen[k], last[r.partition] = r, r
	}
	if repeats == 0 {
		t.Error("no repeats: the fault did nothing")
	}
	for p := range partitions {
		if !last[p].CloseMarker {
			t.Errorf("partition %d got no farewell", p)
		}
	}
}

// TestStop: what came before the stop is acknowledged, what comes after is refused.
func TestStop(t *testing.T) {
	w := start(t, Config{})
	fault := w.refuse(kerr.NotEnoughReplicas)
	got := make(chan answer, 1)
	go func() { got <- w.post(t, page) }()
	until(t, "taken", func() bool {
		for _, l := range w.publisher.lanes {
			l.mu.Lock()
			n := len(l.queue)
			for _, e := range l.queue {
				n += e.events
			}
			l.mu.Unlock()
			if n > 1 {
				return true
			}
		}
		return false
	})
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	until(t, "refusing", func() bool { a := w.post(t, page); return a.status == 503 && strings.Contains(a.body, "stopping") })
	fault.Remove()
	if a := <-got; a.status != 202 {
		t.Errorf("%+v", a)
	}
	<-stopped
	n := 0
	for _, r := range w.records(t) {
		n += len(r.events)
	}
	if n == 0 {
		t.Error("the event isn't in the log")
	}
}
