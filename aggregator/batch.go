package aggregator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"nowcast/aggregator/group"
	"nowcast/internal/window"
)

const (
	batchRows    = 100_000          // of an insert; reading waits when as many wait for the inserts before
	batchBytes   = 32 << 20         // of the records that they came from, the same
	batchAge     = time.Second      // of the oldest row
	batchesGoing = 2                // inserts under way at a time
	tryInsert    = 60 * time.Second // one attempt
	longInsert   = 10 * time.Second // after which whoever asks is told that one is under way
)

// table is what a batch is filled with: columns of an insert.
type table interface {
	rows() int
	reset()
	insert(ctx context.Context, db inserter, token string) error
}

// batcher gathers rows of one table from all partitions, inserts them, and knows how far each partition is in ClickHouse. One batch fills while
// two at most are under way, as one alone would leave either side idle while the other works. When all are full, whoever adds waits. So
// while ClickHouse is away the lane stands still in the log. A batch counts once it and all before it are acknowledged: positions say that
// nothing before them is missing.
type batcher[T table] struct {
	*lane
	name  string
	db    inserter
	make  func() T
	check chan struct{} // a batch may have to go

	stored atomic.Int64 // rows that ClickHouse has acknowledged

	mu      sync.Mutex
	room    sync.Cond
	filling *batch[T]
	going   []*batch[T] // in their order, each until it and all before it are acknowledged
	spare   []T         // of full batches that are acknowledged: to grow new ones costs more than to fill them
	done    map[partitionOf]group.Position
	said    seldom
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

	began        time.Time // the attempt that is under way
	reason       string    // why the last one failed
	acknowledged bool
}

func newBatcher[T table](l *lane, name string, db inserter, empty func() T) *batcher[T] {
	b := &batcher[T]{lane: l, name: name, db: db, make: empty, check: make(chan struct{}, 1), done: map[partitionOf]group.Position{}}
	b.room.L = &b.mu
	b.filling = b.next()
	return b
}

func (b *batcher[T]) next() *batch[T] {
	f := &batch[T]{hash: xxhash.New(), reach: map[partitionOf]group.Position{}}
	if n := len(b.spare); n > 0 {
		f.table, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		f.table = b.make()
	}
	return f
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
		b.look()
	}
	return nil
}

// look has run see whether a batch has to go.
func (b *batcher[T]) look() {
	select {
	case b.check <- struct{}{}:
	default:
	}
}

// run inserts what comes until ctx ends, and once more what is there then, until hard ends.
func (b *batcher[T]) run(ctx, hard context.Context) {
	var inserts sync.WaitGroup
	tick := time.NewTicker(batchAge)
	defer tick.Stop()
	for due := false; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
			due = true
		case <-b.check:
		}
		if f := b.take(due); f != nil {
			due = false
			tick.Reset(batchAge)
			inserts.Go(func() { b.insert(hard, f) })
		}
	}
	inserts.Wait()
	if f := b.take(true); f != nil { // also what has come while the last ones were under way
		b.insert(hard, f)
	}
}

// take gives the batch that fills when it has to go: when it is full and there is room for it, or due. What is only due waits until nothing
// else is under way, so that a slow ClickHouse gets fewer inserts and not smaller ones.
func (b *batcher[T]) take(due bool) *batch[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, n := b.filling, len(b.going)
	if n >= batchesGoing || !f.isFull() && (n > 0 || !due) {
		return nil
	}
	b.going = append(b.going, f)
	b.filling = b.next()
	b.room.Broadcast()
	return f
}

// insert tries until ClickHouse has acknowledged f or ctx ends, always with the same token.
func (b *batcher[T]) insert(ctx context.Context, f *batch[T]) {
	if rows := f.table.rows(); rows > 0 {
		// Other rows under the same token would be dropped in silence, so it stands for their bytes.
		token := fmt.Sprintf("%s/%d/%d/%016x%s", b.name, window.Epoch, rows, f.hash.Sum64(), b.lane.run)
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			start := time.Now()
			b.attempt(f, start)
			try, cancel := context.WithTimeout(ctx, tryInsert)
			err := f.table.insert(try, b.db, token)
			cancel()
			b.attempt(f, time.Time{})
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
			b.failed(f, err)
			pause(ctx, wait)
		}
	}
	b.acknowledge(f)
}

// acknowledge counts f, and those that waited for it.
func (b *batcher[T]) acknowledge(f *batch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.acknowledged, f.reason = true, ""
	if f.isFull() { // else there is so little to do that its memory had better go
		f.table.reset()
		b.spare = append(b.spare, f.table)
	}
	for len(b.going) > 0 && b.going[0].acknowledged {
		maps.Copy(b.done, b.going[0].reach)
		b.going = slices.Delete(b.going, 0, 1)
	}
	b.look()
}

func (b *batcher[T]) attempt(f *batch[T], began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.began = began
}

func (b *batcher[T]) failed(f *batch[T], err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.reason = "can't insert into ClickHouse: " + err.Error()
	if b.said.now() {
		b.log.Warn("can't insert into ClickHouse, trying again", "table", b.name, "rows", f.table.rows(), "error", err)
	}
}

// unready says what is the matter with the oldest batch that has trouble, "" when nothing is.
func (b *batcher[T]) unready() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.going {
		if f.reason != "" {
			return f.reason
		}
		if !f.began.IsZero() && time.Since(f.began) > longInsert {
			return fmt.Sprintf("ClickHouse hasn't answered an insert for %v", time.Since(f.began).Round(time.Second))
		}
	}
	return ""
}

// positions are those up to which everything is in ClickHouse.
func (b *batcher[T]) positions() []group.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.done))
}
