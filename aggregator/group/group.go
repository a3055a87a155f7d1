// Package group is membership in a Kafka consumer group: which partitions are ours, and how far they have been dealt with.
//
// It promises that the work on a partition goes on while the coordinator is away or moves (the member keeps its id, so that costs no
// rebalance), that what is committed was in the work's Positions, and that a member which stops on purpose drains, commits and leaves, so
// that others take over at once. It doesn't promise that a partition has one worker: one that was cut off goes on until it hears
// otherwise. Workers have to do no harm then; membership gives liveness, not safety.
//
// A member with an Instance (static membership, KIP-345) is known by that name: started again within the session it gets back what it had,
// and the others notice nothing. So it doesn't leave when it stops, and what it had is without a worker until it is back or the session is
// over. Of two that run under one name the coordinator fences off the older, which then stands by until it is started again: to join
// once more would only fence off the other.
//
// kafka-go's own ConsumerGroup isn't used: it forgets its member id on any error of the coordinator, so the group then waits a whole
// session for a ghost, and its commits carry no metadata.
package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/broker"
)

// Position is how far a partition has been dealt with.
type Position struct {
	Topic     string
	Partition int
	Offset    int64  // the next one to deal with; -1 when nothing has been committed
	Metadata  string // what the worker wants to know of it
}

// Work is what a member does with the partitions of one generation.
type Work interface {
	// Run works until ctx ends, then drains and returns.
	Run(ctx context.Context)
	// Positions may be committed now. It is called while Run runs, and once after it has returned.
	Positions() []Position
}

// Config of a member. Durations of 0 take the defaults in brackets.
type Config struct {
	Group     string
	Instance  string        // its name over restarts, unique in the group; "": it is somebody new each time
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

	id         string
	generation int
	owned      []int // what it last had, and would like to keep
	committed  map[topicPartition]Position
	said       time.Time

	mu     sync.Mutex
	reason string // why it has no assignment
}

// fenced is why a member stands by.
const fenced = "another one runs under the same instance name: stop it, or give this one a name of its own"

type topicPartition struct {
	topic     string
	partition int
}

// New makes a member; it joins when run. b's requests must be allowed longer than c.Session.
func New(c Config, b *broker.Client, log *slog.Logger) *Member {
	setDefault(&c.Session, 10*time.Second)
	setDefault(&c.Heartbeat, 500*time.Millisecond)
	setDefault(&c.Commit, time.Second)
	return &Member{Config: c, broker: b, log: log.With("group", c.Group), reason: "joining group " + c.Group}
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
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
		case errors.Is(err, kafka.FencedInstanceID):
			m.log.Error(fenced, "instance", m.Instance)
			m.set(fenced + " (" + m.Instance + ")")
			<-ctx.Done()
		case m.Instance != "" && errors.Is(err, kafka.UnsupportedVersion):
			m.log.Warn("this Kafka doesn't know static members: a restart costs a rebalance", "instance", m.Instance)
			m.Instance = ""
		case errors.Is(err, kafka.RebalanceInProgress), errors.Is(err, kafka.MemberIDRequired):
		case errors.Is(err, kafka.UnknownMemberId), errors.Is(err, kafka.IllegalGeneration):
			m.id = ""
		default:
			m.set(fmt.Sprintf("joining group %s: %v", m.Group, err))
			m.retry(ctx, "can't join the group, trying again", err)
		}
	}
	m.leave(ctx)
}

// leave lets the others take over at once. A static member is coming back.
func (m *Member) leave(ctx context.Context) {
	if m.id == "" || m.Instance != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if _, err := m.broker.LeaveGroup(ctx, &kafka.LeaveGroupRequest{GroupID: m.Group, Members: []kafka.LeaveGroupRequestMember{{ID: m.id}}}); err != nil {
		m.log.Warn("left without a farewell: others take over when the session ends", "session", m.Session, "error", err)
	}
}

// away says that the coordinator isn't there just now: nobody else was given our partitions, and what was asked stays to be done.
func away(err error) bool {
	var k kafka.Error
	return err != nil && (!errors.As(err, &k) || broker.Retryable(err))
}

