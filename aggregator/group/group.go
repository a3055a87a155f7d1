// Package group is membership in a Kafka consumer group: which partitions are ours, and how far they have been dealt with.
//
// It promises that the work on a partition goes on while the coordinator is away or moves (the member keeps its id, so that costs no
// rebalance), that what is committed was in the work's Positions, and that a member which stops on purpose drains, commits and leaves, so
// that others take over at once. One that has the name of an instance doesn't leave: when it is started again within the session, it has
// the same partitions and the others hear nothing of it. It doesn't promise that a partition has one worker: one that was cut off goes on
// until it hears otherwise. Workers have to do no harm then; membership gives liveness, not safety.
//
// kafka-go's own ConsumerGroup isn't used: it forgets its member id on any error of the coordinator, so the group then waits a whole
// session for a ghost, and its commits carry no metadata.
package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
)

// Position is how far a partition has been dealt with.
type Position = broker.Position

// Work is what a member does with the partitions of one generation.
type Work interface {
	// Run works until ctx ends, then drains and returns.
	Run(ctx context.Context)
	// Positions may be committed now. It is called while Run runs, and once after it has returned.
	Positions() []Position
}

// Config of a member. Durations of 0 take the defaults in brackets.
type Config struct {
	Group string
	// Instance makes the member a static one: a name that it has again after a restart, and that no other running member of the group has.
	Instance  string
	Topics    []string      // the member that gets a partition gets that number of all of them
	Session   time.Duration // until a silent member is given up [10 s]
	Heartbeat time.Duration // [0.5 s]
	Commit    time.Duration // [1 s]
	// Start makes the work on partitions. Positions has one for each of their topics.
	Start func(partitions []int, committed []Position) Work
	// Rebalanced is called with each new assignment. May be nil.
	Rebalanced func(partitions []int)
}

// Member of a group.
type Member struct {
	Config
	broker *broker.Client
	log    *slog.Logger

	membership broker.Membership // its Instance is Config's, unless the brokers know no static members
	checked    bool              // that they do
	owned      []int             // what it last had, and would like to keep
	given      map[string][]int  // what this member, as the leader, gave to each instance
	committed  map[topicPartition]Position
	said       time.Time

	mu     sync.Mutex
	reason string // why it has no assignment
}

type topicPartition struct {
	topic     string
	partition int
}

// New makes a member; it joins when run. b's requests must be allowed longer than c.Session.
func New(c Config, b *broker.Client, log *slog.Logger) *Member {
	c.Session = cmp.Or(c.Session, 10*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 500*time.Millisecond)
	c.Commit = cmp.Or(c.Commit, time.Second)
	if c.Instance != "" {
		log = log.With("instance", c.Instance)
	}
	return &Member{Config: c, membership: broker.Membership{Group: c.Group, Instance: c.Instance}, broker: b, log: log.With("group", c.Group), reason: "joining group " + c.Group}
}

// Ready says whether the member knows which partitions are its own, and why not.
func (m *Member) Ready() (bool, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason == "", m.reason
}

func (m *Member) set(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = reason
}

// Run takes part until ctx ends, then leaves the group.
func (m *Member) Run(ctx context.Context) {
	for ctx.Err() == nil {
		partitions, err := m.join(ctx)
		if err == nil {
			err = m.work(ctx, partitions)
		}
		if ctx.Err() != nil {
			break
		}
		m.set("joining group " + m.Group)
		switch {
		case errors.Is(err, broker.ErrRebalanceInProgress), errors.Is(err, broker.ErrMemberIDRequired):
		case errors.Is(err, broker.ErrIllegalGeneration): // it is known still: under a new id the others would wait a session for the old one
		case errors.Is(err, broker.ErrUnknownMember):
			m.membership.ID = ""
		case errors.Is(err, broker.ErrFencedInstance):
			m.fenced(ctx)
		case errors.Is(err, broker.ErrUnsupportedVersion) && m.membership.Instance != "":
			m.dynamic()
		default:
			m.set(fmt.Sprintf("joining group %s: %v", m.Group, err))
			m.retry(ctx, "can't join the group, trying again", err)
		}
	}
	m.leave(ctx)
}

// fenced waits, because another process has our instance's name: the one that came last has it. We go on asking with the id that we had:
// the coordinator refuses it as long as the other is there, and doesn't know it when the other has gone. So two never chase each other away.
func (m *Member) fenced(ctx context.Context) {
	const every = 5 * time.Second
	reason := fmt.Sprintf("another process has joined group %s as instance %q: give each its own name", m.Group, m.Instance)
	m.set(reason)
	m.log.Error(reason, "again in", every)
	_ = retry.Sleep(ctx, every)
}

// dynamic goes on without the instance's name.
func (m *Member) dynamic() {
	m.log.Warn("these brokers know no static members: a restart of this instance is a rebalance")
	m.membership.Instance = ""
}

