package site

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// Registry is a process's view of the topic nowcast.sites.v1. It is safe for concurrent use; look-ups take
// no lock.
type Registry struct {
	kafka *broker.Client
	log   *slog.Logger
	state atomic.Pointer[state]

	mu             sync.Mutex
	next           int64         // offset of the next record to apply
	changed        chan struct{} // closed and replaced when a field of this block changes
	ready          bool          // the log is read to its end at the start, and the secret is known
	reason         string        // why it isn't ready, or the last error of reading; "" after a success
	secretDiverges bool          // the newest secret in the log differs from the first one
}

// state is immutable once it is stored.
type state struct {
	sites       map[string]Site
	keys        map[string]Key // by id
	keyByHash   map[string]Key // by hash of the secret
	secret      [32]byte       // zero until secretKnown
	secretKnown bool
	inOrder     []Site

	links      map[string]Link // by id
	linkByHash map[string]Link // by hash of the secret
}

// NewRegistry makes an empty registry; Run fills it.
func NewRegistry(c *broker.Client, log *slog.Logger) *Registry {
	r := &Registry{kafka: c, log: log, changed: make(chan struct{}), reason: "reading the sites from Kafka"}
	r.state.Store(&state{sites: map[string]Site{}, keys: map[string]Key{}, links: map[string]Link{}})
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
			return r.kafka.Follow(ctx, broker.Follower{
				Topic: topic.Sites, From: first, Record: r.apply, Fail: r.setReason, Gap: r.logGap,
				Batch: func(next, _ int64) error { r.advance(next); return nil },
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
	for !r.state.Load().secretKnown {
		var candidate [32]byte
		_, _ = rand.Read(candidate[:])
		if !r.writeSecret(ctx, candidate) {
			return
		}
	}
	r.mu.Lock()
	r.ready, r.reason = true, ""
	r.broadcast()
	r.mu.Unlock()
	// Compaction keeps the newest record of a key, so the newest has to equal the first.
	for r.wait(ctx, func() bool { return r.secretDiverges }) == nil {
		if !r.writeSecret(ctx, r.Secret()) {
			return
		}
	}
}

// writeSecret writes a secret and waits until this registry has applied it. Ready reports a failure. It
// returns false when ctx has ended.
func (r *Registry) writeSecret(ctx context.Context, secret [32]byte) bool {
	off, err := r.write(ctx, secretRecord, []byte(hex.EncodeToString(secret[:])))
	if err == nil {
		err = r.waitFor(ctx, off+1)
	}
	if err != nil && ctx.Err() == nil {
		r.setReason(fmt.Errorf("keep the cluster's secret: %w", err))
		_ = retry.Sleep(ctx, 200*time.Millisecond)
	}
	return ctx.Err() == nil
}

func (r *Registry) setReason(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = fmt.Sprintf("reading the sites from Kafka: %v", err)
}

func (r *Registry) advance(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		r.reason = ""
	}
	if next > r.next {
		r.next = next
		r.broadcast()
	}
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

// Prefixes of the keys of the topic's records; a domain or an id follows. The secret's is the whole key.
const (
	siteRecord   = "site/"
	keyRecord    = "key/"
	linkRecord   = "link/"
	secretRecord = "secret"
)

// apply stores a state that has one more record applied. It logs and skips a record that can't be read.
func (r *Registry) apply(record broker.Record) error {
	s := *r.state.Load()
	var err error
	key := string(record.Key)
	if domain, ok := strings.CutPrefix(key, siteRecord); ok {
		err = s.applySite(domain, record.Value)
	} else if id, ok := strings.CutPrefix(key, keyRecord); ok {
		err = s.applyKey(id, record.Value)
	} else if id, ok := strings.CutPrefix(key, linkRecord); ok {
		err = s.applyLink(id, record.Value)
	} else if key == secretRecord {
		err = r.applySecret(&s, record.Value)
	} else {
		err = errors.New("unknown kind of record")
	}
	if err != nil {
		r.log.Warn("skip a record of the sites topic", "offset", record.Offset, "key", key, "error", err)
	} else {
		r.state.Store(&s)
	}
	r.advance(record.Offset + 1)
	return nil
}

func (s *state) applySite(domain string, value []byte) error {
	s.sites = maps.Clone(s.sites)
	if delete(s.sites, domain); value != nil {
		var v Site
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		if v.Domain != domain {
			return errors.New("key and value name different sites")
		}
		var err error
		if v.ruleSet, err = compileRules(v.Rules); err != nil {
			return err
		}
		s.sites[domain] = v
	}
	s.inOrder = slices.SortedFunc(maps.Values(s.sites), func(a, b Site) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Domain, b.Domain))
	})
	return nil
}

func (s *state) applyKey(id string, value []byte) error {
	s.keys, s.keyByHash = maps.Clone(s.keys), map[string]Key{}
	if delete(s.keys, id); value != nil {
		var v Key
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		if v.ID != id || len(v.Hash) != sha256.Size*2 {
			return errors.New("the value isn't the key's")
		}
		s.keys[id] = v
	}
	for _, v := range s.keys {
		s.keyByHash[v.Hash] = v
	}
	return nil
}

func (s *state) applyLink(id string, value []byte) error {
	s.links, s.linkByHash = maps.Clone(s.links), map[string]Link{}
	if delete(s.links, id); value != nil {
		var v Link
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		if v.ID != id || v.Site == "" || len(v.Hash) != sha256.Size*2 {
			return errors.New("the value isn't the link's")
		}
		s.links[id] = v
	}
	for _, v := range s.links {
		s.linkByHash[v.Hash] = v
	}
	return nil
}

// applySecret takes the first secret in the log. A different one after it lost the race at the cluster's
// first start.
func (r *Registry) applySecret(s *state, value []byte) error {
	var v [32]byte
	n, err := hex.Decode(v[:], value[:min(len(value), 2*len(v))])
	good := err == nil && n == len(v)
	if good && !s.secretKnown {
		s.secret, s.secretKnown = v, true
	}
	r.mu.Lock()
	r.secretDiverges = s.secretKnown && v != s.secret
	r.mu.Unlock()
	if !good {
		return errors.New("the secret isn't 32 bytes in hex")
	}
	return nil
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

// set writes a record, a tombstone if value is nil, and returns when this registry has applied it.
func (r *Registry) set(ctx context.Context, key string, value any) error {
	var b []byte
	if value != nil {
		var err error
		if b, err = json.Marshal(value); err != nil {
			return fmt.Errorf("encode %s: %w", key, err)
		}
	}
	off, err := r.write(ctx, key, b)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return r.waitFor(ctx, off+1)
}
