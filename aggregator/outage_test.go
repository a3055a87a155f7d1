package aggregator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nowcast/aggregator/group"
	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// TestProducesRefused checks that no final row is lost while Kafka refuses windows, that only the newest
// content of provisional rows is kept, and that nothing unacknowledged is committed.
func TestProducesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.maxFinals = 1000
	s, m, _ := w.lanes(Config{Windows: true}, nil)
	w.traffic(1, 40, 10*time.Minute)
	w.clock += 2000
	w.send(0)
	w.send(1)
	w.agree()
	w.until(5*time.Second, "committed", func() string {
		c := w.committed("nowcast-windows")
		for p := range partitions {
			if c[topicPartition{topic.Events, p}] != int64(len(w.log[p])) {
				return fmt.Sprint(c)
			}
		}
		return ""
	})
	before := w.committed("nowcast-windows")
	refused := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Windows,
		Err: kerr.NotEnoughReplicas, Count: -1})
	w.clock = w.clock/1000*1000 + 1500
	second := w.clock / 1000
	for i := range uint64(30) {
		w.clock += 10
		w.send(0, w.view(1000+i, "/"))
	}
	w.until(5*time.Second, "unready", func() string {
		if ok, reason := s.Ready(); ok || !strings.Contains(reason,
			"windows lane: can't write nowcast.windows.v1: ") {
			return reason
		}
		return ""
	})
	// More rows become final than may be pending: reading stops before the last envelopes.
	const sites, each = 1200, 400
	for n := 0; n < sites; n += each {
		var views []event.Event
		for i := range each {
			v := w.view(1, "/")
			v.Visitor, v.Site, v.Hostname, v.Path, v.Country, v.Device = uint64(n+i+1),
				fmt.Sprint("s", n+i), "", "", "", ""
			views = append(views, v)
		}
		w.send(0, views...)
	}
	w.clock += 2000
	w.send(0)
	for range 5 {
		w.clock += 100
		w.send(0, w.view(1, "/waits"))
	}
	w.until(10*time.Second, "waiting", func() string {
		if testutil.ToFloat64(m.waits.WithLabelValues(topic.Windows)) == 0 {
			return "reading"
		}
		return ""
	})
	// Long enough for a commit that would be wrong.
	retries := testutil.ToFloat64(m.retries.WithLabelValues(topic.Windows))
	w.until(10*time.Second, "tried again", func() string {
		if n := testutil.ToFloat64(m.retries.WithLabelValues(topic.Windows)); n < retries+12 {
			return fmt.Sprint(n)
		}
		return ""
	})
	if after := w.committed("nowcast-windows"); after[topicPartition{topic.Events,
		0}] != before[topicPartition{topic.Events, 0}] {
		t.Errorf("committed %v during the outage, %v before", after, before)
	}
	refused.Remove()
	w.until(20*time.Second, "all emitted", func() string { // cheaper to ask than whether all agree
		w.mu.Lock()
		defer w.mu.Unlock()
		last := int64(len(w.log[0]) - 1)
		if !slices.ContainsFunc(w.emissions, func(e window.Emission) bool {
			return e.Partition == 0 &&
				e.Offset == last
		}) {
			return fmt.Sprint(len(w.emissions), " emissions")
		}
		return ""
	})
	w.agree()
	w.mu.Lock()
	defer w.mu.Unlock()
	provisional := map[uint64]bool{}
	for _, e := range w.emissions {
		for _, r := range e.Seconds {
			if r.Site == "example.com" && r.At == second && !r.Final {
				provisional[r.Version] = true
			}
		}
	}
	// One row was in flight when the outage began; newer versions replaced the others, at last the final
	// row.
	if len(provisional) > 2 {
		t.Errorf("%d provisional rows of one second after an outage", len(provisional))
	}
}

// haltedWith waits until the reason why the service isn't ready, or is degraded, has all parts.
func (w *world) haltedWith(s *Service, parts ...string) {
	w.t.Helper()
	w.until(15*time.Second, "halted", func() string {
		reason := reasonOf(s)
		for _, part := range parts {
			if !strings.Contains(reason, part) {
				return fmt.Sprintf("%q isn't in %q", part, reason)
			}
		}
		return ""
	})
}

const repair = "stop the aggregators, run nowcast group reset " +
	"--lane %s --topic %s --to earliest with their --kafka, and start them"

