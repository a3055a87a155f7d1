package site

import (
	"iter"
	"maps"
	"sync/atomic"
)

// index is a map that one goroutine changes and all others read from its newest snapshot, without a lock. A
// snapshot after m changes to n entries costs O(m) or, once in about √n changes, O(n).
type index[K comparable, V any] struct {
	base    map[K]V         // shared with snapshots: never changed
	changes map[K]change[V] // since base
	dirty   bool            // the newest snapshot lacks a change

	snapshot atomic.Pointer[snapshot[K, V]]
}

type change[V any] struct {
	value   V
	deleted bool
}

// snapshot is immutable.
type snapshot[K comparable, V any] struct {
	base    map[K]V
	changes map[K]change[V]
}

// minChanges is how many changes a snapshot may have beside its base, however small that is.
const minChanges = 64

func (s *snapshot[K, V]) get(k K) (V, bool) {
	if c, ok := s.changes[k]; ok {
		return c.value, !c.deleted
	}
	v, ok := s.base[k]
	return v, ok
}

// latest returns the value of a key with all changes. Only the goroutine that changes the index may call it.
func (x *index[K, V]) latest(k K) (V, bool) {
	s := snapshot[K, V]{x.base, x.changes}
	return s.get(k)
}

func (x *index[K, V]) set(k K, v V) { x.change(k, change[V]{value: v}) }

func (x *index[K, V]) delete(k K) { x.change(k, change[V]{deleted: true}) }

func (x *index[K, V]) change(k K, c change[V]) {
	if x.changes == nil {
		x.changes = map[K]change[V]{}
	}
	x.changes[k], x.dirty = c, true
}

// publish makes the snapshot of all changes so far. It reports whether there were any.
func (x *index[K, V]) publish() bool {
	if !x.dirty {
		return false
	}
	x.dirty = false
	if n := len(x.changes); n <= minChanges || n*n <= len(x.base) {
		x.snapshot.Store(&snapshot[K, V]{x.base, maps.Clone(x.changes)})
		return true
	}
	base := make(map[K]V, len(x.base)+len(x.changes))
	maps.Copy(base, x.base)
	for k, c := range x.changes {
		if c.deleted {
			delete(base, k)
		} else {
			base[k] = c.value
		}
	}
	x.base, x.changes = base, nil
	x.snapshot.Store(&snapshot[K, V]{base: base})
	return true
}

// get returns a value of the newest snapshot.
func (x *index[K, V]) get(k K) (v V, ok bool) {
	if s := x.snapshot.Load(); s != nil {
		return s.get(k)
	}
	return v, false
}

// all returns the entries of the newest snapshot, in no order.
func (x *index[K, V]) all() iter.Seq2[K, V] { return x.snapshot.Load().all() }

// all returns the entries of a snapshot, in no order; of nil: none.
func (s *snapshot[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if s == nil {
			return
		}
		for k, v := range s.base {
			if _, changed := s.changes[k]; !changed && !yield(k, v) {
				return
			}
		}
		for k, c := range s.changes {
			if !c.deleted && !yield(k, c.value) {
				return
			}
		}
	}
}
