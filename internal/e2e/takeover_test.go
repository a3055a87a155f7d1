package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// pulse is an ingest node that only ticks, and how far the windows of each partition have come.
type pulse struct {
	kafka      *broker.Client
	mu         sync.Mutex
	watermarks [4]int64
}

func startPulse(t *testing.T, kafka *broker.Client) *pulse {
	t.Helper()
	p := &pulse{kafka: kafka}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	for i := range p.watermarks {
		all.Go(func() {
			for sequence := uint64(1); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
				now := time.Now()
				b := event.AppendHeader(nil, event.Header{Version: event.Version, Node: 1, Sequence: sequence, Low: now.UnixMilli() - 1})
				try, stop := context.WithTimeout(ctx, 5*time.Second)
				if _, err := kafka.Produce(try, topic.Events, i, now, b); err != nil {
					kafka.Refresh()
				}
				stop()
				sequence++ // also when the outcome is unknown: a retry would say nothing new
			}
		})
		all.Go(func() {
			var e window.Emission
			_ = kafka.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: i, Record: func(r broker.Record) error {
				if err := e.Decode(r.Value); err != nil {
					return err
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				p.watermarks[i] = max(p.watermarks[i], e.Watermark)
				return nil
			}})
		})
	}
	return p
}

// passed waits until the windows of all partitions are past this moment, and says how long after it that was.
func (p *pulse) passed(t *testing.T, what string, limit time.Duration) {
	t.Helper()
	from := time.Now()
	eventually(t, limit+30*time.Second, what, func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if low := slices.Min(p.watermarks[:]); low < from.UnixMilli() {
			return fmt.Errorf("the windows stand at %v before it", from.Sub(time.UnixMilli(low)))
		}
		return nil
	})
	took := time.Since(from)
	t.Logf("%s: windows of all partitions went on after %v", what, took.Round(10*time.Millisecond))
	if took > limit {
		t.Errorf("%s: it took %v, want at most %v", what, took, limit)
	}
}

// generations counts the times that an aggregator was given partitions.
func generations(p *proc) int { return strings.Count(p.out.String(), "got partitions") }

// Partitions are taken over within 5 s of a clean stop and 15 s of a kill; whoever is back under its name within the session has what it had; and a
// move of the group's coordinator is nothing that a member notices.
func TestTakeover(t *testing.T) {
	k, err := kafkatest.Start(kafkatest.Config{Dir: t.TempDir(), Nodes: 3})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	addrs := strings.Join(k.Addrs(), ",")
	if out, err := exec.CommandContext(t.Context(), binary(t), "topics", "--kafka", addrs, "--partitions", "4", "--replication", "3").CombinedOutput(); err != nil {
		t.Fatalf("nowcast topics: %v\n%s", err, out)
	}
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	p := startPulse(t, client)
	aggregator := func(more ...string) *proc {
		ops := port(t)
		a := start(t, append([]string{"aggregator", "--lanes", "windows", "--ops-listen", ops, "--kafka", addrs}, more...)...)
		ready(t, a, ops)
		return a
	}
	both := func(a, b *proc, more int) {
		t.Helper()
		eventually(t, 30*time.Second, "both have partitions", func(context.Context) error {
			if generations(a) < more || generations(b) < 1 {
				return fmt.Errorf("%d, %d generations", generations(a), generations(b))
			}
			return nil
		})
	}
	a := aggregator()
	b := aggregator()
	both(a, b, 2)
	p.passed(t, "two aggregators", 20*time.Second)
	if code := b.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	p.passed(t, "a clean stop", 5*time.Second)
	b = aggregator()
	both(a, b, 4)
	p.passed(t, "another one", 5*time.Second)
	b.kill(syscall.SIGKILL)
	p.passed(t, "kill -9", 15*time.Second)

	b = aggregator("--instance", "b")
	p.passed(t, "another one, with a name", 5*time.Second)
	before := generations(a)
	b.kill(syscall.SIGKILL)
	b = aggregator("--instance", "b")
	p.passed(t, "kill -9 and a restart under the same name", 5*time.Second)
	if code := b.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	b = aggregator("--instance", "b")
	p.passed(t, "a clean restart under the same name", 5*time.Second)
	if now := generations(a); now != before {
		t.Errorf("the other one was given partitions %d times by that", now-before)
	}

	before = generations(a) + generations(b)
	wire := &kafka.Client{Addr: kafka.TCP(k.Addrs()...)}
	c, err := wire.FindCoordinator(t.Context(), &kafka.FindCoordinatorRequest{Key: "nowcast-windows", KeyType: kafka.CoordinatorKeyTypeConsumer})
	if err != nil || c.Error != nil || c.Coordinator == nil {
		t.Fatalf("find the coordinator: %v, %+v", err, c)
	}
	n := k.Nodes[c.Coordinator.NodeID-1]
	n.Kill()
	p.passed(t, "the coordinator's broker is killed", 30*time.Second)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	p.passed(t, "it is back", 30*time.Second)
	if now := generations(a) + generations(b); now != before {
		t.Errorf("partitions were given out %d times when the coordinator moved", now-before)
	}
}

