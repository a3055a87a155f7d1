package erasure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// maxErasures bounds the erasures of ErasureRetention, and with them the memory of every reader.
const maxErasures = 20_000

// ErrTooMany means that the bound on erasures is reached.
var ErrTooMany = errors.New("too many erasures")

// Log is a process's view of the topic nowcast.erasures.v1. It is safe for concurrent use. A nil Log has no
// erasure.
type Log struct {
	kafka *broker.Client
	log   *slog.Logger
	set   atomic.Pointer[Set]

	mu      sync.Mutex
	all     map[string]*Erasure // immutable entries, by id
	next    int64               // offset of the next record to apply
	ready   bool                // the topic was read to the end that it had at the start
	reason  string              // why it isn't ready, or the last error of reading
	changed chan struct{}       // closed and replaced when a field of this block changes
}

// NewLog makes an empty view; Run fills it.
func NewLog(c *broker.Client, log *slog.Logger) *Log {
	return &Log{kafka: c, log: log, all: map[string]*Erasure{}, changed: make(chan struct{}),
		reason: "reading the erasures from Kafka"}
}

// Run tails the topic until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	first, end, err := l.bounds(ctx)
	if err != nil {
		return err
	}
	if first == end {
		l.advance(first, end) // an empty topic has no batch to read
	}
	return l.kafka.Follow(ctx, broker.Follower{Topic: topic.Erasures, From: first,
		Record: l.apply, Fail: l.failed,
		Batch: func(next, _ int64) error { l.advance(next, end); return nil }})
}

func (l *Log) bounds(ctx context.Context) (first, end int64, err error) {
	var backoff retry.Backoff
	for {
		if first, end, err = l.kafka.Bounds(ctx, topic.Erasures, 0); err == nil {
			return first, end, nil
		}
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		l.failed(err)
		l.kafka.Refresh()
		_ = backoff.Wait(ctx) // Bounds fails once ctx has ended
	}
}

func (l *Log) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = fmt.Sprintf("reading the erasures from Kafka: %v", err)
}

func (l *Log) advance(next, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next <= l.next && l.ready && l.reason == "" {
		return
	}
	l.next = max(l.next, next)
	l.ready = l.ready || next >= end
	if l.ready {
		l.reason = ""
	}
	l.broadcast()
}

