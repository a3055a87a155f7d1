package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// Membership is what a member of a consumer group identifies itself by.
type Membership struct {
	Group      string
	ID         string // given by the coordinator at the first join; "" before
	Instance   string // name of a static member (KIP-345); "" for a dynamic one
	Generation int    // of the newest join
}

// What group members agree on. The protocol's name is Nowcast's, because only its members form these groups.
const (
	protocolType = "consumer"
	protocolName = "nowcast"
)

// JoinRequest asks to take part in a group's next generation.
type JoinRequest struct {
	Topic   string        // whose partitions are assigned
	Owned   []int         // partitions that the member had and would like to keep
	Session time.Duration // silence after which the coordinator removes the member
}

// Joined is a new generation as one member sees it.
type Joined struct {
	Membership
	Leader  bool          // this member assigns the partitions
	Members []GroupMember // all of the group's; only the leader is told
}

// GroupMember is another member, as the leader sees it.
type GroupMember struct {
	ID, Instance string
	Owned        []int // partitions that it would like to keep
}

// JoinGroup joins a group, or joins it again. With ErrMemberIDRequired the answer's Membership has the id
// to join with.
func (c *Client) JoinGroup(ctx context.Context, m Membership, r JoinRequest) (Joined, error) {
	answer, err := c.kafka.JoinGroup(ctx, &kafka.JoinGroupRequest{
		GroupID: m.Group, MemberID: m.ID, GroupInstanceID: m.Instance,
		SessionTimeout: r.Session, RebalanceTimeout: r.Session, ProtocolType: protocolType,
		Protocols: []kafka.GroupProtocol{{Name: protocolName, Metadata: kafka.GroupProtocolSubscription{
			Topics: []string{r.Topic}, OwnedPartitions: map[string][]int{r.Topic: r.Owned}}}},
	})
	if err != nil {
		return Joined{Membership: m}, err
	}
	if answer.Error != nil {
		if errors.Is(answer.Error, ErrMemberIDRequired) {
			m.ID = answer.MemberID
		}
		return Joined{Membership: m}, answer.Error
	}
	m.ID, m.Generation = answer.MemberID, answer.GenerationID
	j := Joined{Membership: m, Leader: answer.LeaderID == m.ID}
	for _, x := range answer.Members {
		j.Members = append(
			j.Members,
			GroupMember{x.ID, x.GroupInstanceID, x.Metadata.OwnedPartitions[r.Topic]},
		)
	}
	return j, nil
}

// SyncGroup returns the member's partitions of a topic. assigned is the leader's decision, by member id;
// the others pass nil. It replaces kafka-go's SyncGroup, which (0.4.51) fails with an unexpected EOF where
// the coordinator refuses, instead of returning the reason.
func (c *Client) SyncGroup(
	ctx context.Context, m Membership, topic string, assigned map[string][]int,
) ([]int, error) {
	request := &syncgroup.Request{
		GroupID: m.Group, GenerationID: int32(m.Generation), MemberID: m.ID, GroupInstanceID: m.Instance,
		ProtocolType: protocolType, ProtocolName: protocolName,
	}
	for id, partitions := range assigned {
		b, err := marshalAssignment(topic, partitions)
		if err != nil {
			return nil, err
		}
		request.Assignments = append(
			request.Assignments,
			syncgroup.RequestAssignment{MemberID: id, Assignment: b},
		)
	}
	answer, err := c.roundTrip(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("ask for assignment: %w", err)
	}
	r, ok := answer.(*syncgroup.Response)
	switch {
	case !ok:
		return nil, fmt.Errorf("ask for assignment: answer of type %T", answer)
	case r.ErrorCode != 0:
		return nil, fmt.Errorf("ask for assignment: %w", kafka.Error(r.ErrorCode))
	case len(r.Assignments) == 0:
		return nil, nil
	}
	return unmarshalAssignment(topic, r.Assignments)
}

