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
	"nowcast/internal/retry"
	"nowcast/internal/window"
)

const (
	maxBatchRows  = 100_000          // a batch with as many rows is full
	maxBatchBytes = 32 << 20         // a batch from records of as many bytes is full
	maxBatchAge   = time.Second      // a batch that isn't full is inserted after this time
	maxInFlight   = 2                // concurrent inserts
	insertTimeout = 60 * time.Second // of one attempt
	slowInsert    = 10 * time.Second // an attempt that takes longer makes the lane unready
)

// rowBuffer holds the rows of a batch: the columns of an insert.
type rowBuffer interface {
	rows() int
	reset()
	insert(ctx context.Context, db inserter, token string) error
}

// batcher gathers rows of one table from all partitions and inserts them in batches. It tracks how far each
// partition is in ClickHouse.
//
// One batch fills while up to maxInFlight are inserted: with a single one either the lane or ClickHouse would
// idle. When all are full, add blocks, so while ClickHouse is unavailable the lane stands still in the log. A
// batch moves positions once it and all batches before it are acknowledged: nothing before a position is
// missing.
type batcher[T rowBuffer] struct {
	*laneDeps
	table     string
	db        inserter
	newBuffer func() T
	changed   chan struct{} // notifies run that a batch may be due

	stored atomic.Int64 // rows that ClickHouse has acknowledged

	mu        sync.Mutex
	notFull   sync.Cond // the filling batch has room
	filling   *batch[T]
	inFlight  []*batch[T] // in order, each until it and all before it are acknowledged
	free      []T         // reset buffers of full batches, since growing a buffer costs more than filling it
	positions map[topicPartition]group.Position
	logged    logEvery
}

type topicPartition struct {
	topic     string
	partition int
}

type batch[T rowBuffer] struct {
	rows      T
	bytes     int
	hash      *xxhash.Digest                    // of the records whose rows it has
	positions map[topicPartition]group.Position // reached with it

	attemptStart time.Time // of the running attempt; zero: none runs
	lastError    string    // of the last attempt
	acknowledged bool
}

func newBatcher[T rowBuffer](d *laneDeps, table string, db inserter, newBuffer func() T) *batcher[T] {
	b := &batcher[T]{laneDeps: d, table: table, db: db, newBuffer: newBuffer, changed: make(chan struct{}, 1),
		positions: map[topicPartition]group.Position{}}
	b.notFull.L = &b.mu
	b.filling = b.newBatch()
	return b
}

func (b *batcher[T]) newBatch() *batch[T] {
	f := &batch[T]{hash: xxhash.New(), positions: map[topicPartition]group.Position{}}
	if n := len(b.free); n > 0 {
		f.rows, b.free = b.free[n-1], b.free[:n-1]
	} else {
		f.rows = b.newBuffer()
	}
	return f
}

func (b *batch[T]) isFull() bool { return b.rows.rows() >= maxBatchRows || b.bytes >= maxBatchBytes }

// add has fill append the rows of a record, which moves its partition to position. It blocks while all
// batches are full, and fails only when ctx ends.
func (b *batcher[T]) add(ctx context.Context, position group.Position, record []byte, fill func(T)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filling.isFull() {
		b.metrics.waits.WithLabelValues(b.table).Inc()
		defer wakeOn(ctx, &b.notFull)()
		for b.filling.isFull() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.notFull.Wait()
		}
	}
	b.append(position, record, fill)
	return nil
}

// addNow is add without waiting for room. It is for rows that are too few to need a bound.
func (b *batcher[T]) addNow(position group.Position, record []byte, fill func(T)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.append(position, record, fill)
}

func (b *batcher[T]) append(position group.Position, record []byte, fill func(T)) {
	f := b.filling
	before := f.rows.rows()
	fill(f.rows)
	if f.rows.rows() > before {
		f.bytes += len(record)
		_, _ = f.hash.Write(record) // never fails
	}
	first := len(f.positions) == 0
	f.positions[topicPartition{position.Topic, position.Partition}] = position
	if first || f.isFull() {
		notify(b.changed)
	}
}

