package group

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const partitions = 6

// crowd is members of one group on a broker in this process.
type crowd struct {
	t     *testing.T
	kafka *broker.Client
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := &crowd{t, broker.New(broker.Config{Addrs: k.ListenAddrs()})}
	t.Cleanup(c.kafka.Close)
	if err := c.kafka.Ensure(t.Context(), topic.Specs(partitions, 1), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// worker is a member with work that only remembers what it was given.
type worker struct {
	member *Member
	stop   func()
	broker *broker.Client

	mu        sync.Mutex
	has       []int
	committed []Position
	starts    int // generations of work
	working   bool
	positions []Position
}

type work struct{ *worker }

func (w work) Run(ctx context.Context) {
	<-ctx.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working = false
}

func (w work) Positions() []Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.positions)
}

// join starts a member. Its own client is closed with it.
func (c *crowd) join(instance string, session time.Duration) *worker {
	c.t.Helper()
	w := &worker{broker: broker.New(broker.Config{Addrs: []string{c.kafka.Addr.String()}})}
	w.member = New(Config{Group: "test", Instance: instance, Topics: []string{topic.Events}, Session: session, Heartbeat: 50 * time.Millisecond, Commit: 50 * time.Millisecond,
		Start: func(partitions []int, committed []Position) Work {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.has, w.committed, w.working = partitions, committed, true
			w.starts++
			return work{w}
		}}, w.broker, slog.New(slog.NewTextHandler(testLog{c.t}, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.member.Run(ctx) }()
	var once sync.Once
	w.stop = func() { once.Do(func() { cancel(); <-done; w.broker.Close() }) }
	c.t.Cleanup(w.stop)
	return w
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *worker) state() (has []int, starts int, working bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has, w.starts, w.working
}

// spread waits until the members have all partitions between them, each one once and nobody two more than another. It says how long that took.
func (c *crowd) spread(limit time.Duration, members ...*worker) time.Duration {
	c.t.Helper()
	begin := time.Now()
	c.until(limit, func() string {
		var all []int
		least, most := partitions, 0
		for _, w := range members {
			has, _, working := w.state()
			if ok, reason := w.member.Ready(); !ok || !working {
				return "not ready: " + reason
			}
			all = append(all, has...)
			least, most = min(least, len(has)), max(most, len(has))
		}
		slices.Sort(all)
		if len(all) != partitions || len(slices.Compact(all)) != partitions || most > least+1 {
			return fmt.Sprint("partitions ", all)
		}
		return ""
	})
	return time.Since(begin)
}

func (c *crowd) until(limit time.Duration, what func() string) {
	c.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		still := what()
		if still == "" {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s", limit, still)
		}
	}
}

func TestComeAndGo(t *testing.T) {
	c := newCrowd(t)
	a := c.join("", 10*time.Second)
	c.spread(10*time.Second, a)
	b := c.join("", 10*time.Second)
	c.spread(10*time.Second, a, b)
	had, _, _ := a.state()
	d := c.join("", 10*time.Second)
	c.spread(10*time.Second, a, b, d)
	if has, _, _ := a.state(); len(has) != 2 || !slices.Contains(had, has[0]) || !slices.Contains(had, has[1]) {
		t.Errorf("with a third one the first has %v, had %v: it should keep two of its own", has, had)
	}
	b.stop()
	if took := c.spread(5*time.Second, a, d); took > 5*time.Second {
		t.Errorf("takeover after a clean stop took %v", took)
	}
}

// Who is silent for a session is replaced; when it is heard again it takes part again.
func TestSilent(t *testing.T) {
	c := newCrowd(t)
	a := c.join("", 10*time.Second)
	b := c.join("", 10*time.Second)
	c.spread(10*time.Second, a, b)
	_, starts, _ := b.state()
	// The coordinator is told that it is gone, which is the same to the member as a session that is over.
	if _, err := c.kafka.LeaveGroup(t.Context(), &kafka.LeaveGroupRequest{GroupID: "test", Members: []kafka.LeaveGroupRequestMember{{ID: b.member.id}}}); err != nil {
		t.Fatal(err)
	}
	c.until(10*time.Second, func() string {
		if _, now, working := b.state(); now == starts || !working {
			return "it hasn't joined again"
		}
		return ""
	})
	c.spread(10*time.Second, a, b)
}

// More members than partitions: those without say so and are ready.
func TestStandsBy(t *testing.T) {
	c := newCrowd(t)
	var all []*worker
	for range partitions + 1 {
		all = append(all, c.join("", 10*time.Second))
	}
	c.spread(20*time.Second, all...)
}

// What was committed, with its metadata, is there for whoever comes next.
func TestPositions(t *testing.T) {
	c := newCrowd(t)
	a := c.join("", 10*time.Second)
	c.spread(10*time.Second, a)
	want := Position{Topic: topic.Events, Partition: 3, Offset: 42, Metadata: "watermark=7"}
	a.mu.Lock()
	a.positions = []Position{want}
	a.mu.Unlock()
	a.stop()
	b := c.join("", 10*time.Second)
	c.spread(10*time.Second, b)
	for _, p := range b.committed {
		if p.Partition == 3 && p != want || p.Partition != 3 && p.Offset != -1 {
			t.Errorf("committed is %+v", p)
		}
	}
}

// A static member that is back within the session has what it had, and nobody else is disturbed.
func TestStaticRestart(t *testing.T) {
	c := newCrowd(t)
	a, b := c.join("a", 10*time.Second), c.join("b", 10*time.Second)
	c.spread(10*time.Second, a, b)
	had, _, _ := a.state()
	_, before, _ := b.state()
	a.stop()
	a = c.join("a", 10*time.Second)
	c.spread(5*time.Second, a, b)
	has, _, _ := a.state()
	_, after, _ := b.state()
	if !slices.Equal(has, had) || before != after {
		t.Errorf("it had %v and has %v; the other one was started %d times, now %d", had, has, before, after)
	}
}

// Of two under one name the older is fenced off and stays so, the younger works.
func TestFenced(t *testing.T) {
	c := newCrowd(t)
	a := c.join("a", 10*time.Second)
	c.spread(10*time.Second, a)
	b := c.join("a", 10*time.Second)
	c.until(10*time.Second, func() string {
		if ok, reason := a.member.Ready(); ok || !strings.Contains(reason, fenced) {
			return "the older says " + reason
		}
		return ""
	})
	if _, _, working := a.state(); working {
		t.Error("the older works on")
	}
	c.spread(5*time.Second, b)
}
