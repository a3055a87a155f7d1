package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

const (
	clockEvery = 30 * time.Second
	clockLimit = 2 * time.Second
	clockLook  = 32              // newest records of a partition to look at
	clockHear  = 2 * time.Second // for another node to write: each does so four times a second
	clockPause = 3 * time.Second // until a clock that is ahead is measured again
)

// clockLog is how a node sees what time the others have.
type clockLog interface {
	Bounds(ctx context.Context, topic string, partition int) (first, end int64, err error)
	Follow(ctx context.Context, f broker.Follower) error
}

var errSeen = errors.New("seen enough")

// behind returns by how much the newest timestamp that another node has written is ahead of this machine's clock. A slow clock is
// the one that hurts: it delays every window. (A fast one is refused by the broker, and an idle log tells nothing about it.)
func behind(ctx context.Context, log clockLog, node uint64) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockEvery/3)
	defer cancel()
	first, end, err := log.Bounds(ctx, topic.Events, 0)
	if err != nil {
		return 0, fmt.Errorf("look at the log's newest timestamp: %w", err)
	}
	from := max(first, end-clockLook)
	if from >= end {
		return 0, nil
	}
	var newest int64
	var d event.Decoder
	err = log.Follow(ctx, broker.Follower{Topic: topic.Events, From: from,
		Record: func(r broker.Record) error {
			if h, err := d.Reset(r.Value); err == nil && h.Node != node {
				newest = max(newest, r.Time)
			}
			if r.Offset+1 >= end {
				return errSeen
			}
			return nil
		},
		Batch: func(next, _ int64) error {
			if next >= end {
				return errSeen
			}
			return nil
		}})
	if err != nil && !errors.Is(err, errSeen) {
		return 0, fmt.Errorf("look at the log's newest timestamp: %w", err)
	}
	if newest == 0 {
		return 0, nil
	}
	return max(0, time.Until(time.UnixMilli(newest))), nil
}

// ahead returns by how much this machine's clock is ahead of another node's, as a record shows that arrives now; 0 when no other node writes, or
// when it isn't ahead. What is in the log already tells nothing: it may be as old as the difference.
func ahead(ctx context.Context, log clockLog, node uint64) (off time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, clockHear)
	defer cancel()
	_, end, err := log.Bounds(ctx, topic.Events, 0)
	if err == nil {
		var d event.Decoder
		err = log.Follow(ctx, broker.Follower{Topic: topic.Events, From: end, Record: func(r broker.Record) error {
			if h, err := d.Reset(r.Value); err == nil && h.Node != node {
				off = max(0, time.Since(time.UnixMilli(r.Time)))
				return errSeen
			}
			return nil
		}})
	}
	if err != nil && !errors.Is(err, errSeen) && ctx.Err() == nil {
		return 0, fmt.Errorf("wait for another node's timestamp: %w", err)
	}
	return off, nil
}