// recreate deletes a topic and creates it again.
func (w *world) recreate(name string) {
	w.t.Helper()
	if err := w.cluster.DeleteTopic(name); err != nil {
		w.t.Fatal(err)
	}
	if err := w.kafka.Ensure(w.t.Context(), topic.Specs(partitions, 1), nil); err != nil {
		w.t.Fatal(err)
	}
	if name == topic.Events {
		for p := range partitions {
			w.log[p] = nil
		}
	}
}

// commit sets a group's offsets, as of before a topic was recreated.
func (w *world) commit(group string, offsets map[topicPartition]int64, metadata string) {
	w.t.Helper()
	var positions []broker.Position
	for p, offset := range offsets {
		positions = append(positions,
			broker.Position{Topic: p.topic, Partition: p.partition, Offset: offset, Metadata: metadata})
	}
	membership := broker.Membership{Group: group, Generation: -1}
	if err := w.kafka.Commit(w.t.Context(), membership, positions); err != nil {
		w.t.Fatal(err)
	}
}

// TestRecreatedWhileRunning recreates a topic under a running lane, shorter than before. The partition is
// halted with the command that repairs it, nothing is committed, and the command repairs it.
func TestRecreatedWhileRunning(t *testing.T) {
	for _, name := range []string{topic.Events, topic.Windows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.garbage.Store(true) // the world's tail doesn't matter here
			s := newSink(t)
			service, _, stop := w.lanes(Config{Windows: name == topic.Events, Store: true}, s)
			if name == topic.Windows {
				for i := range int64(20) {
					w.produce(topic.Windows, 0, final(0, i))
				}
				w.until(10*time.Second, "stored", func() string { return short(s.rows("windows"), 20) })
			} else {
				w.traffic(1, 60, 5*time.Minute)
				w.stored(s)
			}
			w.until(5*time.Second, "ready", func() string { return reasonOf(service) })
			w.recreate(name)
			lane := []string{fmt.Sprintf(repair, "store", name), "the log isn't the one that was read: " +
				name + "/"}
			if name == topic.Events {
				lane = append(lane, "windows lane: ", fmt.Sprintf(repair, "windows", name))
				w.clock += 1000
				w.send(0, w.view(1, "/new"))
				w.send(1, w.view(2, "/new"))
			} else {
				w.produce(topic.Windows, 0, final(0, 100))
			}
			w.haltedWith(service, lane...)
			for _, group := range []string{"nowcast-store", "nowcast-windows"} {
				for p, offset := range w.committed(group) {
					if p.topic == name && offset >= 0 && offset < 3 {
						t.Errorf("%s committed %d of %v", group, offset, p)
					}
				}
			}
			stop()
			// The broker forgets positions in a deleted topic; the command does so for a broker that
			// doesn't.
			w.commit("nowcast-store", map[topicPartition]int64{{name, 0}: -1, {name, 1}: -1}, "")
			w.commit("nowcast-windows", map[topicPartition]int64{{name, 0}: -1, {name, 1}: -1}, "")
			again := newSink(t)
			w.lanes(Config{Windows: name == topic.Events, Store: true}, again)
			if name == topic.Events {
				events, _ := w.wantEvents()
				w.until(10*time.Second, "stored",
					func() string { return short(again.rows("events"), len(events)) })
			} else {
				w.until(10*time.Second, "stored", func() string { return short(again.rows("windows"), 1) })
			}
		})
	}
}

func short(rows map[string]string, want int) string {
	if len(rows) != want {
		return fmt.Sprintf("%d rows, want %d", len(rows), want)
	}
	return ""
}

// final returns an emission of one final row.
func final(partition uint32, i int64) []byte {
	e := window.Emission{Version: window.Version, Epoch: window.Epoch, Partition: partition,
		Seconds: []window.Second{
			{Site: "example.com", At: 1_795_435_200 + i, Events: 1, Final: true, Revision: 2,
				Version: window.RowVersion(window.Epoch, true, i)}}}
	return e.Append(nil)
}

