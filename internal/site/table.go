package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"nowcast/internal/retry"
)

// recordKind is one kind of record of the topic: those whose key begins with the kind's prefix and a slash.
// The registry calls apply and publish from one goroutine.
type recordKind interface {
	apply(id string, value []byte) (header, verdict, error)
	publish()
	repeat(id string) (value []byte, write string, err error) // the record in effect, as the next revision
	expired(now time.Time) (ids []string)                     // of records that may leave the topic
}

// table holds the objects of one kind. Look-ups take no lock. A kind is a table and, where it needs them,
// further indexes:
//
//	func newThings(r *Registry) *things {
//		t := &things{}
//		t.table = newTable(r, "thing", t.check)
//		t.changed, t.publishMore = t.reindex, t.byName.publish
//		return t
//	}
type table[T any] struct {
	registry *Registry
	prefix   string
	objects  index[string, entry[T]]

	// check refuses a value that is not the id's, and completes one that an older version wrote.
	check func(id string, h header, v *T) error
	// changed keeps further indexes, publishMore publishes them. nil: the object does not exist.
	changed     func(before, after *T)
	publishMore func()
	// kept returns what the record of a removal keeps of an object; nil: nothing of it.
	kept func(T) T
	// retain: fields that this version doesn't know stay in a record when it is written again
	retain bool
	// outlived reports whether a record may leave the topic. Only an id that is never used again may.
	outlived func(e entry[T], now time.Time) bool
}

func newTable[T any](r *Registry, prefix string, check func(string, header, *T) error) *table[T] {
	t := &table[T]{registry: r, prefix: prefix, check: check}
	t.outlived = func(e entry[T], now time.Time) bool {
		return !e.Removed.IsZero() && now.Sub(e.Removed) > removalLife
	}
	r.kinds[prefix] = t
	return t
}

// get returns an object of the newest snapshot, nil if there is none.
func (t *table[T]) get(id string) *T {
	e, _ := t.objects.get(id)
	return e.object()
}

func (t *table[T]) apply(id string, value []byte) (h header, v verdict, err error) {
	current, known := t.objects.latest(id)
	if value == nil {
		t.objects.delete(id)
		t.reindex(current.object(), nil)
		return header{}, inEffect, nil
	}
	var next entry[T]
	if err := json.Unmarshal(value, &next.header); err != nil {
		return header{}, undecided, err
	}
	if next.Revision < 0 {
		return header{}, undecided, errors.New("the revision is negative")
	}
	if known && next.Revision != 0 && next.Revision <= current.Revision {
		if next.Revision == current.Revision && next.Write == current.Write {
			return next.header, inEffect, nil // the same record, written twice
		}
		return next.header, rejected, nil
	}
	next.value = new(T)
	if err := json.Unmarshal(value, next.value); err != nil {
		return header{}, undecided, err
	}
	if t.retain && next.Removed.IsZero() {
		next.unknown = unknownFields(value, next)
	}
	if next.Removed.IsZero() {
		if err := t.check(id, next.header, next.value); err != nil {
			return header{}, undecided, err
		}
	} else if t.kept == nil {
		next.value = nil
	}
	t.objects.set(id, next)
	t.reindex(current.object(), next.object())
	return next.header, inEffect, nil
}

func (t *table[T]) reindex(before, after *T) {
	if t.changed != nil && (before != nil || after != nil) {
		t.changed(before, after)
	}
}

func (t *table[T]) publish() {
	t.objects.publish()
	if t.publishMore != nil {
		t.publishMore()
	}
}

func (t *table[T]) expired(now time.Time) (ids []string) {
	for id, e := range t.objects.all() {
		if t.outlived(e, now) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *table[T]) repeat(id string) (value []byte, write string, err error) {
	e, ok := t.objects.get(id)
	if !ok {
		return nil, "", nil
	}
	e.Revision, e.Write = e.Revision+1, newWrite()
	return t.encode(e)
}

func (t *table[T]) encode(e entry[T]) (value []byte, write string, err error) {
	var object any
	if e.value != nil {
		object = e.value
	}
	if value, err = encode(e.header, object); err == nil && len(e.unknown) > 0 {
		value = append(append(value[:len(value)-1], e.unknown...), '}')
	}
	return value, e.Write, err
}

// errUnchanged is how change says that there is nothing to write.
var errUnchanged = errors.New("unchanged")

// maxAttempts bounds how often update tries while other writers come first.
const maxAttempts = 20

// update writes what change makes of the record in effect, and returns when this registry has applied it.
// When change returns nil, the object is removed. While other writers come first, update calls change again
// with what they wrote; after maxAttempts it fails with ErrConflict. An error of change ends it; errUnchanged
// does so without an error.
func (t *table[T]) update(
	ctx context.Context, id string, change func(current entry[T]) (*T, error),
) (*T, error) {
	var backoff retry.Backoff
	for attempt := range maxAttempts {
		if attempt > 1 && backoff.Wait(ctx) != nil {
			return nil, ctx.Err()
		}
		current, _ := t.objects.get(id)
		object, err := change(current)
		if err != nil {
			t.giveUp(ctx, id, attempt)
			if errors.Is(err, errUnchanged) {
				return current.object(), nil
			}
			return nil, err
		}
		value, write, err := t.encode(t.next(current, object))
		if err != nil {
			return nil, fmt.Errorf("encode %s/%s: %w", t.prefix, id, err)
		}
		switch v, err := t.registry.commit(ctx, t.prefix+"/"+id, value, write); {
		case err != nil:
			return nil, fmt.Errorf("write %s/%s: %w", t.prefix, id, err)
		case v == inEffect:
			e, _ := t.objects.get(id)
			if e.Write == write { // otherwise a later one is in effect already
				return e.object(), nil
			}
			return object, nil
		case v == undecided:
			return nil, fmt.Errorf("write %s/%s: the record can't be read back", t.prefix, id)
		}
	}
	t.giveUp(ctx, id, maxAttempts)
	return nil, fmt.Errorf("%s %s: %w", t.prefix, shorten(id), ErrConflict)
}

// next returns the record that puts an object (nil: removes it) in the place of the current one.
func (t *table[T]) next(current entry[T], object *T) entry[T] {
	next := entry[T]{header: header{Revision: current.Revision + 1, Write: newWrite()}, value: object}
	if object != nil && current.object() != nil {
		next.unknown = current.unknown
	}
	if object == nil {
		next.Removed = now()
		if t.kept != nil && current.value != nil {
			kept := t.kept(*current.value)
			next.value = &kept
		}
	}
	return next
}

// giveUp repairs the topic at once when a writer ends without success after it wrote rejected records.
func (t *table[T]) giveUp(ctx context.Context, id string, rejections int) {
	if rejections > 0 {
		t.registry.repairKey(ctx, t.prefix+"/"+id)
	}
}

// now is the time of a change, in the precision of records.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
