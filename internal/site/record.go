package site

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
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
	value   *T     // never changed; of a removed object what its kind keeps, or nil
	unknown []byte // fields that this version doesn't know, each as ,"name":value; see table.retain
}

// object returns the object, nil if there is none.
func (e entry[T]) object() *T {
	if e.value == nil || !e.Removed.IsZero() {
		return nil
	}
	return e.value
}

// unknownFields returns the fields of a record that neither the header nor the object of this version has.
// Most records have none: they are what encode writes.
func unknownFields[T any](value []byte, e entry[T]) (unknown []byte) {
	if known, err := encode(e.header, e.value); err == nil && bytes.Equal(known, value) {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return nil
	}
	names := append(fieldNames(reflect.TypeFor[header]()), fieldNames(reflect.TypeFor[T]())...)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			continue
		}
		quoted, _ := json.Marshal(name) // it can't fail for a string
		unknown = append(append(append(append(unknown, ','), quoted...), ':'), fields[name]...)
	}
	return unknown
}

// fieldNames returns the names in JSON of a struct's fields.
func fieldNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fieldNames(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
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
