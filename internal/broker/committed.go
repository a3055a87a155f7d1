package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Position is how far a consumer group has dealt with a partition.
type Position struct {
	Topic     string
	Partition int
	Offset    int64  // the next one to deal with; -1 when nothing has been committed
	Metadata  string // what the group's workers want to know of it
}

// Committed is what a group has committed: a position for each of the partitions of each topic, by topic in the order given. Of a group in
// which nobody has ever been all offsets are -1.
func (c *Client) Committed(ctx context.Context, group string, partitions []int, topics ...string) ([]Position, error) {
	if len(partitions) == 0 || len(topics) == 0 {
		return nil, nil
	}
	rq := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{}}
	for _, t := range topics {
		rq.Topics[t] = partitions
	}
	r, err := c.OffsetFetch(ctx, rq)
	if err == nil && !errors.Is(r.Error, kafka.GroupIdNotFound) {
		err = r.Error
	}
	if err != nil {
		return nil, fmt.Errorf("read what %s has committed: %w", group, err)
	}
	all := make([]Position, 0, len(partitions)*len(topics))
	for _, t := range topics {
		found := map[int]kafka.OffsetFetchPartition{}
		for _, p := range r.Topics[t] {
			found[p.Partition] = p
		}
		for _, p := range partitions {
			at, ok := found[p]
			switch {
			case ok && at.Error != nil:
				return nil, fmt.Errorf("read what %s has committed of %s/%d: %w", group, t, p, at.Error)
			case ok:
				all = append(all, Position{t, p, at.CommittedOffset, at.Metadata})
			case r.Error != nil: // there is no such group
				all = append(all, Position{t, p, -1, ""})
			default:
				return nil, fmt.Errorf("read what %s has committed of %s/%d: the broker says nothing of it", group, t, p)
			}
		}
	}
	return all, nil
}