// run inserts batches until ctx ends, and then the remaining rows until draining ends.
func (b *batcher[T]) run(ctx, draining context.Context) {
	var inserts sync.WaitGroup
	timer := time.NewTimer(time.Hour) // set below, only while there is something to insert
	defer timer.Stop()
	since := time.Now() // batches are due at multiples of maxBatchAge after it
	for armed, due := false, false; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			continue
		case <-timer.C:
			armed, due = false, b.hasPositions()
		case <-b.changed:
		}
		if f := b.nextBatch(due); f != nil {
			armed, due, since = false, false, time.Now()
			inserts.Go(func() { b.insert(draining, f) })
		}
		if !armed && b.hasPositions() {
			armed = true
			timer.Reset(maxBatchAge - time.Since(since)%maxBatchAge)
		}
	}
	inserts.Wait()
	if f := b.nextBatch(true); f != nil { // includes rows that were added during the last inserts
		b.insert(draining, f)
	}
}

// hasPositions reports whether the filling batch moves any position.
func (b *batcher[T]) hasPositions() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.filling.positions) > 0
}

// nextBatch returns the filling batch if it is full and fewer than maxInFlight are inserted, or if it is due
// and none is. A batch that is only due waits for the others, so that a slow ClickHouse gets fewer inserts
// instead of smaller ones.
func (b *batcher[T]) nextBatch(due bool) *batch[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, n := b.filling, len(b.inFlight)
	if n >= maxInFlight || !f.isFull() && (n > 0 || !due) {
		return nil
	}
	b.inFlight = append(b.inFlight, f)
	b.filling = b.newBatch()
	b.notFull.Broadcast()
	return f
}

// insert retries under one token until ClickHouse has acknowledged f or ctx ends.
func (b *batcher[T]) insert(ctx context.Context, f *batch[T]) {
	if rows := f.rows.rows(); rows > 0 {
		// ClickHouse silently drops other rows under a known token, so the token contains a hash of the
		// records.
		token := fmt.Sprintf("%s/%d/%d/%016x%s", b.table, window.Epoch, rows, f.hash.Sum64(), b.tokenSuffix)
		for backoff := (retry.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second}); ; {
			start := time.Now()
			b.setAttempt(f, start)
			attempt, cancel := context.WithTimeout(ctx, insertTimeout)
			err := f.rows.insert(attempt, b.db, token)
			cancel()
			b.setAttempt(f, time.Time{})
			if err == nil {
				b.metrics.insert.WithLabelValues(b.table).Observe(time.Since(start).Seconds())
				b.metrics.stored.WithLabelValues(b.table).Add(float64(rows))
				b.stored.Add(int64(rows))
				break
			}
			if ctx.Err() != nil {
				return
			}
			b.metrics.retries.WithLabelValues(b.table).Inc()
			b.failed(f, err)
			_ = backoff.Wait(ctx) // insert fails once ctx has ended
		}
	}
	b.acknowledge(f)
}

// acknowledge marks f and moves the positions of all batches up to the first unacknowledged one.
func (b *batcher[T]) acknowledge(f *batch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.acknowledged, f.lastError = true, ""
	if f.isFull() { // under a low load the memory is worth more than the time
		f.rows.reset()
		b.free = append(b.free, f.rows)
	}
	for len(b.inFlight) > 0 && b.inFlight[0].acknowledged {
		maps.Copy(b.positions, b.inFlight[0].positions)
		b.inFlight = slices.Delete(b.inFlight, 0, 1)
		notify(b.moved)
	}
	notify(b.changed)
}

func (b *batcher[T]) setAttempt(f *batch[T], start time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.attemptStart = start
}

func (b *batcher[T]) failed(f *batch[T], err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.lastError = "can't insert into ClickHouse: " + err.Error()
	if b.logged.due() {
		b.log.Warn("can't insert into ClickHouse, trying again",
			"table", b.table, "rows", f.rows.rows(), "error", err)
	}
}

// unready returns why the oldest failing or slow batch isn't inserted, or "".
func (b *batcher[T]) unready() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.inFlight {
		if f.lastError != "" {
			return f.lastError
		}
		if !f.attemptStart.IsZero() && time.Since(f.attemptStart) > slowInsert {
			return fmt.Sprintf("ClickHouse hasn't answered an insert for %v",
				time.Since(f.attemptStart).Round(time.Second))
		}
	}
	return ""
}

// storedPositions returns the positions before which everything is in ClickHouse.
func (b *batcher[T]) storedPositions() []group.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.positions))
}

// holds reports whether a partition has rows that ClickHouse hasn't acknowledged.
func (b *batcher[T]) holds(p topicPartition) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, has := b.filling.positions[p]
	for _, f := range b.inFlight {
		_, in := f.positions[p]
		has = has || in
	}
	return has
}
