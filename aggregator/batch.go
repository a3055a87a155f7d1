package aggregator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"nowcast/aggregator/group"
	"nowcast/internal/window"
)

const (
	batchRows  = 100_000          // of an insert; reading waits when as many wait for the insert before
	batchBytes = 32 << 20         // of the records that they came from, the same
	batchAge   = time.Second      // of the oldest row
	tryInsert  = 60 * time.Second // one attempt
	longInsert = 10 * time.Second // after which whoever asks is told that one is under way
)

// table is what a batch is filled with: columns of an insert.
type table interface {
	rows() int
	insert(ctx context.Context, db inserter, token string) error
}

// batcher gathers rows of one table from all partitions, inserts them, and knows how far each partition is in ClickHouse. It holds two batches
// at most, one that fills and one that is being inserted; when both are full, whoever adds waits. So while ClickHouse is away the
// lane stands still in the log.
type batcher[T table] struct {
	*lane
	name string
	db   inserter
	make func() T
	full chan struct{} // the batch that fills has to go

	stored atomic.Int64 // rows that ClickHouse has acknowledged

	mu      sync.Mutex
	room    sync.Cond
	filling *batch[T]
	done    map[partitionOf]group.Position
	reason  string
	began   time.Time // the attempt that is under way
}

type partitionOf struct {
	topic     string
	partition int
}

type batch[T table] struct {
	table T
	bytes int
	hash  *xxhash.Digest // of the records whose rows it has
	reach map[partitionOf]group.Position
}

func newBatcher[T table](l *lane, name string, db inserter, empty func() T) *batcher[T] {
	b := &batcher[T]{lane: l, name: name, db: db, make: empty, full: make(chan struct{}, 1), done: map[partitionOf]group.Position{}}
	b.room.L = &b.mu
	b.filling = b.next()
	return b
}

func (b *batcher[T]) next() *batch[T] {
	return &batch[T]{table: b.make(), hash: xxhash.New(), reach: map[partitionOf]group.Position{}}
}

func (b *batch[T]) isFull() bool { return b.table.rows() >= batchRows || b.bytes >= batchBytes }

// add has fill append the rows of a record, after which a partition is at reach. It waits while there is no room, and fails only when
// ctx ends.
func (b *batcher[T]) add(ctx context.Context, reach group.Position, record []byte, fill func(T)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filling.isFull() {
		b.metrics.waits.WithLabelValues(b.name).Inc()
		defer context.AfterFunc(ctx, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.room.Broadcast()
		})()
		for b.filling.isFull() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.room.Wait()
		}
	}
	f := b.filling
	before := f.table.rows()
	fill(f.table)
	if f.table.rows() > before {
		f.bytes += len(record)
		_, _ = f.hash.Write(record) // never fails
	}
	f.reach[partitionOf{reach.Topic, reach.Partition}] = reach
	if f.isFull() {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// run inserts what comes until ctx ends, and once more what is there then, until hard ends.
func (b *batcher[T]) run(ctx, hard context.Context) {
	tick := time.NewTicker(batchAge)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		case <-b.full:
		}
		b.flush(hard)
	}
	b.flush(hard) // also what has come while the last one was under way
}

// flush inserts the batch that fills. It tries until ClickHouse has acknowledged it or ctx ends, always with the same token.
func (b *batcher[T]) flush(ctx context.Context) {
	b.mu.Lock()
	f := b.filling
	b.filling = b.next()
	b.room.Broadcast()
	b.mu.Unlock()
	rows := f.table.rows()
	if rows > 0 {
		// Other rows under the same token would be dropped in silence, so it stands for their bytes.
		token := fmt.Sprintf("%s/%d/%d/%016x%s", b.name, window.Epoch, rows, f.hash.Sum64(), b.lane.run)
		for said, wait := (seldom{}), 50*time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			start := time.Now()
			b.attempt(start)
			try, cancel := context.WithTimeout(ctx, tryInsert)
			err := f.table.insert(try, b.db, token)
			cancel()
			b.attempt(time.Time{})
			if err == nil {
				b.metrics.insert.WithLabelValues(b.name).Observe(time.Since(start).Seconds())
				b.metrics.stored.WithLabelValues(b.name).Add(float64(rows))
				b.stored.Add(int64(rows))
				break
			}
			if ctx.Err() != nil {
				return
			}
			b.metrics.retries.WithLabelValues(b.name).Inc()
			b.set("can't insert into ClickHouse: " + err.Error())
			if said.now() {
				b.log.Warn("can't insert into ClickHouse, trying again", "table", b.name, "rows", rows, "error", err)
			}
			pause(ctx, wait)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = ""
	for k, p := range f.reach {
		b.done[k] = p
	}
}

func (b *batcher[T]) set(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = reason
}

func (b *batcher[T]) attempt(began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began = began
}

func (b *batcher[T]) unready() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reason == "" && !b.began.IsZero() && time.Since(b.began) > longInsert {
		return fmt.Sprintf("ClickHouse hasn't answered an insert for %v", time.Since(b.began).Round(time.Second))
	}
	return b.reason
}

// positions are those up to which everything is in ClickHouse.
func (b *batcher[T]) positions() []group.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]group.Position, 0, len(b.done))
	for _, p := range b.done {
		all = append(all, p)
	}
	return all
}
