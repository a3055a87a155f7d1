package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"

	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// Record is one record of a partition. Its bytes are valid only during the call that hands it over.
type Record struct {
	Offset     int64
	Time       int64 // its timestamp, ms UTC
	Key, Value []byte
}

// Gap is a hole in a partition: the offsets from From up to To, exclusive, can't be read any more.
type Gap struct {
	Topic     string
	Partition int
	From, To  int64
}

func (g Gap) String() string {
	return fmt.Sprintf("%s/%d: offsets %d to %d are gone", g.Topic, g.Partition, g.From, g.To-1)
}

// Cut is a place in a partition where the log has lost records, and continues: the embedded broker lost its
// newest records with the machine's power, and has left out their offsets, see topic.LogCut. The records
// before the cut have timestamps up to After, those behind it from At on, both ms UTC.
type Cut struct {
	Gap
	After, At int64
}

func (c Cut) String() string {
	return fmt.Sprintf("%s/%d: the log is cut at offset %d: records between %s and %s are lost", c.Topic,
		c.Partition, c.From, timestamp(c.After), timestamp(c.At))
}

// Follower says what Follow reads and where it reports. Follow makes all callbacks from its own goroutine;
// all but Record may be nil.
type Follower struct {
	Topic     string
	Partition int
	From      int64                       // first offset to read
	MaxWait   time.Duration               // for which a broker may hold an empty fetch; when 0, see Follow
	Record    func(Record) error          // called with each record, in order
	Batch     func(next, end int64) error // called after each fetch: next offset, partition's end
	Gap       func(Gap)
	Cut       func(Cut)   // called where the log is cut; Gap when nil
	Fail      func(error) // called when a fetch failed and is tried again

	// RecreationGrace, when not 0, makes Follow fail with ErrTopicRecreated once the topic was deleted and
	// made again. Follow fails only after the log has been too short for RecreationGrace: a new leader
	// reports a stale end until its followers have fetched, and a partitioned old leader reports one until
	// its session ends.
	RecreationGrace time.Duration
	KnownEnd        int64 // with RecreationGrace: an end that the log is known to have had
	PreviousTime    int64 // with RecreationGrace: timestamp of the record before From, ms UTC; 0 when unknown
}

// RecreationGrace is long enough for a Follower: a partitioned old leader's session has ended by then.
const RecreationGrace = 4 * time.Second

// Bytes asked for in one fetch.
const minFetch, maxFetch = 4 << 20, 1 << 30

// Follow hands over a partition's records until ctx ends (it returns ctx's error), a callback fails (it
// returns that error), or, with RecreationGrace, the topic was made again (ErrTopicRecreated).
//
// Without MaxWait a broker holds an empty fetch for minWait, and twice as long after each empty one, up to
// maxWait, until records come at a shorter interval than minWait: a partition without records costs nearly
// nothing, and a record still ends the fetch at once. An embedded broker holds the second one for a minute.
func (c *Client) Follow(ctx context.Context, f Follower) error {
	wait := f.MaxWait
	if wait == 0 {
		f.MaxWait = minWait
	}
	var backoff retry.Backoff
	r := reader{Follower: f, next: f.From, previousTime: f.PreviousTime}
	for size := minFetch; ctx.Err() == nil; {
		before, begin := r.next, time.Now()
		end, stop, err := c.read(ctx, &r, int64(size))
		switch {
		case stop != nil:
			return stop
		case err == nil:
			backoff.Reset()
			if wait == 0 {
				r.MaxWait = c.nextWait(r.MaxWait, time.Since(begin), r.next == before)
			}
			if r.next == before && end > r.next {
				size = min(
					2*size,
					maxFetch,
				) // compaction leaves empty batches, which kafka-go hides: reach past them
			} else {
				size = minFetch
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, kafka.OffsetOutOfRange):
			err = cmp.Or(c.skip(ctx, &r), err)
		default:
			c.Refresh()
		}
		if errors.Is(err, ErrTopicRecreated) {
			return err
		}
		r.confirmedAt = time.Time{}
		r.MaxWait = f.MaxWait
		if f.Fail != nil {
			f.Fail(fmt.Errorf("fetch %s/%d at %d: %w", f.Topic, f.Partition, r.next, err))
		}
		_ = backoff.Wait(ctx)
	}
	return ctx.Err()
}

// How long a broker may hold an empty fetch.
const (
	minWait = 500 * time.Millisecond
	maxWait = 10 * time.Second // twice this time, a broker that hangs is noticed later
)

// nextWait is how long the broker may hold the next fetch, after one that took some time.
func (c *Client) nextWait(wait, took time.Duration, empty bool) time.Duration {
	switch {
	case empty:
		return min(time.Duration(c.waitGrowth)*wait, c.maxWait)
	case took < minWait:
		return minWait
	}
	return wait // records come, but seldom
}

// read fetches once and hands over what came. end is the partition's end, stop a callback's error, err the
// fetch's.
func (c *Client) read(ctx context.Context, r *reader, size int64) (end int64, stop, err error) {
	if err := c.checkPrevious(ctx, r); err != nil {
		return 0, nil, err
	}
	fetchedAt := time.Now()
	answer, err := c.fetch(ctx, r, r.next, size, r.MaxWait)
	if err == nil && !r.reachesKnownEnd(answer.HighWatermark) {
		err = c.checkEnd(ctx, r)
	}
	if err != nil {
		return 0, nil, err
	}
	r.confirmedAt = fetchedAt // not the time now: the answer may be from before a pause of this process
	stop, err = r.handOver(answer)
	if stop == nil && err == nil {
		r.shortSince = time.Time{}
	}
	return answer.HighWatermark, stop, err
}

