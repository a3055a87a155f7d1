package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Bounds returns a partition's first offset and the offset that its next record will get.
func (c *Client) Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error) {
	o, err := c.offsets(ctx, topic, partition, kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition))
	return o.FirstOffset, o.LastOffset, err
}

// OffsetAt returns the first offset whose record's timestamp is at or after at, or the partition's end if
// none is.
func (c *Client) OffsetAt(ctx context.Context, topic string, partition int, at time.Time) (int64, error) {
	o, err := c.offsets(ctx, topic, partition, kafka.TimeOffsetOf(partition, at))
	if err != nil {
		return 0, err
	}
	for offset := range o.Offsets { // kafka-go keys the answer by offset; -1 means that no record is that new
		if offset >= 0 {
			return offset, nil
		}
	}
	_, end, err := c.Bounds(ctx, topic, partition)
	return end, err
}

func (c *Client) offsets(
	ctx context.Context, topic string, partition int, requests ...kafka.OffsetRequest,
) (kafka.PartitionOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, promptTimeout)
	defer cancel()
	r, err := c.kafka.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err == nil {
		err = ErrUnknownTopic
		for _, o := range r.Topics[topic] {
			if o.Partition == partition {
				if o.Error == nil {
					return o, nil
				}
				err = o.Error
			}
		}
	}
	return kafka.PartitionOffsets{}, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
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
