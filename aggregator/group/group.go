// Package group is membership in a Kafka consumer group: it knows which partitions an instance owns and how
// far they are done.
//
// The work on a partition goes on while the coordinator is unavailable or moves: the member keeps its id, so
// that costs no rebalance. Every committed position was in Work.Positions. A member that stops drains,
// commits and leaves, so that others take over at once. A static member (KIP-345) doesn't leave: if it starts
// again within the session it gets the same partitions, without a rebalance.
//
// A partition may have two owners: one that is cut off works until it learns of the new generation. So work
// must be harmless when it is done twice.
//
// kafka-go's ConsumerGroup isn't used: it forgets its member id on any error of the coordinator, so that the
// group waits for a session to expire, and its commits carry no metadata.
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

// Position is how far a partition is done.
type Position = broker.Position

// Work is what a member does with the partitions of one generation.
type Work interface {
	// Run works until ctx ends, then drains and returns.
	Run(ctx context.Context)
	// Positions returns positions that may be committed. It is called during Run and once after it has
	// returned.
	Positions() []Position
}

// Config of a member. Durations of 0 take the defaults in brackets.
type Config struct {
	Group string
	// Instance is the name of a static member (group.instance.id). No two running members of a group may
	// share it.
	Instance  string
	Topics    []string      // a member owns the same partitions of all of them
	Session   time.Duration // the coordinator removes a silent member after this time [10 s]
	Heartbeat time.Duration // interval [0.5 s]
	Commit    time.Duration // interval [1 s]
	// Moved receives after Work.Positions has changed. Nil: it may change at any time.
	Moved <-chan struct{}
	// Start makes the work on partitions. committed has a position for each of their topics.
	Start func(partitions []int, committed []Position) Work
	// Rebalanced is called with each new assignment. May be nil.
	Rebalanced func(partitions []int)
}

// Member is a member of a group.
type Member struct {
	cfg    Config
	broker *broker.Client
	log    *slog.Logger

	membership    broker.Membership // Instance is empty if the brokers don't support static members
	staticChecked bool              // whether they do has been asked
	owned         []int             // last assignment, which the next join claims
	assigned      map[string][]int  // partitions by instance that this member has assigned as the leader
	committed     map[topicPartition]Position
	backoff       retry.Backoff
	lastLogged    time.Time // of retries

	mu     sync.Mutex
	reason string // why it has no assignment
}

type topicPartition struct {
	topic     string
	partition int
}

// New returns a member that Run joins to the group. The time-out of b's requests must be longer than the
// session.
func New(c Config, b *broker.Client, log *slog.Logger) *Member {
	c.Session = cmp.Or(c.Session, 10*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 500*time.Millisecond)
	c.Commit = cmp.Or(c.Commit, time.Second)
	if c.Instance != "" {
		log = log.With("instance", c.Instance)
	}
	return &Member{cfg: c, membership: broker.Membership{Group: c.Group, Instance: c.Instance}, broker: b,
		log: log.With("group", c.Group), reason: "joining group " + c.Group}
}

// Ready reports whether the member has an assignment, and if not, why.
func (m *Member) Ready() (bool, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason == "", m.reason
}

func (m *Member) setReason(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = reason
}

// Run takes part in the group until ctx ends, then leaves it.
func (m *Member) Run(ctx context.Context) {
	for ctx.Err() == nil {
		partitions, err := m.join(ctx)
		if err == nil {
			m.backoff.Reset()
			err = m.work(ctx, partitions)
		}
		if ctx.Err() != nil {
			break
		}
		m.setReason("joining group " + m.cfg.Group)
		switch {
		case errors.Is(err, broker.ErrRebalanceInProgress), errors.Is(err, broker.ErrMemberIDRequired):
		case errors.Is(err, broker.ErrIllegalGeneration):
			// The coordinator still knows the id: a new one would make the group wait for the old one's
			// session.
		case errors.Is(err, broker.ErrUnknownMember):
			m.membership.ID = ""
		case errors.Is(err, broker.ErrFencedInstance):
			m.waitFenced(ctx)
		case errors.Is(err, broker.ErrUnsupportedVersion) && m.membership.Instance != "":
			m.becomeDynamic()
		default:
			m.setReason(fmt.Sprintf("joining group %s: %v", m.cfg.Group, err))
			m.pause(ctx, "can't join the group, trying again", err)
		}
	}
	m.leave(ctx)
}

// waitFenced waits after another process has joined under this instance's name. The member then asks again
// with its old id: the coordinator refuses that as long as the other is a member, and forgets it afterwards.
// So two processes never fence each other in turn.
func (m *Member) waitFenced(ctx context.Context) {
	const interval = 5 * time.Second
	reason := fmt.Sprintf("another process has joined group %s as instance %q: give each its own name",
		m.cfg.Group, m.cfg.Instance)
	m.setReason(reason)
	m.log.Error(reason, "again in", interval)
	_ = retry.Sleep(ctx, interval) // Run checks ctx
}

// becomeDynamic continues without the instance's name.
func (m *Member) becomeDynamic() {
	m.log.Warn("these brokers know no static members: a restart of this instance is a rebalance")
	m.membership.Instance = ""
}

