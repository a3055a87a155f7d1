package group

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

const (
	topicA, topicB = "a", "b"
	partitions     = 6
	session        = 1500 * time.Millisecond
)

// world is an in-process Kafka with two topics.
type world struct {
	t     *testing.T
	kafka *kfake.Cluster
}

func newWorld(t *testing.T, opts ...kfake.Opt) *world {
	t.Helper()
	k, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3),
		kfake.SeedTopics(partitions, topicA, topicB),
		kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": "100"})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &world{t, k}
}

// member is a running Member and what it has done.
type member struct {
	*Member
	t    *testing.T
	net  *network
	stop func()
	log  *log

	moved chan struct{}

	mu          sync.Mutex
	work        *work
	generations int
}

// start runs a member until stop or the end of the test.
func (w *world) start(instance string) *member {
	w.t.Helper()
	m := &member{t: w.t, net: &network{}, log: &log{t: w.t}, moved: make(chan struct{}, 1)}
	c := broker.New(broker.Config{Addrs: w.kafka.ListenAddrs(), Timeout: 5 * time.Second, Dial: m.net.dial})
	m.Member = New(Config{Group: "g", Instance: instance, Topics: []string{topicA, topicB},
		Session: session, Heartbeat: 50 * time.Millisecond, Commit: 50 * time.Millisecond, Moved: m.moved,
		Start: func(partitions []int, committed []Position) Work {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.generations++
			m.work = &work{partitions: partitions, committed: committed, moved: m.moved,
				positions: map[topicPartition]Position{}}
			return m.work
		}}, c, slog.New(slog.NewTextHandler(m.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	var once sync.Once
	m.stop = func() { once.Do(func() { cancel(); <-done; c.Close() }) }
	w.t.Cleanup(m.stop)
	return m
}

// has returns the partitions that the member works on.
func (m *member) has() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.work == nil || !m.work.running() {
		return nil
	}
	return m.work.partitions
}

func (m *member) times() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generations
}

// work does nothing; the test sets its positions.
type work struct {
	partitions []int
	committed  []Position

	moved chan struct{}

	mu        sync.Mutex
	active    bool
	looks     int // at Positions
	positions map[topicPartition]Position
}

func (w *work) Run(ctx context.Context) {
	w.set(true)
	<-ctx.Done()
	w.set(false)
}

func (w *work) set(active bool) { w.mu.Lock(); defer w.mu.Unlock(); w.active = active }
func (w *work) seen() int       { w.mu.Lock(); defer w.mu.Unlock(); return w.looks }
func (w *work) running() bool   { w.mu.Lock(); defer w.mu.Unlock(); return w.active }

func (w *work) reach(p Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.positions[topicPartition{p.Topic, p.Partition}] = p
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

func (w *work) Positions() (all []Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	for _, p := range w.positions {
		all = append(all, p)
	}
	return all
}

// network carries a member's connections.
type network struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
	hung  chan struct{}
}

func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return nil, io.ErrClosedPipe
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		n.conns = append(n.conns, c)
		c = &slow{c, n}
	}
	return c, err
}

// cut closes all connections and refuses new ones, as if the process was killed.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
	for _, c := range n.conns {
		c.Close()
	}
}

// hang holds everything that is sent until resume, as if the process was stopped by SIGSTOP.
func (n *network) hang() { n.mu.Lock(); defer n.mu.Unlock(); n.hung = make(chan struct{}) }

func (n *network) resume() { n.mu.Lock(); defer n.mu.Unlock(); close(n.hung); n.hung = nil }

type slow struct {
	net.Conn
	of *network
}

func (c *slow) Write(b []byte) (int, error) {
	c.of.mu.Lock()
	hung := c.of.hung
	c.of.mu.Unlock()
	if hung != nil {
		<-hung
	}
	return c.Conn.Write(b)
}

