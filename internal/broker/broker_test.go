package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"nowcast/internal/topic"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

// cluster is one broker in this process, and a client of it.
func cluster(t *testing.T, opts ...kfake.Opt) *Client {
	t.Helper()
	_, c := brokerAndClient(t, opts...)
	return c
}

// brokerAndClient is cluster, with the broker.
func brokerAndClient(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *Client) {
	t.Helper()
	k, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c := New(Config{Addrs: k.ListenAddrs(), Timeout: 5 * time.Second})
	t.Cleanup(c.Close)
	return k, c
}

func TestEnsure(t *testing.T) {
	c := cluster(t)
	for range 2 { // the second time all are there and fit
		if err := c.Ensure(t.Context(), topic.Specs(4, 1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.Partitions(t.Context(), topic.Events); n != 4 || err != nil {
		t.Errorf("%d partitions, %v", n, err)
	}
	err := c.Ensure(t.Context(), topic.Specs(8, 1), nil)
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "--partitions 4") {
		t.Errorf("other number of partitions: %v", err)
	}
	specs := topic.Specs(4, 1)
	specs[0].Settings["retention.ms"] = "1"
	err = c.Ensure(t.Context(), specs, nil)
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "--add-config retention.ms=1") {
		t.Errorf("other settings: %v", err)
	}
}

// Roles that start together make the same topics.
func TestEnsureTogether(t *testing.T) {
	c := cluster(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			other := New(
				Config{
					Addrs: c.addrs,
					Topics: []string{topic.Events, topic.Windows, topic.Sites, topic.Salts, topic.DeadLetter,
						topic.Erasures},
				},
			)
			defer other.Close()
			if err := other.Ensure(
				t.Context(),
				topic.Specs(4, 1),
				func(err error) { t.Log(err) },
			); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestEnsureWaits(t *testing.T) {
	c := New(Config{Addrs: []string{"127.0.0.1:1"}})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	said := 0
	if err := c.Ensure(ctx, topic.Specs(1, 1), func(error) { said++ }); err == nil || said == 0 {
		t.Errorf("%v, said %d times", err, said)
	}
}

func TestFollow(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	at := time.UnixMilli(1_795_435_200_123)
	for i := range 5 {
		base, err := c.Produce(
			t.Context(),
			"t",
			0,
			at.Add(time.Duration(i)*time.Second),
			fmt.Appendf(nil, "a%d", i),
			fmt.Appendf(nil, "b%d", i),
		)
		if err != nil || base != int64(2*i) {
			t.Fatal(base, err)
		}
	}
	if off, err := c.OffsetAt(t.Context(), "t", 0, at.Add(1500*time.Millisecond)); off != 4 || err != nil {
		t.Errorf("offset at: %d %v", off, err)
	}
	if off, err := c.OffsetAt(t.Context(), "t", 0, at.Add(time.Hour)); off != 10 || err != nil {
		t.Errorf("offset of the future: %d %v", off, err)
	}
	stop := errors.New("enough")
	var got []string
	err := c.Follow(t.Context(), Follower{Topic: "t", From: 3, Record: func(r Record) error {
		got = append(got, fmt.Sprintf("%d:%s:%d", r.Offset, r.Value, r.Time-at.UnixMilli()))
		if r.Offset == 6 {
			return stop
		}
		return nil
	}})
	if want := "3:b1:1000 4:a2:2000 5:b2:2000 6:a3:3000"; !errors.Is(err, stop) ||
		strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFollowIsPrompt(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan time.Time), make(chan struct{})
	idle := make(chan struct{}, 1)
	go func() {
		defer close(done)
		_ = c.Follow(ctx, Follower{Topic: "t", MaxWait: 2 * time.Second,
			Record: func(Record) error { seen <- time.Now(); return nil },
			Batch: func(next, end int64) error {
				select {
				case idle <- struct{}{}:
				default:
				}
				return nil
			}})
	}()
	<-idle
	best := time.Hour // a busy machine delays some, a poll that isn't woken all
	for range 10 {
		if _, err := c.Produce(ctx, "t", 0, time.Now(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		acked := time.Now()
		best = min(best, (<-seen).Sub(acked))
	}
	if best > 50*time.Millisecond {
		t.Errorf("delivered %v after the acknowledgement", best)
	}
	cancel()
	<-done
}

func TestFollowGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	if _, err := c.Produce(t.Context(), "t", 0, time.Now(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var gap Gap
	_ = c.Follow(
		ctx,
		Follower{
			Topic:  "t",
			From:   7,
			Record: func(Record) error { return nil },
			Gap:    func(g Gap) { gap = g; cancel() },
		},
	)
	if gap != (Gap{"t", 0, 7, 1}) {
		t.Errorf("gap %v", gap)
	}
}

// A follower that insists on its log fails once there is another one, however long that is, and goes on
// where nothing is known.
func TestFollowRecreated(t *testing.T) {
	k, c := brokerAndClient(t, kfake.SeedTopics(1, "t"))
	at := time.UnixMilli(1_795_435_200_000)
	fill := func(n int) {
		for range n {
			at = at.Add(time.Millisecond)
			if _, err := c.Produce(t.Context(), "t", 0, at, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	remake := func(n int) {
		if err := k.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := k.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		c.Refresh()
		fill(n)
	}
	ends := errors.New("caught up")
	follow := func(f Follower, records func(Record) error) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		f.Topic, f.MaxWait, f.Record = "t", 100*time.Millisecond, records
		if f.Batch == nil {
			f.Batch = func(next, end int64) error {
				if next >= end {
					return ends
				}
				return nil
			}
		}
		return c.Follow(ctx, f)
	}
	ignore := func(Record) error { return nil }
	const grace = 50 * time.Millisecond
	fill(10)
	for name, x := range map[string]struct {
		f    Follower
		want error
	}{
		"the same": {Follower{From: 4, PreviousTime: 1_795_435_200_004, KnownEnd: 10,
			RecreationGrace: grace}, ends},
		"another record before": {Follower{From: 4, PreviousTime: 1_795_435_200_005,
			RecreationGrace: grace}, ErrTopicRecreated},
		"a record that is gone": {Follower{From: 0, PreviousTime: 1_795_435_200_005,
			RecreationGrace: grace}, ends},
		"shorter than the position": {Follower{From: 11, RecreationGrace: grace}, ErrTopicRecreated},
		"shorter than known": {Follower{From: 4, KnownEnd: 11, RecreationGrace: grace},
			ErrTopicRecreated},
		"nobody insists":             {Follower{From: 4, PreviousTime: 1, KnownEnd: 11}, ends},
		"shorter and nobody insists": {Follower{From: 11}, ends},
	} {
		if err := follow(x.f, ignore); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	// While it runs, and after every fetch instead of after a pause.
	c.recheckAfter = 0
	for name, n := range map[string]int{"shorter": 3, "grown": 30} {
		remade := false
		err := follow(Follower{RecreationGrace: grace, Batch: func(next, end int64) error {
			if !remade && next >= end {
				remade = true
				remake(n)
			}
			return nil
		}}, ignore)
		if !errors.Is(err, ErrTopicRecreated) {
			t.Errorf("%s while it was followed: %v", name, err)
		}
	}
}

func TestTombstone(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	for _, v := range [][]byte{[]byte("v"), {}, nil} {
		if _, err := c.ProduceKeyed(t.Context(), "t", []byte("k"), v); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	stop := errors.New("enough")
	_ = c.Follow(t.Context(), Follower{Topic: "t", Record: func(r Record) error {
		got = append(got, fmt.Sprintf("%s=%s %v", r.Key, r.Value, r.Value == nil))
		if len(got) == 3 {
			return stop
		}
		return nil
	}})
	if strings.Join(got, ",") != "k=v false,k= false,k= true" {
		t.Error(got)
	}
}

// What a member says reaches the coordinator, whichever broker that is, and the answer is heard.
func TestMembers(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "t"))
	retried := func(do func() error) (err error) {
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
			10 * time.Millisecond) {
			if err = do(); !Retryable(err) {
				break
			}
		}
		return err
	}
	for i := range 6 { // groups have their coordinators on different brokers
		m := Membership{Group: fmt.Sprint("g", i), Instance: "a"}
		var j Joined
		if err := retried(func() (err error) {
			j, err = c.JoinGroup(t.Context(), m, JoinRequest{Topic: "t", Session: 10 * time.Second})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		m = j.Membership
		got, err := c.SyncGroup(t.Context(), m, "t", map[string][]int{m.ID: {3, 5}})
		if err != nil || !slices.Equal(got, []int{3, 5}) {
			t.Fatal(got, err)
		}
		later := m
		later.Generation++
		if _, err := c.SyncGroup(t.Context(), later, "t", nil); !errors.Is(err, ErrIllegalGeneration) {
			t.Errorf("%s: assignment of another generation: %v", m.Group, err)
		}
		if err := c.Heartbeat(t.Context(), m); err != nil {
			t.Errorf("%s: %v", m.Group, err)
		}
		if err := c.Heartbeat(t.Context(), later); !errors.Is(err, ErrIllegalGeneration) {
			t.Errorf("%s: heartbeat of another generation: %v", m.Group, err)
		}
		later.ID = "other"
		if err := c.Heartbeat(t.Context(), later); !errors.Is(err, ErrFencedInstance) {
			t.Errorf("%s: heartbeat of another member of that instance: %v", m.Group, err)
		}
	}
}