// Topics made anew under a running aggregator, and grown past what it had read, on a real broker: it leaves them alone and says so, and goes on
// with the new log when it is started again, since Kafka forgets positions with their topic.
func TestMadeAnew(t *testing.T) {
	k, err := kafkatest.Start(kafkatest.Config{Dir: t.TempDir(), Nodes: 1})
	if errors.Is(err, kafkatest.ErrUnavailable) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	dsn := clickhouse(t)
	specs := topic.Specs(1, 1)
	const most = 200 // records of a log
	at := time.Now().Add(-time.Minute)
	sequence := uint64(0)
	fill := func(n int) {
		t.Helper()
		if err := client.Ensure(t.Context(), specs, nil); err != nil {
			t.Fatal(err)
		}
		for range n {
			at, sequence = at.Add(10*time.Millisecond), sequence+1
			h := event.AppendHeader(nil, event.Header{Version: event.Version, Node: 1, Sequence: sequence, Low: at.UnixMilli() - 1})
			w := window.Emission{Version: window.Version, Epoch: window.Epoch, Watermark: at.UnixMilli(), Now: at.UnixMilli()}
			for name, b := range map[string][]byte{topic.Events: h, topic.Windows: w.Append(nil)} {
				eventually(t, 10*time.Second, "written", func(ctx context.Context) error {
					_, err := client.Produce(ctx, name, 0, at, b)
					if err != nil {
						client.Refresh()
					}
					return err
				})
			}
		}
	}
	fill(most / 10)
	ops := port(t)
	a := start(t, "aggregator", "--lanes", "store", "--ops-listen", ops, "--kafka", strings.Join(k.Addrs(), ","), "--clickhouse", dsn)
	ready(t, a, ops)
	eventually(t, 10*time.Second, "positions committed", func(ctx context.Context) error {
		all, err := client.Committed(ctx, topic.Group("store"), []int{0}, topic.Events, topic.Windows)
		for _, p := range all {
			if p.Offset < most/10 {
				return fmt.Errorf("%s at %d", p.Topic, p.Offset)
			}
		}
		return err
	})
	pid := a.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP)   // so that it sees nothing of how the logs grow
	defer syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it is gone then, or goes on
	wire := &kafka.Client{Addr: kafka.TCP(k.Addrs()...)}
	gone, err := wire.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic.Events, topic.Windows}})
	if err == nil {
		err = errors.Join(gone.Errors[topic.Events], gone.Errors[topic.Windows])
	}
	if err != nil {
		t.Fatal(err)
	}
	fill(most)
	time.Sleep(3 * time.Second) // nobody deletes, makes and fills a topic faster than that, but this test
	_ = syscall.Kill(pid, syscall.SIGCONT)
	for _, name := range []string{topic.Events, topic.Windows} {
		eventually(t, 15*time.Second, name+" left alone", func(context.Context) error {
			if out := a.out.String(); !strings.Contains(out, "--delete-offsets --topic "+name) {
				return errors.New("it isn't said")
			}
			return nil
		})
	}
	if r, err := (&world{}).call(t.Context(), http.MethodGet, "http://"+ops+"/readyz", "", nil); err != nil || r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, "--delete-offsets") {
		t.Errorf("/readyz: %v, %v", r, err)
	}
	a.stop(t)
	a = start(t, "aggregator", "--lanes", "store", "--ops-listen", ops, "--kafka", strings.Join(k.Addrs(), ","), "--clickhouse", dsn)
	ready(t, a, ops)
}
