package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// ticks is an ingest node that sends empty envelopes (ticks), which let the watermarks of all partitions
// advance.
type ticks struct {
	kafka      *broker.Client
	mu         sync.Mutex
	watermarks [4]int64 // of the windows topic, unix ms, by partition
}

func startTicks(t *testing.T, kafka *broker.Client) *ticks {
	t.Helper()
	p := &ticks{kafka: kafka}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	for i := range p.watermarks {
		all.Go(func() {
			for sequence := uint64(1); ctx.Err() == nil; _ = retry.Sleep(ctx, 100*time.Millisecond) {
				now := time.Now()
				h := event.Header{Version: event.Version, Node: 1, Sequence: sequence,
					Low: now.UnixMilli() - 1}
				b := event.AppendHeader(nil, h)
				try, stop := context.WithTimeout(ctx, 5*time.Second)
				if _, err := kafka.Produce(try, topic.Events, i, now, b); err != nil {
					kafka.Refresh()
				}
				stop()
				sequence++ // also after an error: a retry of a tick is useless
			}
		})
		all.Go(func() {
			var e window.Emission
			record := func(r broker.Record) error {
				if err := e.Decode(r.Value); err != nil {
					return err
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				p.watermarks[i] = max(p.watermarks[i], e.Watermark)
				return nil
			}
			_ = kafka.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: i, Record: record})
		})
	}
	return p
}

// advance waits until the watermarks of all partitions are past the present moment, which may take limit.
func (p *ticks) advance(t *testing.T, what string, limit time.Duration) {
	t.Helper()
	from := time.Now()
	eventually(t, limit+30*time.Second, what, func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if low := slices.Min(p.watermarks[:]); low < from.UnixMilli() {
			return fmt.Errorf("the lowest watermark is %v behind", from.Sub(time.UnixMilli(low)))
		}
		return nil
	})
	took := time.Since(from)
	t.Logf("%s: the watermarks of all partitions advanced after %v", what, took.Round(10*time.Millisecond))
	if took > limit {
		t.Errorf("%s: it took %v, want at most %v", what, took, limit)
	}
}

// generations counts how often an aggregator was assigned partitions.
func generations(p *proc) int { return strings.Count(p.out.String(), "got partitions") }

// Partitions are taken over within 5 s of a clean stop and 15 s of a kill. A static member (KIP-345) that
// restarts within the session keeps its partitions. A move of the group's coordinator causes no rebalance.
func TestTakeover(t *testing.T) {
	k := startKafka(t, kafkatest.Config{Dir: t.TempDir(), Nodes: 3})
	addrs := strings.Join(k.Addrs(), ",")
	makeTopics(t, addrs, "3")
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	p := startTicks(t, client)
	aggregator := func(more ...string) *proc {
		ops := port(t)
		args := []string{"aggregator", "--lanes", "windows", "--ops-listen", ops, "--kafka", addrs}
		a := start(t, append(args, more...)...)
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
	p.advance(t, "two aggregators", 20*time.Second)
	if code := b.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	p.advance(t, "a clean stop", 5*time.Second)
	b = aggregator()
	both(a, b, 4)
	p.advance(t, "another one", 5*time.Second)
	b.kill(syscall.SIGKILL)
	p.advance(t, "kill -9", 15*time.Second)

	b = aggregator("--instance", "b")
	p.advance(t, "another one, with a name", 5*time.Second)
	before := generations(a)
	b.kill(syscall.SIGKILL)
	b = aggregator("--instance", "b")
	p.advance(t, "kill -9 and a restart under the same name", 5*time.Second)
	if code := b.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	b = aggregator("--instance", "b")
	p.advance(t, "a clean restart under the same name", 5*time.Second)
	if now := generations(a); now != before {
		t.Errorf("the other one was assigned partitions %d times by that", now-before)
	}

	before = generations(a) + generations(b)
	wire := kafkaClient(t, k.Addrs())
	req := &kafka.FindCoordinatorRequest{Key: "nowcast-windows", KeyType: kafka.CoordinatorKeyTypeConsumer}
	c, err := wire.FindCoordinator(t.Context(), req)
	if err != nil || c.Error != nil || c.Coordinator == nil {
		t.Fatalf("find the coordinator: %v, %+v", err, c)
	}
	n := k.Nodes[c.Coordinator.NodeID-1]
	n.Kill()
	p.advance(t, "the coordinator's broker is killed", 30*time.Second)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	p.advance(t, "it is back", 30*time.Second)
	if now := generations(a) + generations(b); now != before {
		t.Errorf("partitions were assigned %d times when the coordinator moved", now-before)
	}
}

// kafkaClient returns a client for requests that internal/broker doesn't have.
func kafkaClient(t *testing.T, addrs []string) *kafka.Client {
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(addrs...), Transport: transport}
}

