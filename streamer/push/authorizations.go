package push

import "sync"

// authorizationTable interns authorizations: each distinct one has a number for as long as a viewer refers to
// it, so that a viewer's entry holds no pointer. A number is never used twice: one that revoked has returned
// may have lost its last viewer before a shard ends its streams, and must not mean another authorization
// then. The table holds the authorizations that are in use.
type authorizationTable struct {
	mu   sync.Mutex
	ids  map[string]int64
	byID map[int64]*authorizationRef
	last int64 // newest number
}

// authorizationRef is an authorization and the number of viewers that refer to it.
type authorizationRef struct {
	text    string
	viewers int
}

// acquire returns the number of an authorization; release gives the reference back.
func (t *authorizationTable) acquire(text string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil {
		t.ids, t.byID = map[string]int64{}, map[int64]*authorizationRef{}
	}
	id, ok := t.ids[text]
	if !ok {
		t.last++
		id = t.last
		t.ids[text], t.byID[id] = id, &authorizationRef{text: text}
	}
	t.byID[id].viewers++
	return id
}

func (t *authorizationTable) release(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref := t.byID[id]
	if ref.viewers--; ref.viewers == 0 {
		delete(t.ids, ref.text)
		delete(t.byID, id)
	}
}

// revoked returns the numbers of the authorizations that authorized refuses. It calls authorized without
// holding the lock.
func (t *authorizationTable) revoked(authorized func(string) bool) (ids []int64) {
	t.mu.Lock()
	texts := make(map[int64]string, len(t.byID))
	for id, ref := range t.byID {
		texts[id] = ref.text
	}
	t.mu.Unlock()
	for id, text := range texts {
		if !authorized(text) {
			ids = append(ids, id)
		}
	}
	return ids
}
