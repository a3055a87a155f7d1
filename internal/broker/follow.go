package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// Record is one record of a partition. Its bytes are valid only during the call that hands it over.
type Record struct {
	Offset     int64
	Time       int64 // its timestamp, ms UTC
	Key, Value []byte
}

// Gap is a hole in what a follower was given: the offsets from From up to To are gone.
type Gap struct {
	Topic     string
	Partition int
	From, To  int64
}

func (g Gap) String() string {
	return fmt.Sprintf("%s/%d: offsets %d to %d are gone", g.Topic, g.Partition, g.From, g.To-1)
}

// Follower says what to follow and whom to tell. All callbacks are made from the goroutine that runs Follow; all but Record may be nil.
type Follower struct {
	Topic     string
	Partition int
	From      int64
	MaxWait   time.Duration               // how long the broker may wait for a record; 500 ms when 0
	Record    func(Record) error          // each record, in order
	Batch     func(next, end int64) error // after each fetch, also an empty one: the next offset and the partition's end
	Gap       func(Gap)
	Doubt     time.Duration // how long the log has to end before the offset reached until that is believed; at once when 0
	Fail      func(error)   // a fetch failed and is tried again
}

// The bytes asked for in one fetch.
const minFetch, maxFetch = 4 << 20, 1 << 30

// Follow hands over a partition's records until ctx ends (it returns ctx's error) or a callback fails (it returns that error).
func (c *Client) Follow(ctx context.Context, f Follower) error {
	if f.MaxWait == 0 {
		f.MaxWait = 500 * time.Millisecond
	}
	var wait time.Duration
	r := reader{Follower: f, next: f.From}
	for size := minFetch; ctx.Err() == nil; {
		res, err := c.fetch(ctx, f.MaxWait, &kafka.FetchRequest{Topic: f.Topic, Partition: f.Partition, Offset: r.next, MinBytes: 1, MaxBytes: int64(size), MaxWait: f.MaxWait})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			before := r.next
			var stop error
			if stop, err = r.drain(res); stop != nil {
				return stop
			}
			if err == nil {
				wait, r.beyond = 0, time.Time{}
				if r.next == before && res.HighWatermark > r.next {
					size = min(2*size, maxFetch) // compaction leaves empty batches, which kafka-go doesn't show: look past them
				} else {
					size = minFetch
				}
				continue
			}
		}
		if ctx.Err() != nil {
			break
		}
		if f.Fail != nil {
			f.Fail(fmt.Errorf("fetch %s/%d at %d: %w", f.Topic, f.Partition, r.next, err))
		}
		if errors.Is(err, kafka.OffsetOutOfRange) {
			c.skip(ctx, &r)
		} else {
			c.Refresh()
		}
		wait = backoff(wait)
		pause(ctx, wait)
	}
	return ctx.Err()
}

func (c *Client) fetch(ctx context.Context, wait time.Duration, req *kafka.FetchRequest) (*kafka.FetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	return c.Fetch(ctx, req)
}

// skip moves a reader whose offset is outside of the log to the nearest one that is in it. A broker that is cut off and doesn't know yet
// that it leads no more may say that the log is shorter than it is.
func (c *Client) skip(ctx context.Context, r *reader) {
	first, end, err := c.Bounds(ctx, r.Topic, r.Partition)
	if err != nil || r.next >= first && r.next <= end {
		return
	}
	to := first
	if r.next > end {
		if r.beyond.IsZero() {
			r.beyond = time.Now()
		}
		if time.Since(r.beyond) < r.Doubt {
			c.Refresh()
			return
		}
		to = end
	}
	if r.Gap != nil {
		r.Gap(Gap{r.Topic, r.Partition, r.next, to})
	}
	r.next = to
}

type reader struct {
	Follower
	next       int64
	beyond     time.Time // since when the log ends before next
	key, value []byte
}

// drain hands over what a fetch brought. stop is a callback's error, err the fetch's.
func (r *reader) drain(res *kafka.FetchResponse) (stop, err error) {
	for {
		rec, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			if r.Batch != nil {
				return r.Batch(r.next, max(res.HighWatermark, r.next)), nil
			}
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if r.key, err = read(r.key, rec.Key); err != nil {
			return nil, err
		}
		if r.value, err = read(r.value, rec.Value); err != nil {
			return nil, err
		}
		if rec.Offset < r.next {
			continue // a batch begins before the offset that was asked for
		}
		out := Record{Offset: rec.Offset, Time: rec.Time.UnixMilli()}
		if rec.Key != nil {
			out.Key = r.key
		}
		if rec.Value != nil {
			out.Value = r.value
		}
		if err := r.Record(out); err != nil {
			return err, nil
		}
		r.next = rec.Offset + 1
	}
}

// read fills buf with b and closes b.
func read(buf []byte, b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return buf[:0], nil
	}
	defer b.Close()
	n := b.Len()
	if cap(buf) < n {
		buf = make([]byte, n, n+n/4)
	}
	buf = buf[:n]
	_, err := io.ReadFull(b, buf)
	return buf, err
}
