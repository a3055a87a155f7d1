package broker

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// Heartbeat tells a group's coordinator that a member lives, and returns what the coordinator has to say. It takes the place of kafka-go's,
// which (0.4.51) sends it to any broker instead of the coordinator, and reads the answer's two fields in the wrong order, so that each
// rebalance would go unheard.
func (c *Client) Heartbeat(ctx context.Context, r *kafka.HeartbeatRequest) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	m, err := c.transport.RoundTrip(ctx, c.Addr, &heartbeatRequest{GroupID: r.GroupID, GenerationID: r.GenerationID, MemberID: r.MemberID,
		GroupInstanceID: r.GroupInstanceID})
	if err != nil {
		return fmt.Errorf("send heartbeat: %w", err)
	}
	res, ok := m.(*heartbeat.Response)
	if !ok {
		return fmt.Errorf("send heartbeat: answer of type %T", m)
	}
	// The wire has 32 bits of throttle time, then 16 of error; kafka-go reads 16 of error, then 32 of throttle time.
	if code := kafka.Error(int16(res.ThrottleTimeMs)); code != 0 { //nolint:gosec // the lower half is meant
		return code
	}
	return nil
}

// heartbeatRequest is kafka-go's, of which the transport sees by its method Group that it is for a coordinator.
type heartbeatRequest heartbeat.Request

var _ protocol.GroupMessage = (*heartbeatRequest)(nil)

// ApiKey is a protocol.Message's.
func (*heartbeatRequest) ApiKey() protocol.ApiKey { return protocol.Heartbeat } //nolint:revive // kafka-go's name

// Group is a protocol.GroupMessage's.
func (r *heartbeatRequest) Group() string { return r.GroupID }

// SyncGroup gives a member its partitions of a topic; assigned is what the leader has decided, by member id, and nil of all others. It takes
// the place of kafka-go's, which (0.4.51) fails with an unexpected EOF where the coordinator refuses, instead of saying why.
func (c *Client) SyncGroup(ctx context.Context, r *kafka.SyncGroupRequest, topic string, assigned map[string][]int) ([]int, error) {
	rq := &syncgroup.Request{GroupID: r.GroupID, GenerationID: int32(r.GenerationID), MemberID: r.MemberID, GroupInstanceID: r.GroupInstanceID,
		ProtocolType: r.ProtocolType, ProtocolName: r.ProtocolName}
	for id, partitions := range assigned {
		of := consumer.TopicPartition{Topic: topic}
		for _, p := range partitions {
			of.Partitions = append(of.Partitions, int32(p))
		}
		b, err := protocol.Marshal(consumer.MaxVersionSupported, consumer.Assignment{Version: consumer.MaxVersionSupported, AssignedPartitions: []consumer.TopicPartition{of}})
		if err != nil {
			return nil, fmt.Errorf("write assignment: %w", err)
		}
		rq.Assignments = append(rq.Assignments, syncgroup.RequestAssignment{MemberID: id, Assignment: b})
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	m, err := c.transport.RoundTrip(ctx, c.Addr, rq)
	if err != nil {
		return nil, fmt.Errorf("ask for assignment: %w", err)
	}
	res, ok := m.(*syncgroup.Response)
	switch {
	case !ok:
		return nil, fmt.Errorf("ask for assignment: answer of type %T", m)
	case res.ErrorCode != 0:
		return nil, fmt.Errorf("ask for assignment: %w", kafka.Error(res.ErrorCode))
	case len(res.Assignments) == 0:
		return nil, nil
	}
	var a consumer.Assignment
	if err := protocol.Unmarshal(res.Assignments, consumer.MaxVersionSupported, &a); err != nil {
		return nil, fmt.Errorf("read assignment: %w", err)
	}
	var partitions []int
	for _, of := range a.AssignedPartitions {
		if of.Topic == topic {
			for _, p := range of.Partitions {
				partitions = append(partitions, int(p))
			}
		}
	}
	return partitions, nil
}