func marshalAssignment(topic string, partitions []int) ([]byte, error) {
	t := consumer.TopicPartition{Topic: topic}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, int32(p))
	}
	b, err := protocol.Marshal(consumer.MaxVersionSupported, consumer.Assignment{
		Version: consumer.MaxVersionSupported, AssignedPartitions: []consumer.TopicPartition{t}})
	if err != nil {
		return nil, fmt.Errorf("write assignment: %w", err)
	}
	return b, nil
}

func unmarshalAssignment(topic string, b []byte) (partitions []int, err error) {
	var a consumer.Assignment
	if err := protocol.Unmarshal(b, consumer.MaxVersionSupported, &a); err != nil {
		return nil, fmt.Errorf("read assignment: %w", err)
	}
	for _, t := range a.AssignedPartitions {
		if t.Topic != topic {
			continue
		}
		for _, p := range t.Partitions {
			partitions = append(partitions, int(p))
		}
	}
	return partitions, nil
}

// Heartbeat tells the group's coordinator that the member lives, and returns the coordinator's error. It
// replaces kafka-go's Heartbeat, which (0.4.51) asks any broker instead of the coordinator and reads the
// answer's two fields in the wrong order, so that no rebalance would be noticed.
func (c *Client) Heartbeat(ctx context.Context, m Membership) error {
	answer, err := c.roundTrip(ctx, &heartbeatRequest{
		GroupID: m.Group, GenerationID: int32(m.Generation), MemberID: m.ID, GroupInstanceID: m.Instance})
	if err != nil {
		return fmt.Errorf("send heartbeat: %w", err)
	}
	r, ok := answer.(*heartbeat.Response)
	if !ok {
		return fmt.Errorf("send heartbeat: answer of type %T", answer)
	}
	// On the wire come 32 bits of throttle time, then 16 of error; kafka-go reads 16 of error, then 32 of
	// throttle time.
	if code := kafka.Error(int16(r.ThrottleTimeMs)); code != 0 { //nolint:gosec // the lower half is meant
		return code
	}
	return nil
}

// heartbeatRequest is kafka-go's with a Group method, by which the transport sends it to the group's
// coordinator.
type heartbeatRequest heartbeat.Request

var _ protocol.GroupMessage = (*heartbeatRequest)(nil)

// ApiKey implements protocol.Message.
func (*heartbeatRequest) ApiKey() protocol.ApiKey {
	return protocol.Heartbeat
}

// Group implements protocol.GroupMessage.
func (r *heartbeatRequest) Group() string { return r.GroupID }

// LeaveGroup removes the member, so that the others take its partitions over at once.
func (c *Client) LeaveGroup(ctx context.Context, m Membership) error {
	_, err := c.kafka.LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		GroupID: m.Group, Members: []kafka.LeaveGroupRequestMember{{ID: m.ID, GroupInstanceID: m.Instance}}})
	return err
}

// SupportsStaticMembers reports whether the brokers know static members. Where they don't, kafka-go leaves
// the instance's name out of its requests without an error.
func (c *Client) SupportsStaticMembers(ctx context.Context) (bool, error) {
	v, err := c.kafka.ApiVersions(ctx, &kafka.ApiVersionsRequest{})
	if err == nil {
		err = v.Error
	}
	if err != nil {
		return false, fmt.Errorf("ask for API versions: %w", err)
	}
	lacking := map[int]int{ // by API key, the first version with an instance's name
		int(protocol.JoinGroup):    5,
		int(protocol.SyncGroup):    3,
		int(protocol.Heartbeat):    3,
		int(protocol.OffsetCommit): 7,
	}
	for _, k := range v.ApiKeys {
		if k.MaxVersion >= lacking[k.ApiKey] {
			delete(lacking, k.ApiKey)
		}
	}
	return len(lacking) == 0, nil
}

func (c *Client) roundTrip(ctx context.Context, request protocol.Message) (protocol.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, c.kafka.Timeout)
	defer cancel()
	return c.transport.RoundTrip(ctx, c.kafka.Addr, request)
}

