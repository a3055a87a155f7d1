package aggregator

import (
	"flag"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/aggregator/group"
	"nowcast/internal/mutationtest"
	"nowcast/internal/topic"
)

var mutations = flag.Bool("mutations", false, "run TestMutations")

// refuseWindows has the broker answer writes to the windows topic with an error that clients retry, until the
// returned function is called. It counts the attempts.
func (w *world) refuseWindows(attempts *atomic.Int64) (allow func()) {
	var allowed atomic.Bool
	w.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		r := request.(*kmsg.ProduceRequest)
		if allowed.Load() || len(r.Topics) != 1 || r.Topics[0].Topic != topic.Windows {
			return nil, nil, false
		}
		attempts.Add(1)
		response := r.ResponseKind().(*kmsg.ProduceResponse)
		t := kmsg.NewProduceResponseTopic()
		t.Topic = topic.Windows
		for _, p := range r.Topics[0].Partitions {
			x := kmsg.NewProduceResponseTopicPartition()
			x.Partition, x.ErrorCode = p.Partition, kerr.NotEnoughReplicas.Code
			t.Partitions = append(t.Partitions, x)
		}
		response.Topics = append(response.Topics, t)
		return response, nil, true
	})
	return func() { allowed.Store(true) }
}

// Before the windows topic has acknowledged a row, no position behind its envelope may be committed: neither
// while the lane works nor when it stops.
func TestWindowsCommitAfterAcknowledgement(t *testing.T) {
	w := newWorld(t)
	s, stop := w.start(Config{Windows: true, Drain: 50 * time.Millisecond})
	w.traffic(1, 20, time.Minute)
	w.agree()
	positions := func() []group.Position {
		s.lanes[0].mu.Lock()
		defer s.lanes[0].mu.Unlock()
		return s.lanes[0].work.(*windowsWork).Positions()
	}
	committed := func() []group.Position {
		all, err := w.kafka.Committed(t.Context(), topic.Group("windows"), []int{0, 1}, topic.Events)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	w.until(5*time.Second, "committed", func() string {
		for p, x := range committed() {
			if x.Offset != int64(len(w.log[p])) {
				return "not yet"
			}
		}
		return ""
	})
	before, committedBefore := positions(), committed()
	var attempts atomic.Int64
	allow := w.refuseWindows(&attempts)
	w.clock += 3000
	for range 3 {
		w.clock += 1000
		w.send(0, w.view(2, "/"))
		w.send(1, w.view(3, "/"))
	}
	w.until(10*time.Second, "tried", func() string {
		if attempts.Load() < 6 {
			return "not yet"
		}
		return ""
	})
	if now := positions(); !slices.Equal(now, before) {
		t.Errorf("may commit %v before the acknowledgement, had %v", now, before)
	}
	stop()
	if now := committed(); !slices.Equal(now, committedBefore) {
		t.Errorf("committed %v before the acknowledgement, had %v", now, committedBefore)
	}
	allow()
	w.start(Config{Windows: true})
	w.agree()
}

func TestMutations(t *testing.T) {
	if !*mutations {
		t.Skip("builds this package: run make test-mutations")
	}
	const tests, file = "^TestWindowsCommitAfterAcknowledgement$", "windows.go"
	const reached = "	w.unacknowledgedPosition = position(w.partition, p.next, p.watermark)\n"
	const early = "	w.acknowledged = w.unacknowledgedPosition\n"
	mutationtest.Check(t, []mutationtest.Mutant{
		{Name: "commits what isn't acknowledged", File: file, Tests: tests,
			Old:         "			all = append(all, p.acknowledged)",
			Replacement: "			all = append(all, p.unacknowledgedPosition)"},
		{Name: "acknowledges when it collects", File: file, Tests: tests,
			Old: reached, Replacement: reached + early},
		{Name: "acknowledges an attempt that failed", File: file, Tests: tests,
			Old: "		w.metrics.retries.WithLabelValues(topic.Windows).Inc()\n" +
				"		if w.logged",
			Replacement: "		w.mu.Lock()\n" + early + "		w.mu.Unlock()\n		if w.logged"},
		{Name: "acknowledges at a stop", File: file, Tests: tests,
			Old:         "		if ctx.Err() != nil {\n			return false\n		}\n",
			Replacement: "		if ctx.Err() != nil {\n" + early + "			return false\n		}\n"},
		{Name: "commits behind a cut that isn't stored", File: "store.go", Tests: "^TestCutHoldsPosition$",
			Old:         "return w.cuts.holds(topicPartition{p.Topic, p.Partition})",
			Replacement: "return false"},
		{Name: "no mutation", File: file, Tests: tests, Unnoticed: true,
			Old: reached, Replacement: reached + "	// the same\n"},
	})
}