// retry says that err happened, seldom, and waits a little.
func (m *Member) retry(ctx context.Context, what string, err error) {
	if now := time.Now(); now.Sub(m.said) > 5*time.Second {
		m.said = now
		m.log.Warn(what, "error", err)
	}
	if away(err) {
		m.broker.Refresh()
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (m *Member) join(ctx context.Context) ([]int, error) {
	const protocol = "nowcast"
	// The leader needs the number of partitions; nobody should join without having seen it.
	count, err := m.broker.Partitions(ctx, m.Topics[0])
	if err != nil {
		return nil, err
	}
	j, err := m.broker.JoinGroup(ctx, &kafka.JoinGroupRequest{GroupID: m.Group, SessionTimeout: m.Session, RebalanceTimeout: m.Session, MemberID: m.id, GroupInstanceID: m.Instance,
		ProtocolType: "consumer", Protocols: []kafka.GroupProtocol{{Name: protocol, Metadata: kafka.GroupProtocolSubscription{
			Topics: m.Topics[:1], OwnedPartitions: map[string][]int{m.Topics[0]: m.owned}}}}})
	if err != nil {
		return nil, err
	}
	if errors.Is(j.Error, kafka.MemberIDRequired) {
		m.id = j.MemberID
	}
	if j.Error != nil {
		return nil, j.Error
	}
	m.id, m.generation = j.MemberID, j.GenerationID
	s := &kafka.SyncGroupRequest{GroupID: m.Group, GenerationID: m.generation, MemberID: m.id, GroupInstanceID: m.Instance, ProtocolType: "consumer", ProtocolName: protocol}
	if j.LeaderID == m.id {
		claims := map[string][]int{}
		for _, x := range j.Members {
			claims[x.ID] = x.Metadata.OwnedPartitions[m.Topics[0]]
		}
		for id, partitions := range assign(count, claims) {
			s.Assignments = append(s.Assignments, kafka.SyncGroupRequestAssignment{MemberID: id,
				Assignment: kafka.GroupProtocolAssignment{AssignedPartitions: map[string][]int{m.Topics[0]: partitions}}})
		}
	}
	r, err := m.broker.SyncGroup(ctx, s)
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return nil, err
	}
	partitions := r.Assignment.AssignedPartitions[m.Topics[0]]
	slices.Sort(partitions)
	return partitions, nil
}

// work does one generation: it starts the work, keeps the session alive, commits, and stops the work when the generation ends.
func (m *Member) work(ctx context.Context, partitions []int) error {
	positions, err := m.fetch(ctx, partitions)
	if err != nil {
		return err
	}
	if len(partitions) > 0 {
		m.log.Info("got partitions", "partitions", partitions, "generation", m.generation)
	} else {
		m.log.Info("standing by without a partition: the group has more members than the topic has partitions", "generation", m.generation)
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
		case away(err):
			m.retry(ctx, "the group's coordinator doesn't answer, working on", err)
		case err != nil:
			return err
		}
	}
}

func (m *Member) beat(ctx context.Context) error {
	r, err := m.broker.Heartbeat(ctx, &kafka.HeartbeatRequest{GroupID: m.Group, GenerationID: int32(m.generation), MemberID: m.id, GroupInstanceID: m.Instance})
	if err != nil {
		return err
	}
	if r.Error == nil && r.Throttle != 0 {
		// kafka-go 0.4.51 reads the two fields of the answer in the wrong order, so that the error arrives as the lower half of the
		// throttle time and each rebalance would go unheard.
		if code := kafka.Error(int16(r.Throttle.Milliseconds())); code != 0 {
			return code
		}
	}
	return r.Error
}

func (m *Member) commit(ctx context.Context, work Work) error {
	rq := &kafka.OffsetCommitRequest{GroupID: m.Group, GenerationID: m.generation, MemberID: m.id, InstanceID: m.Instance, Topics: map[string][]kafka.OffsetCommit{}}
	positions := work.Positions()
	for _, p := range positions {
		if m.committed[topicPartition{p.Topic, p.Partition}] != p {
			rq.Topics[p.Topic] = append(rq.Topics[p.Topic], kafka.OffsetCommit{Partition: p.Partition, Offset: p.Offset, Metadata: p.Metadata})
		}
	}
	if len(rq.Topics) == 0 {
		return nil
	}
	r, err := m.broker.OffsetCommit(ctx, rq)
	if err != nil {
		return err
	}
	for topic, partitions := range r.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return fmt.Errorf("commit %s/%d: %w", topic, p.Partition, p.Error)
			}
		}
	}
	for _, p := range positions {
		m.committed[topicPartition{p.Topic, p.Partition}] = p
	}
	return nil
}

// fetch gives what is committed for the partitions, of all topics.
func (m *Member) fetch(ctx context.Context, partitions []int) ([]Position, error) {
	if len(partitions) == 0 {
		return nil, nil
	}
	rq := &kafka.OffsetFetchRequest{GroupID: m.Group, Topics: map[string][]int{}}
	for _, t := range m.Topics {
		rq.Topics[t] = partitions
	}
	r, err := m.broker.OffsetFetch(ctx, rq)
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return nil, fmt.Errorf("read committed offsets: %w", err)
	}
	var positions []Position
	for _, t := range m.Topics {
		for _, p := range r.Topics[t] {
			if p.Error != nil {
				return nil, fmt.Errorf("read committed offset of %s/%d: %w", t, p.Partition, p.Error)
			}
			positions = append(positions, Position{t, p.Partition, p.CommittedOffset, p.Metadata})
		}
	}
	if len(positions) != len(partitions)*len(m.Topics) {
		return nil, fmt.Errorf("read committed offsets: %d of %d", len(positions), len(partitions)*len(m.Topics))
	}
	return positions, nil
}
