package kafkatest_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/kafkatest"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

// The packages that use Kafka keep their promises on a real one. Nodes are slow to start, so the tests
// share a cluster.
func TestOneNode(t *testing.T) {
	k := start(t, kafkatest.Config{Dir: t.TempDir(), Props: map[string]string{
		"log.initial.task.delay.ms": "100", "log.retention.check.interval.ms": "300",
		"log.cleaner.backoff.ms": "200"}})
	t.Run("Ensure", func(t *testing.T) { ensure(t, k) })
	t.Run("Follow", func(t *testing.T) { follow(t, k) })
	t.Run("Prompt", func(t *testing.T) { prompt(t, k) })
	t.Run("Refused", func(t *testing.T) { refused(t, k) })
	t.Run("Gap", func(t *testing.T) { gap(t, k) })
	t.Run("Compacted", func(t *testing.T) { compacted(t, k) })
	t.Run("Sites", func(t *testing.T) { sites(t, k) })
	t.Run("Restart", func(t *testing.T) { restart(t, k) })
}

func start(t *testing.T, c kafkatest.Config) *kafkatest.Cluster {
	t.Helper()
	k, err := kafkatest.Start(c)
	if errors.Is(err, kafkatest.ErrUnavailable) {
		t.Skipf("LEFT OUT, not tested on real Kafka: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

func client(t *testing.T, k *kafkatest.Cluster) *broker.Client {
	c := broker.New(broker.Config{Addrs: k.Addrs()})
	t.Cleanup(c.Close)
	return c
}

// makeTopic makes a topic with one partition.
func makeTopic(t *testing.T, c *broker.Client, name string, settings map[string]string) {
	t.Helper()
	spec := topic.Spec{Name: name, Partitions: 1, Replication: 1, Settings: settings}
	if err := c.Ensure(t.Context(), []topic.Spec{spec}, nil); err != nil {
		t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

// within polls a condition for 30 s.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func ensure(t *testing.T, k *kafkatest.Cluster) {
	var wg sync.WaitGroup
	for range 4 { // as roles that start together
		wg.Go(func() {
			c := client(t, k)
			if err := c.Ensure(t.Context(), topic.Specs(4, 1), func(err error) { t.Log(err) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := client(t, k)
	if n, err := c.Partitions(t.Context(), topic.Windows); n != 4 || err != nil {
		t.Errorf("%d partitions, %v", n, err)
	}
	if err := c.Ensure(t.Context(), topic.Specs(8, 1), nil); !errors.Is(err, broker.ErrMismatch) {
		t.Errorf("other number of partitions: %v", err)
	}
	specs := topic.Specs(4, 1)
	specs[0].Settings["retention.ms"] = "1"
	if err := c.Ensure(t.Context(), specs, nil); !errors.Is(err, broker.ErrMismatch) ||
		!strings.Contains(err.Error(), "retention.ms=2592000000 and needs 1:") {
		t.Errorf("other settings: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := c.Ensure(ctx, []topic.Spec{{Name: "three", Partitions: 1, Replication: 3}}, nil)
	if err == nil || !strings.Contains(err.Error(), "fewer than 3 brokers") {
		t.Errorf("three copies on one node: %v", err)
	}
	err = c.Ensure(t.Context(), []topic.Spec{{Name: "odd", Partitions: 1, Replication: 1,
		Settings: map[string]string{"no.such": "1"}}}, nil)
	if !errors.Is(err, kafka.InvalidConfiguration) {
		t.Errorf("unknown setting: %v", err)
	}
}

func follow(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	makeTopic(t, c, "follow", nil)
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 5 {
		base, err := c.Produce(t.Context(), "follow", 0, at.Add(time.Duration(i)*time.Second),
			fmt.Appendf(nil, "a%d", i), fmt.Appendf(nil, "b%d", i))
		if err != nil || base != int64(2*i) {
			t.Fatal(base, err)
		}
	}
	for _, row := range []struct {
		after time.Duration
		want  int64
	}{{-time.Hour, 0}, {0, 0}, {time.Second, 2}, {1500 * time.Millisecond, 4}, {4 * time.Second, 8},
		{time.Hour, 10}} {
		if off, err := c.OffsetAt(t.Context(), "follow", 0, at.Add(row.after)); off != row.want ||
			err != nil {
			t.Errorf("offset at +%v: %d, %v", row.after, off, err)
		}
	}
	if first, end, err := c.Bounds(t.Context(), "follow", 0); first != 0 || end != 10 || err != nil {
		t.Errorf("bounds %d %d, %v", first, end, err)
	}
	var got []string
	record := func(r broker.Record) error {
		got = append(got, fmt.Sprintf("%d:%s:%d", r.Offset, r.Value, r.Time-at.UnixMilli()))
		if r.Offset == 6 {
			return errEnough
		}
		return nil
	}
	err := c.Follow(t.Context(), broker.Follower{Topic: "follow", From: 3, Record: record})
	if want := "3:b1:1000 4:a2:2000 5:b2:2000 6:a3:3000"; !errors.Is(err, errEnough) ||
		strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
	if _, _, err := c.Bounds(t.Context(), "nowhere", 0); !broker.Retryable(err) {
		t.Errorf("bounds of no topic: %v", err)
	}
}

// A follower receives a record within milliseconds of its acknowledgement, not at the end of MaxWait.
func prompt(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	makeTopic(t, c, "prompt", nil)
	ctx, cancel := context.WithCancel(t.Context())
	seen, idle, done := make(chan time.Time), make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Follow(ctx, broker.Follower{Topic: "prompt", MaxWait: 2 * time.Second,
			Record: func(broker.Record) error { seen <- time.Now(); return nil },
			Batch: func(_, _ int64) error {
				select {
				case idle <- struct{}{}:
				default:
				}
				return nil
			}})
	}()
	<-idle
	best := time.Hour
	for range 20 {
		if _, err := c.Produce(ctx, "prompt", 0, time.Now(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		acked := time.Now()
		best = min(best, (<-seen).Sub(acked))
	}
	if best > 50*time.Millisecond {
		t.Errorf("delivered %v after the acknowledgement at best", best)
	}
	cancel()
	<-done
}

// The broker's refusal of a record from the future or of a too large one can't be retried.
func refused(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	if _, err := c.Produce(t.Context(), topic.Events, 0, time.Now().Add(time.Minute),
		[]byte("x")); err == nil || broker.Retryable(err) {
		t.Errorf("a minute ahead: %v", err)
	}
	if _, err := c.Produce(t.Context(), topic.Events, 0, time.Now(), make([]byte, 2<<20)); !errors.Is(err,
		kafka.MessageSizeTooLarge) || broker.Retryable(err) {
		t.Errorf("2 MB: %v", err)
	}
}

func gap(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	makeTopic(t, c, "gap", map[string]string{"retention.ms": "60000"})
	produce := func(n int, at time.Time) {
		for range n {
			if _, err := c.Produce(t.Context(), "gap", 0, at, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce(7, time.Now().Add(-time.Hour))
	within(t, "retention", func() bool {
		first, _, err := c.Bounds(t.Context(), "gap", 0)
		return first == 7 && err == nil
	})
	produce(3, time.Now())
	for _, row := range []struct{ from, to int64 }{{2, 7}, {99, 10}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var got broker.Gap
		_ = c.Follow(ctx, broker.Follower{Topic: "gap", From: row.from,
			Record: func(broker.Record) error { return nil }, Gap: func(g broker.Gap) { got = g; cancel() }})
		cancel()
		if got != (broker.Gap{Topic: "gap", From: row.from, To: row.to}) {
			t.Errorf("from %d: %v", row.from, got)
		}
	}
}

// Compaction leaves gaps between offsets and empty batches, which a follower skips.
func compacted(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	makeTopic(t, c, "compacted", map[string]string{"cleanup.policy": "compact", "segment.ms": "200",
		"min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "100", "min.compaction.lag.ms": "0",
		"max.compaction.lag.ms": "500"})
	put := func(key, value string) (off int64) {
		v := []byte(value)
		if value == "" {
			v = nil
		}
		off, err := c.ProduceKeyed(t.Context(), "compacted", []byte(key), v)
		if err != nil {
			t.Fatal(err)
		}
		return off
	}
	for i := range 20 {
		put("a", fmt.Sprint("a", i))
		put("gone", "x")
	}
	put("gone", "")
	last := int64(0)
	read := func() (n int, a string) {
		end := put("roll", "x") // closes the segment: an active one isn't compacted
		_ = c.Follow(t.Context(), broker.Follower{Topic: "compacted", Record: func(r broker.Record) error {
			n++
			if string(r.Key) == "a" {
				a = string(r.Value)
			}
			if last = r.Offset; r.Offset == end {
				return errEnough
			}
			return nil
		}})
		return n, a
	}
	within(t, "compaction", func() bool {
		n, a := read()
		return a == "a19" && n < 20 && last > 40
	})
}

func sites(t *testing.T, k *kafkatest.Cluster) {
	registry := func() *site.Registry {
		r := site.NewRegistry(client(t, k), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return r
	}
	ready := func(r *site.Registry) *site.Registry {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := r.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := registry(), registry()
	ready(a)
	if ready(b); a.SigningKey("test") != b.SigningKey("test") || a.SigningKey("test") == [32]byte{} {
		t.Errorf("keys %x and %x", a.SigningKey("test"), b.SigningKey("test"))
	}
	if err := a.Put(t.Context(), site.Site{Domain: "example.com", Public: true}); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.Lookup("example.com"); !ok {
		t.Error("the registry that made the site doesn't know it")
	}
	_, secret, err := a.NewKey(t.Context(), "reader", false, []string{"example.com"})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the other registry knows site and key", func() bool {
		_, site := b.Lookup("example.com")
		_, key := b.Authenticate(secret)
		return site && key
	})
	c := client(t, k)
	if _, err := c.ProduceKeyed(t.Context(), topic.Sites, []byte("secret"),
		[]byte(hex.EncodeToString(make([]byte, 32)))); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "example.com"); err != nil {
		t.Fatal(err)
	}
	late := ready(registry())
	if _, ok := late.Lookup("example.com"); ok || late.SigningKey("test") != a.SigningKey("test") {
		t.Errorf("a later start reads %v, key %x", late.Sites(), late.SigningKey("test"))
	}
}

// A follower survives a broker that is killed, stopped and paused, and misses no record.
func restart(t *testing.T, k *kafkatest.Cluster) {
	c := client(t, k)
	makeTopic(t, c, "restart", nil)
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		record := func(r broker.Record) error { got <- string(r.Value); return nil }
		_ = c.Follow(ctx, broker.Follower{Topic: "restart", Record: record})
	}()
	produce := func(v string) {
		within(t, "an acknowledgement of "+v, func() bool {
			try, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_, err := c.Produce(try, "restart", 0, time.Now(), []byte(v))
			if err != nil {
				c.Refresh()
			}
			return err == nil
		})
	}
	produce("before")
	for i, stop := range []func(){k.Nodes[0].Kill, k.Nodes[0].Term} {
		stop()
		if err := k.Nodes[0].Start(); err != nil {
			t.Fatal(err)
		}
		produce(fmt.Sprint("after ", i))
	}
	k.Nodes[0].Pause()
	try, stop := context.WithTimeout(ctx, time.Second)
	if _, err := c.Produce(try, "restart", 0, time.Now(), []byte("maybe")); err == nil {
		t.Error("a paused node answers")
	}
	stop()
	k.Nodes[0].Resume()
	produce("end")
	seen := map[string]bool{}
	for limit := time.After(30 * time.Second); !seen["end"]; {
		select {
		case v := <-got:
			seen[v] = true
		case <-limit:
			t.Fatalf("read %v", seen)
		}
	}
	if !seen["before"] || !seen["after 0"] || !seen["after 1"] {
		t.Errorf("read %v", seen)
	}
	cancel()
	<-done
}

// With three nodes, a paused leader and a killed one delay records by seconds and lose no acknowledged
// record.
func TestThreeNodes(t *testing.T) {
	k := start(t, kafkatest.Config{Nodes: 3, Dir: t.TempDir()})
	c := client(t, k)
	if err := c.Ensure(t.Context(), topic.Specs(3, 3), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for p := range 3 {
		wg.Go(func() {
			record := func(r broker.Record) error {
				mu.Lock()
				defer mu.Unlock()
				seen[string(r.Value)] = true
				return nil
			}
			_ = c.Follow(ctx, broker.Follower{Topic: topic.Events, Partition: p, Record: record})
		})
	}
	everywhere := func(what string) {
		t.Helper()
		from := time.Now()
		for p := range 3 {
			within(t, what+": an acknowledgement", func() bool {
				try, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				_, err := c.Produce(try, topic.Events, p, time.Now(), fmt.Append(nil, what, p))
				if err != nil {
					c.Refresh()
				}
				return err == nil
			})
		}
		acked := time.Since(from)
		within(t, what+": all read", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return seen[fmt.Sprint(what, 0)] && seen[fmt.Sprint(what, 1)] && seen[fmt.Sprint(what, 2)]
		})
		t.Logf("%s: acknowledged in all partitions after %v, read after %v", what,
			acked.Round(time.Millisecond), time.Since(from).Round(time.Millisecond))
	}
	// Two of three replicas have to be in sync, so a fault is healed before the next one.
	healed := func() {
		t.Helper()
		within(t, "all replicas are in sync", func() bool {
			n, err := c.InSyncReplicas(ctx, topic.Events)
			return err == nil && n == 3
		})
	}
	everywhere("at first")
	for _, n := range k.Nodes[:2] {
		healed()
		n.Pause()
		everywhere(fmt.Sprintf("node %d hangs", n.ID))
		n.Resume()
		everywhere(fmt.Sprintf("node %d goes on", n.ID))
	}
	healed()
	n := k.Nodes[2]
	n.Kill()
	everywhere("node 3 is killed")
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	healed()
	everywhere("node 3 is back")
}
