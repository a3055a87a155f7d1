package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// Registry is a process's view of the topic nowcast.sites.v1. It is safe for concurrent use; look-ups take
// no lock. Each kind of record has a table. Records are applied to it while a batch is read, and become
// visible together at the batch's end.
type Registry struct {
	kafka *broker.Client
	log   *slog.Logger
	kinds map[string]recordKind // by the prefix of their records' keys

	sites   *sites
	keys    *keys
	links   *links
	secrets *secrets

	goals       *table[conversions] // and funnels
	segments    *parts[Segment]
	annotations *parts[Annotation]

	sessions *sessions
	codes    *table[Code]

	repairDelay time.Duration // at most twice that until a rejected record is followed by the one in effect

	mu             sync.Mutex
	next           int64               // offset of the next record to publish
	changed        chan struct{}       // closed and replaced when a field of this block changes
	ready          bool                // the log is read to its end at the start, and the secret is known
	reason         string              // why it isn't ready, or the last error of reading; "" after a success
	legacyDiverges bool                // the newest record of version 0 of the secret differs from the first
	legacyKey      string              // version 0 of the secret
	dangling       map[string]bool     // keys whose newest record was rejected; see repair
	writes         map[string]*verdict // of the records that this process is writing, by header.Write

	caught bool // the log was read to its end once; of the goroutine that applies records
}

// defaultRepairDelay is longer than a writer takes to follow up on its own rejected record.
const defaultRepairDelay = 2 * time.Second

// writeTimeout bounds how long a change waits for Kafka.
const writeTimeout = 10 * time.Second

// NewRegistry makes an empty registry; Run fills it.
func NewRegistry(c *broker.Client, log *slog.Logger) *Registry {
	r := &Registry{
		kafka: c, log: log, kinds: map[string]recordKind{}, repairDelay: defaultRepairDelay,
		changed: make(chan struct{}), reason: "reading the sites from Kafka",
		dangling: map[string]bool{}, writes: map[string]*verdict{},
	}
	r.sites, r.keys, r.links, r.secrets = newSites(r), newKeys(r), newLinks(r), newSecrets(r)
	r.sessions, r.codes = newSessions(r), newCodes(r)
	r.goals, r.segments, r.annotations = newConversions(r), newSegments(r), newAnnotations(r)
	return r
}

// Run tails the topic until ctx ends. It makes the cluster's secret if the topic has none.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var backoff retry.Backoff
	for {
		first, end, err := r.kafka.Bounds(ctx, topic.Sites, 0)
		if err == nil {
			wg.Go(func() { r.prepare(ctx, end) })
			wg.Go(func() { r.repair(ctx) })
			wg.Go(func() { r.expire(ctx) })
			return r.kafka.Follow(ctx, broker.Follower{
				Topic: topic.Sites, From: first, Record: r.apply, Batch: r.publish, Fail: r.setReason,
				Gap: r.logGap,
			})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.setReason(err)
		r.kafka.Refresh()
		_ = backoff.Wait(ctx)
	}
}

func (r *Registry) logGap(g broker.Gap) {
	r.log.Warn("compaction moved the start of the sites topic", "gap", g.String())
}

// prepare waits until the log is applied up to end, makes the secret if there is none, and sets ready. Until
// ctx ends it then writes the first secret again whenever a different one follows it.
func (r *Registry) prepare(ctx context.Context, end int64) {
	if end > 0 && r.waitFor(ctx, end) != nil {
		return
	}
	if !r.ensureSecret(ctx) {
		return
	}
	r.mu.Lock()
	r.ready, r.reason = true, ""
	r.broadcast()
	r.mu.Unlock()
	r.repairLegacy(ctx)
}

func (r *Registry) setReason(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = fmt.Sprintf("reading the sites from Kafka: %v", err)
}

// publish makes the records of a batch visible. At the start it waits for the end of the log, so that a long
// log is put in order once.
func (r *Registry) publish(next, end int64) error {
	r.caught = r.caught || next >= end
	if !r.caught {
		return nil
	}
	for _, kind := range r.kinds {
		kind.publish()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		r.reason = ""
	}
	if next > r.next {
		r.next = next
		r.broadcast()
	}
	return nil
}

// broadcast wakes all callers of wait. r.mu is held.
func (r *Registry) broadcast() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// waitFor waits until all records before offset are applied.
func (r *Registry) waitFor(ctx context.Context, offset int64) error {
	return r.wait(ctx, func() bool { return r.next >= offset })
}

// Sync returns once this registry has applied all records that were in the log when Sync was called: also
// what another process was told to be in effect.
func (r *Registry) Sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, end, err := r.kafka.Bounds(ctx, topic.Sites, 0)
	if err != nil {
		return fmt.Errorf("read the end of the sites topic: %w", err)
	}
	return r.waitFor(ctx, end)
}

// wait waits until ok returns true. It calls ok under the lock.
func (r *Registry) wait(ctx context.Context, ok func() bool) error {
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
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

// Wait returns once the topic has been read and the cluster's secret is known.
func (r *Registry) Wait(ctx context.Context) error {
	return r.wait(ctx, func() bool { return r.ready })
}

// Ready reports whether look-ups can be trusted, and why not. A registry that is ready stays so while the
// topic can't be read, with the state that it has.
func (r *Registry) Ready() (ok bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready, r.reason
}

// apply applies a record. It logs and skips one that can't be read.
func (r *Registry) apply(record broker.Record) error {
	key := string(record.Key)
	kind, id, ok := r.kind(key)
	var err error
	switch {
	case ok:
		err = r.applyTo(kind, key, id, record.Value)
	case key == legacySecret:
		err = r.applyLegacySecret(record.Value)
	default:
		err = errors.New("unknown kind of record")
	}
	if err != nil {
		r.log.Warn("skip a record of the sites topic", "offset", record.Offset, "key", key, "error", err)
	}
	return nil
}

func (r *Registry) applyTo(kind recordKind, key, id string, value []byte) error {
	h, v, err := kind.apply(id, value)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if own := r.writes[h.Write]; own != nil && *own != inEffect {
		*own = v
	}
	if v == rejected {
		r.dangling[key] = true
		r.broadcast()
	} else if len(r.dangling) > 0 {
		delete(r.dangling, key)
	}
	return nil
}

func (r *Registry) applyLegacySecret(value []byte) error {
	diverges, err := r.secrets.applyLegacy(value)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.legacyDiverges = diverges; diverges {
		r.legacyKey = r.secrets.legacy.Key
		r.broadcast()
	}
	return err
}

// write appends a record. It tries again while the error is retryable.
func (r *Registry) write(ctx context.Context, key string, value []byte) (int64, error) {
	var backoff retry.Backoff
	for {
		off, err := r.kafka.ProduceKeyed(ctx, topic.Sites, []byte(key), value)
		if err == nil || !broker.Retryable(err) || ctx.Err() != nil {
			return off, err
		}
		r.kafka.Refresh()
		if backoff.Wait(ctx) != nil {
			return 0, err
		}
	}
}

// commit writes a record, waits until this registry has published it, and returns what became of it. write
// is the record's header.Write.
func (r *Registry) commit(ctx context.Context, key string, value []byte, write string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var v verdict
	r.mu.Lock()
	r.writes[write] = &v
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.writes, write)
		r.mu.Unlock()
	}()
	off, err := r.write(ctx, key, value)
	if err == nil {
		err = r.waitFor(ctx, off+1)
	}
	if err != nil {
		return undecided, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return v, nil
}
