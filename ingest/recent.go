package ingest

import "sync"

// recent remembers what was asked for lately. Two generations of at most limit entries bound it: a full young one becomes the
// old one, which is then forgotten, except for what was asked for meanwhile.
type recent[K comparable, V any] struct {
	limit      int
	mu         sync.RWMutex
	young, old map[K]*remembered[K, V]
}

type remembered[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, young: map[K]*remembered[K, V]{}}
}

func (r *recent[K, V]) get(key K) (v V, ok bool) {
	r.mu.RLock()
	e, young := r.young[key]
	if !young {
		e = r.old[key]
	}
	r.mu.RUnlock()
	if e == nil {
		return v, false
	}
	if !young {
		r.keep(e)
	}
	return e.value, true
}

// put keeps key itself, which therefore mustn't be a part of something larger.
func (r *recent[K, V]) put(key K, v V) { r.keep(&remembered[K, V]{key, v}) }

func (r *recent[K, V]) keep(e *remembered[K, V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.young) >= r.limit {
		r.young, r.old = make(map[K]*remembered[K, V], r.limit), r.young
	}
	r.young[e.key] = e
}