// TestRecreatedAndGrown is the same with a new topic that has grown past the committed offsets: the record
// there has another time.
func TestRecreatedAndGrown(t *testing.T) {
	for _, name := range []string{topic.Events, topic.Windows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.garbage.Store(true)
			fill := func(n int) {
				if name == topic.Events {
					w.traffic(1, n, time.Minute)
					return
				}
				for i := range int64(n) {
					for p := range partitions {
						w.produce(topic.Windows, p, final(uint32(p), i))
					}
				}
			}
			s := newSink(t)
			cfg := Config{Windows: name == topic.Events, Store: true}
			_, _, stop := w.lanes(cfg, s)
			fill(10)
			want := func(s *sink) func() string {
				return func() string {
					if name == topic.Windows {
						return short(s.rows("windows"), partitions*10)
					}
					events, _ := w.wantEvents()
					return short(s.rows("events"), len(events))
				}
			}
			w.until(10*time.Second, "stored", want(s))
			stop()
			before := map[string][]group.Position{}
			for _, id := range []string{"nowcast-store", "nowcast-windows"} {
				before[id] = w.positions(id)
			}
			w.recreate(name)
			for id, positions := range before { // where the broker doesn't forget them with the topic
				for _, p := range positions {
					w.commit(id, map[topicPartition]int64{{p.Topic, p.Partition}: p.Offset}, p.Metadata)
				}
			}
			w.clock += 1000
			fill(40)
			again := newSink(t)
			service, m, stop := w.lanes(cfg, again)
			w.haltedWith(service, fmt.Sprintf(repair, "store", name))
			w.until(5*time.Second, "all partitions halted", func() string {
				if n := testutil.ToFloat64(m.halted.WithLabelValues("store")); n != partitions {
					return fmt.Sprintf("%v partitions are", n)
				}
				return ""
			})
			stop()
			for id, positions := range before {
				after := w.committed(id)
				for _, p := range positions {
					got := after[topicPartition{p.Topic, p.Partition}]
					if p.Topic == name && got != p.Offset {
						t.Errorf("%s: %s/%d is committed up to %d and was up to %d", id, p.Topic,
							p.Partition, got, p.Offset)
					}
				}
			}
		})
	}
}

// TestRecreatedWhileStopped is the same while no lane runs and the group's positions outlive the topic.
func TestRecreatedWhileStopped(t *testing.T) {
	for _, name := range []string{topic.Events, topic.Windows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			at := map[topicPartition]int64{{name, 0}: 1000, {name, 1}: 1000}
			w.commit("nowcast-store", at, fmt.Sprintf("watermark=%d", w.clock))
			w.commit("nowcast-windows", at, fmt.Sprintf("watermark=%d", w.clock))
			w.traffic(1, 10, time.Minute)
			s := newSink(t)
			service, _, stop := w.lanes(Config{Windows: name == topic.Events, Store: true}, s)
			w.haltedWith(service, fmt.Sprintf(repair, "store", name), "ends at offset",
				"up to 1000 had been read")
			stop()
			for p, offset := range w.committed("nowcast-store") {
				if p.topic == name && offset != 1000 {
					t.Errorf("%v is committed up to %d", p, offset)
				}
			}
		})
	}
}

// TestLostHead checks that records deleted unread are counted, and that reading goes on behind them.
func TestLostHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSink(t)
	_, _, stop := w.lanes(Config{Windows: true, Store: true}, s)
	w.traffic(1, 60, 20*time.Minute)
	w.stored(s)
	w.agree()
	stop()
	before, windows := w.committed("nowcast-store"), w.committed("nowcast-windows")
	w.traffic(2, 60, 10*time.Minute)
	first := int64(len(w.log[0])) - 5
	if err := w.cluster.DeleteRecords(topic.Events, 0, first); err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		w.produce(topic.Windows, 1, final(1, i))
	}
	_, end, err := w.kafka.Bounds(t.Context(), topic.Windows, 1)
	if err == nil {
		err = w.cluster.DeleteRecords(topic.Windows, 1, end-1)
	}
	if err != nil {
		t.Fatal(err)
	}
	service, m, _ := w.lanes(Config{Windows: true, Store: true}, s)
	w.until(10*time.Second, "ready", func() string { return reasonOf(service) })
	w.clock += 1000
	w.send(0, w.view(2, "/behind"))
	w.clock += 2000
	w.send(0)
	w.send(1)
	w.until(10*time.Second, "stored", func() string {
		key := fmt.Sprint("0/", len(w.log[0])-2, "/0")
		if _, has := s.rows("events")[key]; !has {
			return key
		}
		return ""
	})
	for _, c := range []struct {
		lane, topic string
		want        int64
	}{
		{"store", topic.Events, first - before[topicPartition{topic.Events, 0}]},
		{"windows", topic.Events, first - windows[topicPartition{topic.Events, 0}]},
		{"store", topic.Windows, end - 1 - before[topicPartition{topic.Windows, 1}]},
	} {
		if got := testutil.ToFloat64(m.lost.WithLabelValues(c.lane, c.topic)); got != float64(c.want) ||
			c.want <= 0 {
			t.Errorf("%s lane has lost %v of %s, want %d", c.lane, got, c.topic, c.want)
		}
	}
}