// Topics are deleted, made again and filled past the committed offsets under a running aggregator, on a
// real broker. The aggregator halts their partitions and says so. After a restart it reads the new log:
// Kafka deletes committed offsets with their topic.
func TestTopicRecreated(t *testing.T) {
	k := startKafka(t, kafkatest.Config{Dir: t.TempDir(), Nodes: 1})
	client := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(client.Close)
	dsn := clickhouse(t)
	specs := topic.Specs(1, 1)
	const records = 200 // of the second log
	at := time.Now().Add(-time.Minute)
	sequence := uint64(0)
	fill := func(n int) {
		t.Helper()
		if err := client.Ensure(t.Context(), specs, nil); err != nil {
			t.Fatal(err)
		}
		for range n {
			at, sequence = at.Add(10*time.Millisecond), sequence+1
			header := event.Header{Version: event.Version, Node: 1, Sequence: sequence,
				Low: at.UnixMilli() - 1}
			h := event.AppendHeader(nil, header)
			w := window.Emission{Version: window.Version, Epoch: window.Epoch, Watermark: at.UnixMilli(),
				Now: at.UnixMilli()}
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
	fill(records / 10)
	ops := port(t)
	args := []string{"aggregator", "--lanes", "store", "--ops-listen", ops, "--kafka",
		strings.Join(k.Addrs(), ","), "--clickhouse", dsn}
	a := start(t, args...)
	ready(t, a, ops)
	eventually(t, 10*time.Second, "offsets committed", func(ctx context.Context) error {
		all, err := client.Committed(ctx, topic.Group("store"), []int{0}, topic.Events, topic.Windows)
		for _, p := range all {
			if p.Offset < records/10 {
				return fmt.Errorf("%s at %d", p.Topic, p.Offset)
			}
		}
		return err
	})
	pid := a.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it reads nothing while the logs grow
	defer syscall.Kill(pid, syscall.SIGCONT)
	wire := kafkaClient(t, k.Addrs())
	deleted, err := wire.DeleteTopics(t.Context(),
		&kafka.DeleteTopicsRequest{Topics: []string{topic.Events, topic.Windows}})
	if err == nil {
		err = errors.Join(deleted.Errors[topic.Events], deleted.Errors[topic.Windows])
	}
	if err != nil {
		t.Fatal(err)
	}
	// The client that fills them again has cached the deleted topics' metadata.
	eventually(t, 10*time.Second, "topics are deleted", func(ctx context.Context) error {
		client.Refresh()
		for _, name := range []string{topic.Events, topic.Windows} {
			if _, _, err := client.Shape(ctx, name); !errors.Is(err, broker.ErrUnknownTopic) {
				return fmt.Errorf("%s is still there: %v", name, err)
			}
		}
		return nil
	})
	fill(records)
	time.Sleep(3 * time.Second) // the client's metadata may be older than the new topics until then
	_ = syscall.Kill(pid, syscall.SIGCONT)
	for _, name := range []string{topic.Events, topic.Windows} {
		eventually(t, 15*time.Second, name+" is halted", func(context.Context) error {
			advice := "nowcast group reset --lane store --topic " + name
			if !strings.Contains(a.out.String(), advice) {
				return errors.New("the log doesn't say so")
			}
			return nil
		})
	}
	r, err := (&world{}).call(t.Context(), http.MethodGet, "http://"+ops+"/readyz", "", nil)
	if err != nil || r.status != http.StatusServiceUnavailable ||
		!strings.Contains(r.body, "nowcast group reset") {
		t.Errorf("/readyz: %v, %v", r, err)
	}
	a.stop(t)
	a = start(t, args...)
	ready(t, a, ops)
}
