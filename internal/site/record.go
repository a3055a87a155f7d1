package site

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// header is what a record of every kind has beside the fields of its object.
//
// Revisions order the writes of an object. A writer writes the revision after the one that it has read. Of
// all records with the same revision the first in the log is in effect, and every registry rejects the others
// alike: a record is in effect if its revision is higher than that of the record in effect before it. A
// record without a revision is of a version before revisions: it is in effect, and begins again at 0.
type header struct {
	Revision int64     `json:"revision,omitempty"`
	Write    string    `json:"write,omitempty"`  // random: tells the records of different writers apart
	Removed  time.Time `json:"removed,omitzero"` // when the object was removed; zero: it exists
}

// entry is the record in effect of an object.
type entry[T any] struct {
	header
	value *T // never changed; of a removed object what its kind keeps, or nil
}

// object returns the object, nil if there is none.
func (e entry[T]) object() *T {
	if e.value == nil || !e.Removed.IsZero() {
		return nil
	}
	return e.value
}

// verdict says what became of a record.
type verdict uint8

const (
	undecided verdict = iota
	inEffect
	rejected // another writer's record came first
)

// newWrite returns a new value of header.Write.
func newWrite() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// encode returns a record's value: a JSON object with the fields of a header and of v, which may be nil.
func encode(h header, v any) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	if v == nil {
		return b, nil
	}
	object, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	if string(object) == "{}" {
		return b, nil
	}
	return append(append(b[:len(b)-1], ','), object[1:]...), nil
}
