package enrich

import "sync"

// cache is a two-generation cache: at most limit entries in the young generation and as many in the old
// one. When the young generation is full it becomes the old one, and the old one is dropped. An entry of
// the old generation that is asked for moves to the young one.
type cache[K comparable, V any] struct {
	limit      int
	mu         sync.RWMutex
	young, old map[K]*entry[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, young: map[K]*entry[K, V]{}}
}

func (c *cache[K, V]) get(key K) (v V, ok bool) {
	c.mu.RLock()
	e, young := c.young[key]
	if !young {
		e = c.old[key]
	}
	c.mu.RUnlock()
	if e == nil {
		return v, false
	}
	if !young {
		c.insert(e)
	}
	return e.value, true
}

// put adds an entry. The cache keeps key in memory: clone a substring of a larger string before.
func (c *cache[K, V]) put(key K, v V) { c.insert(&entry[K, V]{key, v}) }

func (c *cache[K, V]) insert(e *entry[K, V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.young, c.old = make(map[K]*entry[K, V], c.limit), c.young
	}
	c.young[e.key] = e
}