type log struct {
	t  *testing.T
	mu sync.Mutex
	b  strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

// until polls ok and returns how long it took.
func (w *world) until(limit time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if took := time.Since(start); ok() {
			return took
		} else if took > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// share waits until the members are ready and own all partitions, evenly.
func (w *world) share(limit time.Duration, members ...*member) (took time.Duration) {
	w.t.Helper()
	return w.until(limit, "all partitions are shared evenly", func() bool {
		var all []int
		for _, m := range members {
			has := m.has()
			if ready, _ := m.Ready(); !ready || len(has) < partitions/len(members) {
				return false
			}
			all = append(all, has...)
		}
		slices.Sort(all)
		return slices.Equal(all, []int{0, 1, 2, 3, 4, 5})
	})
}

// TestComeAndGo checks that partitions are spread evenly and stay with their owners, that a member that stops
// hands over at once, and that a dead one is replaced after the session.
func TestComeAndGo(t *testing.T) {
	w := newWorld(t)
	a := w.start("")
	w.share(5*time.Second, a)
	b := w.start("")
	w.share(5*time.Second, a, b)
	hadA, hadB := a.has(), b.has()
	c := w.start("")
	w.share(5*time.Second, a, b, c)
	kept := func(m *member, had []int) {
		t.Helper()
		for _, p := range m.has() {
			if !slices.Contains(had, p) {
				t.Errorf("had %v and got %v", had, m.has())
			}
		}
	}
	kept(a, hadA)
	kept(b, hadB)
	hadA, hadC := a.has(), c.has()
	b.stop()
	if took := w.share(5*time.Second, a, c); took > session {
		t.Errorf("takeover after a clean stop took %v", took)
	}
	for _, p := range append(hadA, hadC...) {
		if !slices.Contains(append(slices.Clone(a.has()), c.has()...), p) ||
			slices.Contains(hadA, p) != slices.Contains(a.has(), p) {
			t.Errorf("%d moved: %v and %v to %v and %v", p, hadA, hadC, a.has(), c.has())
		}
	}
	c.net.cut()
	t.Logf("takeover after a kill: %v", w.share(session+2*time.Second, a))
}

// TestHang checks that a member that was silent for too long stops its work and joins again.
func TestHang(t *testing.T) {
	w := newWorld(t)
	a := w.start("")
	w.share(5*time.Second, a)
	b := w.start("")
	w.share(5*time.Second, a, b)
	times := b.times()
	b.net.hang()
	w.until(session+3*time.Second, "the other takes over", func() bool { return len(a.has()) == partitions })
	if b.has() == nil {
		t.Error("a member that is cut off from the coordinator has stopped working")
	}
	b.net.resume()
	w.share(5*time.Second, a, b)
	if b.times() == times {
		t.Error("no new generation")
	}
}

// TestStandBy checks that a member without a partition is ready, and takes over when another leaves.
func TestStandBy(t *testing.T) {
	w := newWorld(t)
	var all []*member
	for range partitions {
		all = append(all, w.start(""))
	}
	w.share(10*time.Second, all...)
	extra := w.start("")
	w.until(10*time.Second, "it stands by", func() bool {
		ready, _ := extra.Ready()
		return ready && extra.log.count("no partition left for this instance") > 0
	})
	all[2].stop()
	w.share(5*time.Second, append(all[:2:2], append(all[3:], extra)...)...)
}

// TestInstance checks that a static member that restarts within the session keeps its partitions without a
// rebalance.
func TestInstance(t *testing.T) {
	w := newWorld(t)
	a := w.start("a")
	w.share(5*time.Second, a)
	b := w.start("b")
	w.share(5*time.Second, a, b)
	b.mu.Lock()
	p := Position{Topic: topicA, Partition: b.work.partitions[0], Offset: 42, Metadata: "watermark=7"}
	b.work.reach(p)
	b.mu.Unlock()
	had, hadA := b.has(), a.has()
	same := func() {
		t.Helper()
		if !slices.Equal(b.has(), had) || !slices.Equal(a.has(), hadA) {
			t.Errorf("had %v and %v, got %v and %v", hadA, had, a.has(), b.has())
		}
	}
	times := a.times()
	for _, end := range []func(*member){func(m *member) { m.stop() }, func(m *member) { m.net.cut() }} {
		end(b)
		b = w.start("b")
		t.Logf("back after %v", w.share(session, a, b))
		same()
		b.mu.Lock()
		if !slices.Contains(b.work.committed, p) ||
			!slices.Contains(b.work.committed, Position{Topic: topicB, Partition: p.Partition, Offset: -1}) {
			t.Errorf("committed: %v", b.work.committed)
		}
		b.mu.Unlock()
	}
	if a.times() != times {
		t.Errorf("the other had %d generations more", a.times()-times)
	}
	a.stop() // the leader; kfake, unlike Kafka, rebalances when the restarted one claims less
	a = w.start("a")
	t.Logf("back after %v", w.share(session, a, b))
	same()
	b.stop()
	t.Logf("takeover from an instance that doesn't come back: %v", w.share(session+2*time.Second, a))
}

// TestTwoOfOneName checks that of two members of one name the last one works, and that the first waits until
// it has left.
func TestTwoOfOneName(t *testing.T) {
	w := newWorld(t)
	a := w.start("same")
	w.share(5*time.Second, a)
	b := w.start("same")
	w.until(5*time.Second, "the first knows", func() bool {
		_, reason := a.Ready()
		return strings.Contains(reason, "another process has joined group g as instance")
	})
	w.share(5*time.Second, b)
	times := b.times()
	w.until(15*time.Second, "the first asks again",
		func() bool { return a.log.count("another process has joined") > 1 })
	if b.times() != times || len(b.has()) != partitions || a.times() != 1 {
		t.Errorf("they fight: %d and %d generations", a.times(), b.times())
	}
	b.stop()
	w.share(10*time.Second, a)
}

// TestOldBrokers checks that an instance is a dynamic member where brokers don't support static ones.
func TestOldBrokers(t *testing.T) {
	w := newWorld(t, kfake.MaxVersions(kversion.V2_2_0()))
	a := w.start("a")
	w.share(5*time.Second, a)
	a.stop()
	if n := a.log.count("these brokers know no static members"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	b := w.start("b")
	if took := w.share(5*time.Second, b); took > session {
		t.Errorf("it didn't leave: %v", took)
	}
}

// TestPositions checks that the next owner of a partition gets the committed position with its metadata.
func TestPositions(t *testing.T) {
	w := newWorld(t)
	a := w.start("")
	w.share(5*time.Second, a)
	var want []Position
	for p := range partitions {
		want = append(want, Position{Topic: topicA, Partition: p, Offset: int64(100 + p),
			Metadata: fmt.Sprint("watermark=", p)})
	}
	for p := range partitions {
		want = append(want, Position{Topic: topicB, Partition: p, Offset: int64(200 + p)})
	}
	a.mu.Lock()
	for _, p := range want {
		a.work.reach(p)
	}
	a.mu.Unlock()
	a.stop()
	b := w.start("")
	w.share(5*time.Second, b)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.work.committed, want) {
		t.Errorf("committed %v, want %v", b.work.committed, want)
	}
}

// TestCommitAfterRest checks that a position which changes after a time without changes is committed.
func TestCommitAfterRest(t *testing.T) {
	w := newWorld(t)
	a := w.start("")
	w.share(5*time.Second, a)
	c := broker.New(broker.Config{Addrs: w.kafka.ListenAddrs(), Timeout: 5 * time.Second})
	defer c.Close()
	for offset := range int64(3) {
		looks, since := a.work.seen(), time.Now()
		w.until(5*time.Second, "no look at the positions for four intervals", func() bool {
			if n := a.work.seen(); n != looks {
				looks, since = n, time.Now()
			}
			return time.Since(since) > 200*time.Millisecond
		})
		a.work.reach(Position{Topic: topicA, Partition: 1, Offset: offset + 1})
		w.until(5*time.Second, "the position is committed", func() bool {
			all, err := c.Committed(t.Context(), "g", []int{1}, topicA)
			return err == nil && len(all) == 1 && all[0].Offset == offset+1
		})
	}
}
