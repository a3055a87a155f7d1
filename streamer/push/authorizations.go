package push

import (
	"math"
	"sync"
)

// authorizationTable interns authorizations: each distinct one has a number for as long as a viewer refers to
// it, so that a viewer's entry holds no pointer. It has one entry for each authorization in use.
//
// A number is not used again: shards end the viewers of a revoked number some time after the decision, and
// must not meet a viewer who came meanwhile with another authorization, or with a valid one of the same text.
type authorizationTable struct {
	mu      sync.Mutex
	ids     map[string]int32 // of those that are not revoked
	entries map[int32]*authorizationEntry
	next    int32 // the next number; after the last one it begins again at 0 and skips those in use
}

type authorizationEntry struct {
	text    string
	viewers int
}

// acquire returns the number of an authorization; release gives the reference back.
func (t *authorizationTable) acquire(text string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.ids, t.entries = map[string]int32{}, map[int32]*authorizationEntry{}
	}
	id, ok := t.ids[text]
	if !ok {
		id = t.unused()
		t.ids[text], t.entries[id] = id, &authorizationEntry{text: text}
	}
	t.entries[id].viewers++
	return id
}

// unused returns the next number that no viewer has. t.mu is held.
func (t *authorizationTable) unused() int32 {
	for {
		id := t.next
		if t.next++; id == math.MaxInt32 {
			t.next = 0
		}
		if t.entries[id] == nil {
			return id
		}
	}
}

func (t *authorizationTable) release(id int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	if e.viewers--; e.viewers == 0 {
		t.forget(e.text, id)
		delete(t.entries, id)
	}
}

// forget makes the next viewer with a text have another number. t.mu is held.
func (t *authorizationTable) forget(text string, id int32) {
	if t.ids[text] == id {
		delete(t.ids, text)
	}
}

// revoked returns the numbers of the authorizations that authorized refuses. It calls authorized without
// holding the lock.
func (t *authorizationTable) revoked(authorized func(string) bool) (ids []int32) {
	t.mu.Lock()
	texts := make(map[int32]string, len(t.entries))
	for id, e := range t.entries {
		texts[id] = e.text
	}
	t.mu.Unlock()
	for id, text := range texts {
		if !authorized(text) {
			ids = append(ids, id)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.forget(texts[id], id)
	}
	return ids
}
