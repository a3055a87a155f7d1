package broker

import (
	"cmp"
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
	Fail      func(error) // a fetch failed and is tried again

	// Doubt, when not 0, makes Follow fail with ErrAnew once another log is in the place of the one that it reads. One that seems too short
	// has to seem so for as long as Doubt: a new leader may not know yet how long it is, and one that is cut off that it leads no more.
	Doubt   time.Duration
	Reached int64 // with Doubt: an offset that the log has had
	Before  int64 // with Doubt: the timestamp of the record before From, ms; 0 when it isn't known
}

// Doubt is enough for a Follower's: a broker that is cut off may say what isn't so until its session ends.
const Doubt = 4 * time.Second

// ErrAnew says that a topic was deleted and made again: an offset in it means another record than it did.
var ErrAnew = errors.New("the log isn't the one that was read")

// The bytes asked for in one fetch.
const minFetch, maxFetch = 4 << 20, 1 << 30

// Follow hands over a partition's records until ctx ends (it returns ctx's error), a callback fails (it returns that error), or, where that is
// asked for, the log is another one than it was (ErrAnew).
func (c *Client) Follow(ctx context.Context, f Follower) error {
	if f.MaxWait == 0 {
		f.MaxWait = 500 * time.Millisecond
	}
	var wait time.Duration
	r := reader{Follower: f, next: f.From, before: f.Before}
	for size := minFetch; ctx.Err() == nil; {
		var res *kafka.FetchResponse
		err := c.same(ctx, &r)
		asked := time.Now()
		if err == nil {
			res, err = c.fetch(ctx, &r, r.next, int64(size), f.MaxWait)
		}
		if err == nil && !r.long(res.HighWatermark) {
			err = c.short(ctx, &r)
		}
		if err == nil {
			r.sure = asked // the answer may be from before a pause of this process
			before := r.next
			var stop error
			if stop, err = r.drain(res); stop != nil {
				return stop
			}
			if err == nil {
				wait, r.since = 0, time.Time{}
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
		if errors.Is(err, kafka.OffsetOutOfRange) {
			err = cmp.Or(c.skip(ctx, &r), err)
		} else {
			c.Refresh()
		}
		if errors.Is(err, ErrAnew) {
			return err
		}
		r.sure = time.Time{}
		if f.Fail != nil {
			f.Fail(fmt.Errorf("fetch %s/%d at %d: %w", f.Topic, f.Partition, r.next, err))
		}
		wait = backoff(wait)
		pause(ctx, wait)
	}
	return ctx.Err()
}

func (c *Client) fetch(ctx context.Context, r *reader, from, bytes int64, wait time.Duration) (*kafka.FetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	res, err := c.Fetch(ctx, &kafka.FetchRequest{Topic: r.Topic, Partition: r.Partition, Offset: from, MinBytes: 1, MaxBytes: bytes, MaxWait: wait})
	if err == nil {
		err = res.Error
	}
	return res, err
}

// skip moves a reader whose offset is outside of the log to the nearest one that is in it.
func (c *Client) skip(ctx context.Context, r *reader) error {
	first, end, err := c.Bounds(ctx, r.Topic, r.Partition)
	if err != nil || r.next >= first && r.next <= end {
		return err
	}
	if !r.long(end) {
		return c.short(ctx, r)
	}
	to := first
	if r.next > end {
		to = end
	}
	if r.Gap != nil {
		r.Gap(Gap{r.Topic, r.Partition, r.next, to})
	}
	r.next, r.before = to, 0
	return nil
}

// long says whether a log that ends there is as long as is known of it.
func (r *reader) long(end int64) bool { return r.Doubt == 0 || end >= max(r.Reached, r.next) }

// short asks where a log ends that seems to end too early. A fetch may say less than there is, until a new leader has heard of its
// followers. The error is ErrAnew when it is beyond doubt; it is nil when the log is long enough.
func (c *Client) short(ctx context.Context, r *reader) error {
	_, end, err := c.Bounds(ctx, r.Topic, r.Partition)
	if err != nil {
		return err
	}
	if r.long(end) {
		return nil
	}
	c.Refresh()
	if r.since.IsZero() {
		r.since = time.Now()
	}
	err = fmt.Errorf("%s/%d ends at offset %d, and everything up to %d had been read", r.Topic, r.Partition, end, max(r.Reached, r.next))
	if time.Since(r.since) < r.Doubt {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAnew, err)
}

// same looks again at the record before the next one, before the first fetch and after an error or a pause: nobody deletes a topic, makes it again
// and fills it without either. It fails with ErrAnew when that record isn't of the time that it was of. Where retention has taken it, nothing is known.
func (c *Client) same(ctx context.Context, r *reader) error {
	const pause = 2 * time.Second
	if r.Doubt == 0 || r.before == 0 || time.Since(r.sure) < pause {
		return nil
	}
	res, err := c.fetch(ctx, r, r.next-1, minFetch, 0)
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return nil // whatever that means, the fetch of the next one will say it too
	}
	for err == nil {
		var rec *kafka.Record
		if rec, err = res.Records.ReadRecord(); err != nil {
			break
		}
		if rec.Key != nil {
			rec.Key.Close()
		}
		if rec.Value != nil {
			rec.Value.Close()
		}
		if at := rec.Time.UnixMilli(); rec.Offset == r.next-1 && at != r.before {
			return fmt.Errorf("%w: the record at offset %d of %s/%d is of %s and was of %s", ErrAnew, rec.Offset, r.Topic, r.Partition, stamp(at), stamp(r.before))
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

type reader struct {
	Follower
	next       int64
	before     int64     // timestamp of the record before the next one; 0 when it isn't known
	sure       time.Time // when the last fetch began, if it succeeded
	since      time.Time // when the log began to seem too short
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
		r.next, r.before = rec.Offset+1, out.Time
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