// leave lets the others take over at once. An instance that may come back stays a member until its session ends.
func (m *Member) leave(ctx context.Context) {
	if m.membership.ID == "" {
		return
	}
	if m.membership.Instance != "" {
		m.log.Info("stopped: a start within the session keeps the partitions, then the others take them over", "session", m.Session)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := m.broker.LeaveGroup(ctx, m.membership); err != nil {
		m.log.Warn("left without a farewell: others take over when the session ends", "session", m.Session, "error", err)
	}
}

// retry says that err happened, seldom, and waits a little.
func (m *Member) retry(ctx context.Context, what string, err error) {
	if now := time.Now(); now.Sub(m.said) > 5*time.Second {
		m.said = now
		m.log.Warn(what, "error", err)
	}
	if broker.Unavailable(err) {
		m.broker.Refresh()
	}
	_ = retry.Sleep(ctx, 100*time.Millisecond)
}

func (m *Member) join(ctx context.Context) ([]int, error) {
	// The leader needs the number of partitions; nobody should join without having seen it.
	count, err := m.broker.Partitions(ctx, m.Topics[0])
	if err != nil {
		return nil, err
	}
	if m.membership.Instance != "" && !m.checked {
		ok, err := m.broker.SupportsStaticMembers(ctx)
		if err != nil {
			return nil, err
		}
		if m.checked = true; !ok {
			m.dynamic()
		}
	}
	j, err := m.broker.JoinGroup(ctx, m.membership,
		broker.JoinRequest{Topic: m.Topics[0], Owned: m.owned, Session: m.Session})
	if m.membership = j.Membership; err != nil {
		return nil, err
	}
	var assigned map[string][]int
	if j.Leader {
		assigned = m.lead(j.Members, count)
	}
	partitions, err := m.broker.SyncGroup(ctx, m.membership, m.Topics[0], assigned)
	if err != nil {
		return nil, err
	}
	slices.Sort(partitions)
	return partitions, nil
}

// lead gives the partitions to the members. An instance that was started again claims nothing, but is to have what it had.
func (m *Member) lead(members []broker.GroupMember, count int) map[string][]int {
	claims := map[string][]int{}
	for _, x := range members {
		claims[x.ID] = x.Owned
		if len(x.Owned) == 0 && x.Instance != "" {
			claims[x.ID] = m.given[x.Instance]
		}
	}
	assigned := assign(count, claims)
	m.given = map[string][]int{}
	for _, x := range members {
		if x.Instance != "" {
			m.given[x.Instance] = assigned[x.ID]
		}
	}
	return assigned
}

// work does one generation: it starts the work, keeps the session alive, commits, and stops the work when the generation ends.
func (m *Member) work(ctx context.Context, partitions []int) error {
	positions, err := m.broker.Committed(ctx, m.Group, partitions, m.Topics...)
	if err != nil {
		return err
	}
	if len(partitions) > 0 {
		m.log.Info("got partitions", "partitions", partitions, "generation", m.membership.Generation)
	} else {
		m.log.Info("no partition left for this instance: there are more instances than partitions; it stands by", "generation", m.membership.Generation)
	}
	m.owned, m.committed = partitions, map[topicPartition]Position{}
	for _, p := range positions {
		m.committed[topicPartition{p.Topic, p.Partition}] = p
	}
	if m.Rebalanced != nil {
		m.Rebalanced(partitions)
	}
	work := m.Start(partitions, positions)
	m.set("")
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		work.Run(working)
	}()
	err = m.keep(ctx, work)
	stop()
	<-done
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.Session/3)
	defer cancel()
	if e := m.commit(end, work); e != nil {
		m.log.Info("last commit failed: some records will be read again", "error", e)
	}
	return err
}

// keep sends heartbeats and commits until the generation ends.
func (m *Member) keep(ctx context.Context, work Work) error {
	heartbeat, commit := time.NewTicker(m.Heartbeat), time.NewTicker(m.Commit)
	defer heartbeat.Stop()
	defer commit.Stop()
	for {
		var do func(context.Context) error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-heartbeat.C:
			do = m.beat
		case <-commit.C:
			do = func(ctx context.Context) error { return m.commit(ctx, work) }
		}
		short, cancel := context.WithTimeout(ctx, m.Session/3)
		err := do(short)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case broker.Unavailable(err):
			m.retry(ctx, "no heartbeat or commit just now, working on", err)
		case err != nil:
			return err
		}
	}
}

func (m *Member) beat(ctx context.Context) error { return m.broker.Heartbeat(ctx, m.membership) }

func (m *Member) commit(ctx context.Context, work Work) error {
	var changed []Position
	positions := work.Positions()
	for _, p := range positions {
		if m.committed[topicPartition{p.Topic, p.Partition}] != p {
			changed = append(changed, p)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if err := m.broker.Commit(ctx, m.membership, changed); err != nil {
		return err
	}
	for _, p := range positions {
		m.committed[topicPartition{p.Topic, p.Partition}] = p
	}
	return nil
}
