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
	clockLook  = 32 // newest records of a partition to look at
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