// broadcast wakes all who wait for a change. l.mu is held.
func (l *Log) broadcast() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// apply applies a record. One that can't be read is logged and skipped.
func (l *Log) apply(x broker.Record) error {
	var r record
	err := json.Unmarshal(x.Value, &r)
	switch {
	case err != nil:
	case r.Version > Version:
		err = fmt.Errorf("a record of version %d: upgrade this program", r.Version)
	case r.Request != nil:
		err = r.Request.check()
	case r.Progress == nil:
		err = errors.New("a record without content")
	}
	if err != nil {
		l.log.Error("skip a record of the erasures topic", "offset", x.Offset, "error", err)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	expired := time.Now().Add(-topic.ErasureRetention)
	maps.DeleteFunc(l.all, func(_ string, e *Erasure) bool { return e.Requested.Before(expired) })
	switch {
	case r.Request != nil && l.all[r.Request.ID] != nil:
		e := *l.all[r.Request.ID]
		if r.Request.Before.After(e.Before) { // the site was removed later than it was asked for
			e.Before = r.Request.Before
			if e.State == Done {
				e.State = Waiting
			}
		}
		l.all[e.ID] = &e
	case r.Request != nil:
		l.all[r.Request.ID] = &Erasure{*r.Request, Progress{Of: r.Request.ID, State: Waiting,
			At: r.Request.Requested}}
	case l.all[r.Progress.Of] != nil:
		l.all[r.Progress.Of] = &Erasure{l.all[r.Progress.Of].Request, *r.Progress}
	}
	l.next = x.Offset + 1
	l.set.Store(newSet(l.all))
	l.broadcast()
	return nil
}

// Set returns the tombstones that are known now.
func (l *Log) Set() *Set {
	if l == nil {
		return nil
	}
	return l.set.Load()
}

// Wait returns once all tombstones are known that were written before Run began.
func (l *Log) Wait(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.wait(ctx, func() bool { return l.ready })
}

// wait waits until ok returns true. It calls ok under the lock.
func (l *Log) wait(ctx context.Context, ok func() bool) error {
	for {
		l.mu.Lock()
		done, changed := ok(), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ready reports whether the tombstones are known, and why not.
func (l *Log) Ready() (ok bool, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready, l.reason
}

// Changed returns a channel that is closed at the next change.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// All returns the erasures, newest first.
func (l *Log) All() []*Erasure {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.all), func(a, b *Erasure) int {
		return cmp.Or(b.Requested.Compare(a.Requested), cmp.Compare(a.ID, b.ID))
	})
}

// Get returns an erasure.
func (l *Log) Get(id string) (*Erasure, bool) {
	if l == nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.all[id]
	return e, ok
}

// Pending returns the end of the newest erasure of a site that hasn't passed yet: until then what the site
// receives is erased too.
func (l *Log) Pending(site string, now time.Time) (until time.Time, pending bool) {
	s := l.Set()
	if !s.Site(site, now.UnixMilli()) {
		return time.Time{}, false
	}
	return time.UnixMilli(s.sites[site].before), true
}

// Ask writes a request and returns once this process honours it. The erasure is durable then.
func (l *Log) Ask(ctx context.Context, r Request) (*Erasure, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("ask for an erasure: %w: %w", ErrInvalid, err)
	}
	l.mu.Lock()
	full := len(l.all) >= maxErasures && l.all[r.ID] == nil
	l.mu.Unlock()
	if full {
		return nil, fmt.Errorf("ask for an erasure: %w: there are %d of the last %d days; wait until "+
			"some have expired", ErrTooMany, maxErasures, int(topic.ErasureRetention.Hours()/24))
	}
	if err := l.write(ctx, r.ID, record{Version: Version, Request: &r}); err != nil {
		return nil, err
	}
	e, ok := l.Get(r.ID)
	if !ok {
		return nil, errors.New("ask for an erasure: the record that was written can't be read")
	}
	return e, nil
}

// Report writes the progress of an erasure.
func (l *Log) Report(ctx context.Context, p Progress) error {
	return l.write(ctx, p.Of, record{Version: Version, Progress: &p})
}

// write appends a record and returns when this process has applied it. It tries again while the error is
// retryable: a second copy of a record does no harm.
func (l *Log) write(ctx context.Context, id string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode erasure %s: %w", id, err)
	}
	var backoff retry.Backoff
	for {
		offset, err := l.kafka.ProduceKeyed(ctx, topic.Erasures, []byte(id), b)
		if err == nil {
			return l.wait(ctx, func() bool { return l.next > offset })
		}
		if !broker.Retryable(err) || ctx.Err() != nil {
			return fmt.Errorf("write erasure %s: %w", id, err)
		}
		l.kafka.Refresh()
		if backoff.Wait(ctx) != nil {
			return fmt.Errorf("write erasure %s: %w", id, err)
		}
	}
}

// Follow starts a view and waits until it knows all tombstones. stop ends it. A cluster without the topic has
// no erasure.
func Follow(ctx context.Context, c *broker.Client, log *slog.Logger) (l *Log, stop func(), err error) {
	switch _, _, err := c.Shape(ctx, topic.Erasures); {
	case errors.Is(err, broker.ErrUnknownTopic):
		return nil, func() {}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read the erasures: %w", err)
	}
	l = NewLog(c, log)
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(running) }() // it ends with running
	stop = func() { cancel(); <-done }
	if err := l.Wait(ctx); err != nil {
		stop()
		_, reason := l.Ready()
		return nil, nil, fmt.Errorf("read the erasures: %w: %s", err, reason)
	}
	return l, stop, nil
}
