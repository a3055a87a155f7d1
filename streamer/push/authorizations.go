package push

import "sync"

// authorizationTable interns authorizations: each distinct one has a number for as long as a viewer refers to
// it, so that a viewer's entry holds no pointer. It has as many numbers as distinct
// authorizations are in use at the same time.
type authorizationTable struct {
	mu    sync.Mutex
	ids   map[string]int32
	texts []string // by id
	refs  []int32  // by id: viewers
	free  []int32
}

// acquire returns the number of an authorization; release gives the reference back.
func (t *authorizationTable) acquire(text string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil {
		t.ids = map[string]int32{}
	}
	id, ok := t.ids[text]
	if !ok {
		if n := len(t.free); n > 0 {
			id, t.free = t.free[n-1], t.free[:n-1]
		} else {
			id = int32(len(t.texts)) //nolint:gosec // bounded by the viewers
			t.texts, t.refs = append(t.texts, ""), append(t.refs, 0)
		}
		t.ids[text], t.texts[id] = id, text
	}
	t.refs[id]++
	return id
}

func (t *authorizationTable) release(id int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refs[id]--; t.refs[id] == 0 {
		delete(t.ids, t.texts[id])
		t.texts[id] = ""
		t.free = append(t.free, id)
	}
}

// revoked returns the numbers of the authorizations that authorized refuses. It calls authorized without
// holding the lock.
func (t *authorizationTable) revoked(authorized func(string) bool) (ids []int32) {
	t.mu.Lock()
	texts := make(map[int32]string, len(t.ids))
	for text, id := range t.ids {
		texts[id] = text
	}
	t.mu.Unlock()
	for id, text := range texts {
		if !authorized(text) {
			ids = append(ids, id)
		}
	}
	return ids
}
