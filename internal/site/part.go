package site

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Part is what every object has that belongs to one site and ends with it. The registry sets it.
type Part struct {
	ID         string    `json:"id"`
	Site       string    `json:"site"`
	Generation int64     `json:"generation"` // of the site
	By         string    `json:"by"`         // ID of the key that made it
	Created    time.Time `json:"created"`
	Revision   int64     `json:"-"` // counts the changes, from 1
}

// parts are a table of objects that each belong to one site.
type parts[T any] struct {
	*table[T]
	of     func(*T) *Part
	most   int                     // of a site
	bySite index[string, []string] // ids by domain; a slice is never changed
}

func newParts[T any](r *Registry, prefix string, most int, of func(*T) *Part) *parts[T] {
	p := &parts[T]{of: of, most: most}
	p.table = newTable(r, prefix, func(id string, h header, v *T) error {
		part := of(v)
		if part.ID != id || part.Site == "" || part.Generation == 0 {
			return errors.New("the value isn't the key's")
		}
		part.Revision = h.Revision
		return nil
	})
	p.retain = true
	p.outlived = func(e entry[T], now time.Time) bool {
		ended := e.Removed
		if v := e.object(); v != nil {
			ended = r.endOf(of(v).Site, of(v).Generation)
		}
		return !ended.IsZero() && now.Sub(ended) > removalLife
	}
	p.changed = p.reindexed
	p.publishMore = func() { p.bySite.publish() }
	return p
}

func (p *parts[T]) reindexed(before, after *T) {
	if before != nil {
		part := p.of(before)
		ids, _ := p.bySite.latest(part.Site)
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == part.ID })
		if p.bySite.set(part.Site, ids); len(ids) == 0 {
			p.bySite.delete(part.Site)
		}
	}
	if after != nil {
		part := p.of(after)
		ids, _ := p.bySite.latest(part.Site)
		p.bySite.set(part.Site, append(ids, part.ID)) // snapshots don't look beyond their own length
	}
}

// list returns the objects of a site that exists, in no order.
func (p *parts[T]) list(domain string) (all []T) {
	st, ok := p.registry.Lookup(domain)
	if !ok {
		return nil
	}
	ids, _ := p.bySite.get(domain)
	for _, id := range ids {
		if v := p.get(id); v != nil && p.of(v).Generation == st.Generation {
			all = append(all, *v)
		}
	}
	return all
}

// belongs reports whether an object is one of a site that exists.
func (p *parts[T]) belongs(v *T, domain string) bool {
	st, ok := p.registry.Lookup(domain)
	return ok && v != nil && p.of(v).Site == domain && p.of(v).Generation == st.Generation
}

// find finds an object of a site that exists.
func (p *parts[T]) find(domain, id string) *T {
	if v := p.get(id); p.belongs(v, domain) {
		return v
	}
	return nil
}

// create makes an object of a site. by is the ID of the key that makes it.
func (p *parts[T]) create(ctx context.Context, domain, by string, v T) (T, error) {
	st, ok := p.registry.Lookup(domain)
	if !ok {
		return v, fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
	}
	if n := len(p.list(domain)); n >= p.most {
		return v, fmt.Errorf("%w: %s has %d %ss; remove one first", ErrInvalid, domain, n, p.prefix)
	}
	*p.of(&v) = Part{ID: newID(), Site: domain, Generation: st.Generation, By: by, Created: now(),
		Revision: 1}
	made, err := p.update(ctx, p.of(&v).ID, func(entry[T]) (*T, error) { return &v, nil })
	if err != nil {
		return v, err
	}
	return *made, nil
}

// change changes an object of a site as Registry.Change changes a site.
func (p *parts[T]) change(
	ctx context.Context, domain, id string, change func(*T) error,
) (changed T, err error) {
	v, err := p.update(ctx, id, func(current entry[T]) (*T, error) {
		old := current.object()
		if !p.belongs(old, domain) {
			return nil, p.notFound(domain, id)
		}
		next := *old
		if err := change(&next); err != nil {
			return nil, err
		}
		*p.of(&next) = *p.of(old)
		p.of(&next).Revision++
		return &next, nil
	})
	if err != nil {
		return changed, err
	}
	return *v, nil
}

// remove removes an object of a site. allow may refuse it.
func (p *parts[T]) remove(ctx context.Context, domain, id string, allow func(T) error) error {
	_, err := p.update(ctx, id, func(current entry[T]) (*T, error) {
		old := current.object()
		if !p.belongs(old, domain) {
			return nil, p.notFound(domain, id)
		}
		return nil, allow(*old)
	})
	return err
}

func (p *parts[T]) notFound(domain, id string) error {
	return fmt.Errorf("%s %s of %s: %w", p.prefix, shorten(id), shorten(domain), ErrNotFound)
}

// deleteEnded removes the objects of a domain that have ended with their site.
func (p *parts[T]) deleteEnded(ctx context.Context, domain string) error {
	ids, _ := p.bySite.get(domain)
	for _, id := range ids {
		_, err := p.update(ctx, id, func(current entry[T]) (*T, error) {
			if v := current.object(); v == nil || p.belongs(v, domain) {
				return nil, errUnchanged
			}
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