// fetchTimeout bounds a fetch that a broker may hold for wait. kafka-go lets it hold one for half of the time
// that is left.
func fetchTimeout(wait time.Duration) time.Duration { return 2*wait + promptTimeout }

func (c *Client) fetch(
	ctx context.Context, r *reader, from, bytes int64, wait time.Duration,
) (*kafka.FetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout(wait))
	defer cancel()
	answer, err := c.kafka.Fetch(ctx, &kafka.FetchRequest{
		Topic: r.Topic, Partition: r.Partition, Offset: from, MinBytes: 1, MaxBytes: bytes, MaxWait: wait})
	if err == nil {
		err = answer.Error
	}
	return answer, c.explain(err)
}

// skip moves a reader whose offset is outside of the log to the nearest offset inside, and reports the gap.
func (c *Client) skip(ctx context.Context, r *reader) error {
	first, end, err := c.Bounds(ctx, r.Topic, r.Partition)
	if err != nil || r.next >= first && r.next <= end {
		return err
	}
	if !r.reachesKnownEnd(end) {
		return c.checkEnd(ctx, r)
	}
	to := first
	if r.next > end {
		to = end
	}
	if r.Gap != nil {
		r.Gap(Gap{r.Topic, r.Partition, r.next, to})
	}
	r.next, r.previousTime = to, 0
	return nil
}

// reachesKnownEnd reports whether a log that ends at end has everything that it is known to have had.
func (r *reader) reachesKnownEnd(end int64) bool {
	return r.RecreationGrace == 0 || end >= max(r.KnownEnd, r.next)
}

// checkEnd lists the end offset of a log that a fetch showed as too short; until its followers have fetched,
// a new leader reports a lower high watermark. The error is nil when the log reaches the known end after all,
// and ErrTopicRecreated when it has been too short for RecreationGrace.
func (c *Client) checkEnd(ctx context.Context, r *reader) error {
	_, end, err := c.Bounds(ctx, r.Topic, r.Partition)
	if err != nil {
		return err
	}
	if r.reachesKnownEnd(end) {
		return nil
	}
	c.Refresh()
	if r.shortSince.IsZero() {
		r.shortSince = time.Now()
	}
	err = fmt.Errorf("%s/%d ends at offset %d, and everything up to %d had been read",
		r.Topic, r.Partition, end, max(r.KnownEnd, r.next))
	if time.Since(r.shortSince) < r.RecreationGrace {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTopicRecreated, err)
}

// checkPrevious reads the record before the next one again and compares its timestamp, before the first
// fetch and after an error or a pause: a recreated topic can't reach the old offset without an error or pause
// of the reader. It fails with ErrTopicRecreated when the timestamp differs. Where retention has removed that
// record it reports nothing.
func (c *Client) checkPrevious(ctx context.Context, r *reader) error {
	if r.RecreationGrace == 0 || r.previousTime == 0 || time.Since(r.confirmedAt) < c.recheckAfter {
		return nil
	}
	answer, err := c.fetch(ctx, r, r.next-1, minFetch, 0)
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return nil // the fetch of the next record reports it too
	}
	for err == nil {
		var record *kafka.Record
		if record, err = answer.Records.ReadRecord(); err != nil {
			break
		}
		for _, b := range []kafka.Bytes{record.Key, record.Value} {
			if b != nil {
				b.Close()
			}
		}
		if at := record.Time.UnixMilli(); record.Offset == r.next-1 && at != r.previousTime {
			return fmt.Errorf("%w: the record at offset %d of %s/%d is of %s and was of %s",
				ErrTopicRecreated,
				record.Offset,
				r.Topic,
				r.Partition,
				timestamp(at),
				timestamp(r.previousTime),
			)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

func timestamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// reader is the state of one Follow.
type reader struct {
	Follower
	next         int64
	previousTime int64     // timestamp of the record before next, ms UTC; 0 when unknown
	confirmedAt  time.Time // when the newest successful fetch began; zero after an error
	shortSince   time.Time // when the log began to seem too short; zero when it doesn't
	key, value   []byte    // buffers of the record that is handed over
}

// handOver calls back with the records of a fetch. stop is a callback's error, err the fetch's.
func (r *reader) handOver(answer *kafka.FetchResponse) (stop, err error) {
	for {
		record, err := answer.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			if r.Batch != nil {
				return r.Batch(r.next, max(answer.HighWatermark, r.next)), nil
			}
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if r.key, err = readAll(r.key, record.Key); err != nil {
			return nil, err
		}
		if r.value, err = readAll(r.value, record.Value); err != nil {
			return nil, err
		}
		if record.Offset < r.next {
			continue // a batch begins before the offset that was asked for
		}
		out := Record{Offset: record.Offset, Time: record.Time.UnixMilli()}
		if cut, ok := topic.ParseLogCut(r.key); ok && record.Key != nil && len(r.value) == 0 {
			r.cut(cut, out)
			continue
		}
		if record.Key != nil {
			out.Key = r.key
		}
		if record.Value != nil {
			out.Value = r.value
		}
		if err := r.Record(out); err != nil {
			return err, nil
		}
		r.next, r.previousTime = record.Offset+1, out.Time
	}
}

// cut reports a cut and skips its record.
func (r *reader) cut(c topic.LogCut, at Record) {
	g := Gap{r.Topic, r.Partition, max(c.From, r.next), at.Offset}
	if r.Cut != nil {
		r.Cut(Cut{g, c.After, at.Time})
	} else if r.Gap != nil && g.From < g.To {
		r.Gap(g)
	}
	r.next, r.previousTime = at.Offset+1, at.Time
}

// readAll fills buf, grown where necessary, with b and closes b.
func readAll(buf []byte, b kafka.Bytes) ([]byte, error) {
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
	return kafka.PartitionOffsets{}, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, c.explain(err))
}
