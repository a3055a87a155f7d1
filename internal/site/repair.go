package site

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

const (
	removalLife    = 24 * time.Hour   // of a removal's record: longer than any writer takes
	expiryInterval = 10 * time.Minute // at most twice that between two looks for expired records
	maxExpired     = 100              // records that one look removes
	maxRepairDelay = time.Minute      // while repairs fail
)

// repair keeps the newest record of each key in effect, until ctx ends. Compaction keeps only the newest, and
// a registry that starts later believes it. A rejected record is therefore followed by the one in effect, as
// the next revision. Its writer does that at once; when the writer is gone, this does, in one registry after
// the other.
func (r *Registry) repair(ctx context.Context) {
	for r.wait(ctx, func() bool { return len(r.dangling) > 0 }) == nil {
		backoff := retry.Backoff{Min: 2 * r.repairDelay, Max: maxRepairDelay}
		for keys := r.danglingKeys(); len(keys) > 0; keys = r.danglingKeys() {
			if backoff.Wait(ctx) != nil {
				return
			}
			for _, key := range keys {
				r.repairKey(ctx, key)
			}
		}
	}
}

func (r *Registry) danglingKeys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.dangling))
}

// repairKey writes the record in effect of a key again if its newest record was rejected. A failure is
// logged; repair tries again.
func (r *Registry) repairKey(ctx context.Context, key string) {
	r.mu.Lock()
	dangling := r.dangling[key]
	r.mu.Unlock()
	kind, id, ok := r.kind(key)
	if !dangling || !ok {
		return
	}
	value, write, err := kind.repeat(id)
	if value == nil && err == nil {
		return
	}
	if err == nil {
		_, err = r.commit(ctx, key, value, write)
	}
	if err != nil {
		r.log.Warn("repeat a record of the sites topic", "key", key, "error", err)
	}
}

// expire removes records from the topic that nobody needs any more, until ctx ends.
func (r *Registry) expire(ctx context.Context) {
	for retry.Sleep(ctx, expiryInterval+rand.N(expiryInterval)) == nil {
		for prefix, kind := range r.kinds {
			ids := kind.expired(time.Now())
			for _, id := range ids[:min(len(ids), maxExpired)] {
				_, err := r.kafka.ProduceKeyed(ctx, topic.Sites, []byte(prefix+"/"+id), nil)
				if err != nil {
					r.log.Debug("remove an expired record", "key", prefix+"/"+id, "error", err)
					break
				}
			}
		}
	}
}

// kind finds the kind of a record's key, and the id in it.
func (r *Registry) kind(key string) (kind recordKind, id string, ok bool) {
	prefix, id, ok := strings.Cut(key, "/")
	if !ok || id == "" {
		return nil, "", false
	}
	kind, ok = r.kinds[prefix]
	return kind, id, ok
}
