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
	"nowcast/internal/topic"
)

// Registry is a process's view of nowcast.sites.v1. It is safe for concurrent use; look-ups take no lock.
type Registry struct {
	kafka *broker.Client
	log   *slog.Logger
	state atomic.Pointer[state]

	mu      sync.Mutex
	next    int64         // the offset behind the last record applied
	moved   chan struct{} // closed and replaced when next grows
	ready   bool          // the end that was seen at start is reached and the secret is known
	trouble string        // why not, or what is wrong with the tail now
	stray   bool          // the last secret in the log isn't the first one
}

// state is never changed once it is stored.
type state struct {
	sites   map[string]Site
	keys    map[string]Key // by id
	hashes  map[string]Key // by hash of the secret
	secret  [32]byte
	hasOwn  bool // the secret is known
	ordered []Site

	links      map[string]Link // by id
	linkHashes map[string]Link // by hash of the secret
}

// NewRegistry makes an empty registry; Run fills it.
func NewRegistry(c *broker.Client, log *slog.Logger) *Registry {
	r := &Registry{kafka: c, log: log, moved: make(chan struct{}), trouble: "reading the sites from Kafka"}
	r.state.Store(&state{sites: map[string]Site{}, keys: map[string]Key{}, hashes: map[string]Key{}})
	return r
}

// Run tails the topic until ctx ends. It makes the cluster's secret if there is none.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		first, end, err := r.kafka.Bounds(ctx, topic.Sites, 0)
		if err == nil {
			wg.Go(func() { r.settle(ctx, end) })
			return r.kafka.Follow(ctx, broker.Follower{Topic: topic.Sites, From: first, Record: r.apply, Fail: r.failed,
				Batch: func(next, _ int64) error { r.reached(next); return nil },
				Gap:   func(g broker.Gap) { r.log.Warn("compaction moved the start of the sites topic", "gap", g.String()) }})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.failed(err)
		r.kafka.Refresh()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// settle waits for the end that was seen at start, makes a secret where there is none, says ready, and keeps the secret until ctx ends.
func (r *Registry) settle(ctx context.Context, end int64) {
	if end > 0 && r.until(ctx, end) != nil {
		return
	}
	for !r.state.Load().hasOwn {
		var candidate [32]byte
		_, _ = rand.Read(candidate[:])
		if !r.writeSecret(ctx, candidate) {
			return
		}
	}
	r.mu.Lock()
	r.ready, r.trouble = true, ""
	close(r.moved)
	r.moved = make(chan struct{})
	r.mu.Unlock()
	// Compaction keeps the last record of a key, so the last one has to say what the first one did.
	for r.wait(ctx, func() bool { return r.stray }) == nil {
		if !r.writeSecret(ctx, r.Secret()) {
			return
		}
	}
}

// writeSecret writes a secret and waits until it has been read back; a failure is said in Ready. It is false when ctx has ended.
func (r *Registry) writeSecret(ctx context.Context, secret [32]byte) bool {
	off, err := r.write(ctx, secretKey, []byte(hex.EncodeToString(secret[:])))
	if err == nil {
		err = r.until(ctx, off+1)
	}
	if err != nil && ctx.Err() == nil {
		r.failed(fmt.Errorf("keep the cluster's secret: %w", err))
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

func (r *Registry) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = fmt.Sprintf("reading the sites from Kafka: %v", err)
}

func (r *Registry) reached(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		r.trouble = ""
	}
	if next > r.next {
		r.next = next
		close(r.moved)
		r.moved = make(chan struct{})
	}
}

// until waits until all records before offset are applied.
func (r *Registry) until(ctx context.Context, offset int64) error {
	return r.wait(ctx, func() bool { return r.next >= offset })
}

// wait waits until ok, which is called under the lock.
func (r *Registry) wait(ctx context.Context, ok func() bool) error {
	for {
		r.mu.Lock()
		done, moved := ok(), r.moved
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Wait returns once the topic has been read and the cluster's secret is known.
func (r *Registry) Wait(ctx context.Context) error {
	return r.wait(ctx, func() bool { return r.ready })
}

// Ready says whether look-ups can be trusted, and why not. A tail that has trouble later stays ready with what it knows.
func (r *Registry) Ready() (ok bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready, r.trouble
}

// The records' keys.
const (
	siteKey   = "site/"
	keyKey    = "key/"
	linkKey   = "link/"
	secretKey = "secret"
)

// apply makes a new state of the old one and a record. A record that can't be read is said and passed over.
func (r *Registry) apply(rec broker.Record) error {
	old := r.state.Load()
	s := *old
	var err error
	switch k := string(rec.Key); {
	case k == secretKey:
		err = r.applySecret(&s, rec.Value)
	case strings.HasPrefix(k, siteKey):
		s.sites = maps.Clone(old.sites)
		if delete(s.sites, k[len(siteKey):]); rec.Value != nil {
			var v Site
			if err = json.Unmarshal(rec.Value, &v); err == nil && v.Domain != k[len(siteKey):] {
				err = errors.New("key and value name different sites")
			}
			if err == nil {
				v.filter, err = NewFilter(v.Rules)
			}
			s.sites[v.Domain] = v
		}
		s.ordered = slices.SortedFunc(maps.Values(s.sites), func(a, b Site) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Domain, b.Domain))
		})
	case strings.HasPrefix(k, keyKey):
		s.keys, s.hashes = maps.Clone(old.keys), map[string]Key{}
		if delete(s.keys, k[len(keyKey):]); rec.Value != nil {
			var v Key
			if err = json.Unmarshal(rec.Value, &v); err == nil && (v.ID != k[len(keyKey):] || len(v.Hash) != sha256.Size*2) {
				err = errors.New("the value isn't the key's")
			}
			s.keys[v.ID] = v
		}
		for _, v := range s.keys {
			s.hashes[v.Hash] = v
		}
	case strings.HasPrefix(k, linkKey):
		err = s.applyLink(k[len(linkKey):], rec.Value)
	default:
		err = errors.New("unknown kind of record")
	}
	if err != nil {
		r.log.Warn("passed over a record of the sites topic", "offset", rec.Offset, "key", string(rec.Key), "error", err)
	} else {
		r.state.Store(&s)
	}
	r.reached(rec.Offset + 1)
	return nil
}

func (s *state) applyLink(id string, value []byte) error {
	s.links, s.linkHashes = maps.Clone(s.links), map[string]Link{}
	if s.links == nil {
		s.links = map[string]Link{}
	}
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
		s.linkHashes[v.Hash] = v
	}
	return nil
}

// applySecret takes the first secret in the log; a later other one is a loser of the race at the cluster's first start.
func (r *Registry) applySecret(s *state, value []byte) error {
	var v [32]byte
	n, err := hex.Decode(v[:], value[:min(len(value), 2*len(v))])
	good := err == nil && n == len(v)
	if good && !s.hasOwn {
		s.secret, s.hasOwn = v, true
	}
	r.mu.Lock()
	r.stray = s.hasOwn && v != s.secret
	r.mu.Unlock()
	if !good {
		return errors.New("the secret isn't 32 bytes in hex")
	}
	return nil
}

// write appends a record, and tries again while that can help.
func (r *Registry) write(ctx context.Context, key string, value []byte) (int64, error) {
	for {
		off, err := r.kafka.ProduceKeyed(ctx, topic.Sites, []byte(key), value)
		if err == nil || !broker.Retryable(err) || ctx.Err() != nil {
			return off, err
		}
		r.kafka.Refresh()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// set writes a record and returns when this registry has applied it.
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
	return r.until(ctx, off+1)
}