// Position is a consumer group's committed offset in a partition.
type Position struct {
	Topic     string
	Partition int
	Offset    int64  // of the next record to process; -1 when the group has committed none
	Metadata  string // what the group's members keep beside the offset
}

// Committed returns a group's position in each of the partitions of each topic, ordered by topic as given.
// All offsets of a group that never had a member are -1.
func (c *Client) Committed(
	ctx context.Context, group string, partitions []int, topics ...string,
) ([]Position, error) {
	if len(partitions) == 0 || len(topics) == 0 {
		return nil, nil
	}
	request := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{}}
	for _, t := range topics {
		request.Topics[t] = partitions
	}
	r, err := c.kafka.OffsetFetch(ctx, request)
	if err == nil && !errors.Is(r.Error, kafka.GroupIdNotFound) {
		err = r.Error
	}
	if err != nil {
		return nil, fmt.Errorf("read the committed offsets of %s: %w", group, err)
	}
	groupIsMissing := r.Error != nil
	positions := make([]Position, 0, len(partitions)*len(topics))
	for _, t := range topics {
		answers := map[int]kafka.OffsetFetchPartition{}
		for _, p := range r.Topics[t] {
			answers[p.Partition] = p
		}
		for _, p := range partitions {
			a, ok := answers[p]
			switch {
			case ok && a.Error != nil:
				return nil, fmt.Errorf("read the committed offset of %s in %s/%d: %w", group, t, p, a.Error)
			case ok:
				positions = append(positions, Position{t, p, a.CommittedOffset, a.Metadata})
			case groupIsMissing:
				positions = append(positions, Position{t, p, -1, ""})
			default:
				return nil, fmt.Errorf("read the committed offset of %s in %s/%d: the broker left it out",
					group,
					t,
					p,
				)
			}
		}
	}
	return positions, nil
}

// Commit stores positions of a group. A group without members takes them from a Membership that has only a
// Group and the Generation -1.
func (c *Client) Commit(ctx context.Context, m Membership, positions []Position) error {
	request := &kafka.OffsetCommitRequest{
		GroupID: m.Group, GenerationID: m.Generation, MemberID: m.ID, InstanceID: m.Instance,
		Topics: map[string][]kafka.OffsetCommit{},
	}
	for _, p := range positions {
		request.Topics[p.Topic] = append(request.Topics[p.Topic],
			kafka.OffsetCommit{Partition: p.Partition, Offset: p.Offset, Metadata: p.Metadata})
	}
	r, err := c.kafka.OffsetCommit(ctx, request)
	if err != nil {
		return fmt.Errorf("commit offsets of %s: %w", m.Group, err)
	}
	for topic, partitions := range r.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return fmt.Errorf("commit offset of %s in %s/%d: %w", m.Group, topic, p.Partition, p.Error)
			}
		}
	}
	return nil
}

// GroupMembers returns the members of a group, as its coordinator knows them.
func (c *Client) GroupMembers(ctx context.Context, group string) ([]Membership, error) {
	r, err := c.kafka.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return nil, fmt.Errorf("list members of %s: %w", group, err)
	}
	var all []Membership
	for _, g := range r.Groups {
		if g.Error != nil && !errors.Is(g.Error, kafka.GroupIdNotFound) {
			return nil, fmt.Errorf("list members of %s: %w", group, g.Error)
		}
		for _, m := range g.Members {
			all = append(all, Membership{Group: group, ID: m.MemberID})
		}
	}
	return all, nil
}

// RemoveMembers removes members from a group. Those that run join it again.
func (c *Client) RemoveMembers(ctx context.Context, group string, members []Membership) error {
	if len(members) == 0 {
		return nil
	}
	request := &kafka.LeaveGroupRequest{GroupID: group}
	for _, m := range members {
		request.Members = append(request.Members, kafka.LeaveGroupRequestMember{ID: m.ID})
	}
	if _, err := c.kafka.LeaveGroup(ctx, request); err != nil {
		return fmt.Errorf("remove members of %s: %w", group, err)
	}
	return nil
}
