package broker

import (
	"context"
	"errors"
	"iter"
)

// Range is a part of a partition: the offsets from From up to To, exclusive.
type Range struct {
	Topic     string
	Partition int
	From, To  int64
	Gap       func(Gap) // called where records can't be read any more; may be nil
	Cut       func(Cut) // called where the log is cut; Gap when nil
}

// partitionLog is what ReadRange needs of a Client.
type partitionLog interface {
	Follow(ctx context.Context, f Follower) error
}

// errRangeRead ends Follow where a range ends, or the loop over it.
var errRangeRead = errors.New("the range is read")

// ReadRange iterates over the records of a range, in order. A record's bytes are valid only during its
// iteration. ReadRange waits for records that the log doesn't have yet. If ctx ends before the range does,
// the last iteration has ctx's error.
func ReadRange(ctx context.Context, log partitionLog, r Range) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if r.From >= r.To {
			return
		}
		err := log.Follow(ctx, Follower{
			Topic: r.Topic, Partition: r.Partition, From: r.From, Gap: r.Gap, Cut: r.Cut,
			Record: func(x Record) error {
				if x.Offset >= r.To || !yield(x, nil) || x.Offset+1 == r.To {
					return errRangeRead
				}
				return nil
			},
			Batch: func(next, _ int64) error {
				if next >= r.To {
					return errRangeRead
				}
				return nil
			},
		})
		if !errors.Is(err, errRangeRead) {
			yield(Record{}, err)
		}
	}
}