// leave lets the others take over at once. A static member stays until its session expires.
func (m *Member) leave(ctx context.Context) {
	if m.membership.ID == "" {
		return
	}
	if m.membership.Instance != "" {
		m.log.Info("stopped: a start within the session keeps the partitions, then the others take them over",
			"session", m.cfg.Session)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := m.broker.LeaveGroup(ctx, m.membership); err != nil {
		m.log.Warn("can't leave the group: others take over when the session ends",
			"session", m.cfg.Session, "error", err)
	}
}

// pause waits before another attempt. It logs err at most every five seconds.
func (m *Member) pause(ctx context.Context, message string, err error) {
	if now := time.Now(); now.Sub(m.lastLogged) > 5*time.Second {
		m.lastLogged = now
		m.log.Warn(message, "error", err)
	}
	if broker.Unavailable(err) {
		m.broker.Refresh()
	}
	_ = m.backoff.Wait(ctx) // callers check ctx
}

// join joins the group's next generation. It returns the partitions that this member owns in it.
func (m *Member) join(ctx context.Context) ([]int, error) {
	// Any member may become the leader, which needs the number of partitions.
	count, err := m.broker.Partitions(ctx, m.cfg.Topics[0])
	if err != nil {
		return nil, err
	}
	if m.membership.Instance != "" && !m.staticChecked {
		ok, err := m.broker.SupportsStaticMembers(ctx)
		if err != nil {
			return nil, err
		}
		if m.staticChecked = true; !ok {
			m.becomeDynamic()
		}
	}
	j, err := m.broker.JoinGroup(ctx, m.membership,
		broker.JoinRequest{Topic: m.cfg.Topics[0], Owned: m.owned, Session: m.cfg.Session})
	if m.membership = j.Membership; err != nil {
		return nil, err
	}
	var assigned map[string][]int
	if j.Leader {
		assigned = m.lead(j.Members, count)
	}
	partitions, err := m.broker.SyncGroup(ctx, m.membership, m.cfg.Topics[0], assigned)
	if err != nil {
		return nil, err
	}
	slices.Sort(partitions)
	return partitions, nil
}

// lead assigns the partitions to the members. A static member that has restarted claims nothing; it gets what
// it had.
func (m *Member) lead(members []broker.GroupMember, count int) map[string][]int {
	claims := map[string][]int{}
	for _, x := range members {
		claims[x.ID] = x.Owned
		if len(x.Owned) == 0 && x.Instance != "" {
			claims[x.ID] = m.assigned[x.Instance]
		}
	}
	assigned := assign(count, claims)
	m.assigned = map[string][]int{}
	for _, x := range members {
		if x.Instance != "" {
			m.assigned[x.Instance] = assigned[x.ID]
		}
	}
	return assigned
}

// work runs one generation: it starts the work, keeps the session alive, commits, and stops the work when the
// generation ends.
func (m *Member) work(ctx context.Context, partitions []int) error {
	positions, err := m.broker.Committed(ctx, m.cfg.Group, partitions, m.cfg.Topics...)
	if err != nil {
		return err
	}
	if len(partitions) > 0 {
		m.log.Info("got partitions", "partitions", partitions, "generation", m.membership.Generation)
	} else {
		m.log.Info("no partition left for this instance: "+
			"there are more instances than partitions; it stands by", "generation", m.membership.Generation)
	}
	m.owned, m.committed = partitions, map[topicPartition]Position{}
	for _, p := range positions {
		m.committed[topicPartition{p.Topic, p.Partition}] = p
	}
	if m.cfg.Rebalanced != nil {
		m.cfg.Rebalanced(partitions)
	}
	work := m.cfg.Start(partitions, positions)
	m.setReason("")
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		work.Run(working)
	}()
	err = m.keepSession(ctx, work)
	stop()
	<-done
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Session/3)
	defer cancel()
	if e := m.commit(end, work); e != nil {
		m.log.Info("last commit failed: some records will be read again", "error", e)
	}
	return err
}

// keepSession sends heartbeats and commits until the generation ends. Without changes it only sends
// heartbeats, at multiples of their interval.
func (m *Member) keepSession(ctx context.Context, work Work) error {
	heartbeat, commit := time.NewTimer(retry.UntilNext(m.cfg.Heartbeat)), time.NewTicker(m.cfg.Commit)
	defer heartbeat.Stop()
	defer commit.Stop()
	var moved <-chan struct{} // nil while commit ticks
	for {
		var request func(context.Context) error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
			moved = nil
			commit.Reset(m.cfg.Commit)
			continue
		case <-heartbeat.C:
			heartbeat.Reset(retry.UntilNext(m.cfg.Heartbeat))
			request = func(ctx context.Context) error { return m.broker.Heartbeat(ctx, m.membership) }
		case <-commit.C:
			if m.cfg.Moved != nil && len(m.changed(work)) == 0 {
				moved = m.cfg.Moved
				commit.Stop()
				continue
			}
			request = func(ctx context.Context) error { return m.commit(ctx, work) }
		}
		attempt, cancel := context.WithTimeout(ctx, m.cfg.Session/3)
		err := request(attempt)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case broker.Unavailable(err): // no other member gets the partitions meanwhile
			m.pause(ctx, "no heartbeat or commit just now, working on", err)
		case err != nil:
			return err
		default:
			m.backoff.Reset()
		}
	}
}

// commit commits the positions that have changed.
func (m *Member) commit(ctx context.Context, work Work) error {
	changed := m.changed(work)
	if len(changed) == 0 {
		return nil
	}
	if err := m.broker.Commit(ctx, m.membership, changed); err != nil {
		return err
	}
	for _, p := range changed {
		m.committed[topicPartition{p.Topic, p.Partition}] = p
	}
	return nil
}

// changed returns the positions that aren't committed.
func (m *Member) changed(work Work) (changed []Position) {
	for _, p := range work.Positions() {
		if m.committed[topicPartition{p.Topic, p.Partition}] != p {
			changed = append(changed, p)
		}
	}
	return changed
}
