package site

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Segment is a named part of a site's visitors: those that pass its filters.
type Segment struct {
	Part
	Name    string          `json:"name"`
	Filters json.RawMessage `json:"filters"` // as the Stats API has them, in canonical JSON; one or more
	// Shared: all who may read the site's segments have it. Otherwise only the key that made it has.
	Shared bool `json:"shared,omitempty"`
}

// VisibleTo reports whether the holder of a key has the segment.
func (s Segment) VisibleTo(key string) bool { return s.Shared || s.By == key }

const (
	maxSegments = 200      // of a site
	maxFilters  = 16 << 10 // bytes of a segment's filters
)

func newSegments(r *Registry) *parts[Segment] {
	return newParts(r, "segment", maxSegments, func(s *Segment) *Part { return &s.Part })
}

// Segments returns a site's segments that the holder of a key has, by name.
func (r *Registry) Segments(domain, key string) []Segment {
	all := slices.DeleteFunc(r.segments.list(domain), func(s Segment) bool { return !s.VisibleTo(key) })
	slices.SortFunc(all, func(a, b Segment) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Created.Compare(b.Created),
			strings.Compare(a.ID, b.ID))
	})
	return all
}

// Segment finds a segment of a site that the holder of a key has.
func (r *Registry) Segment(domain, id, key string) (Segment, bool) {
	if s := r.segments.find(domain, id); s != nil && s.VisibleTo(key) {
		return *s, true
	}
	return Segment{}, false
}

// CreateSegment makes a segment of a site; key is the ID of the key that makes it. valid checks the filters.
// It fails with ErrNotFound when there is no such site, and with ErrInvalid for a segment that can't be or is
// one too many.
func (r *Registry) CreateSegment(
	ctx context.Context, domain, key string, s Segment, valid func(filters []byte) error,
) (Segment, error) {
	if err := s.clean(valid); err != nil {
		return Segment{}, err
	}
	return r.segments.create(ctx, domain, key, s)
}

// ChangeSegment changes a segment of a site as Change changes a site. Only the key that made a segment may
// take it back from the others.
func (r *Registry) ChangeSegment(
	ctx context.Context, domain, id, key string, valid func(filters []byte) error,
	change func(*Segment) error,
) (Segment, error) {
	return r.segments.change(ctx, domain, id, func(s *Segment) error {
		if !s.VisibleTo(key) {
			return r.segments.notFound(domain, id)
		}
		if err := change(s); err != nil {
			return err
		}
		if !s.VisibleTo(key) {
			return fmt.Errorf("%w: another key made segment %s; only that one can make it personal",
				ErrInvalid, id)
		}
		return s.clean(valid)
	})
}

// DeleteSegment removes a segment that the holder of a key has. It fails with ErrNotFound.
func (r *Registry) DeleteSegment(ctx context.Context, domain, id, key string) error {
	return r.segments.remove(ctx, domain, id, func(s Segment) error {
		if !s.VisibleTo(key) {
			return r.segments.notFound(domain, id)
		}
		return nil
	})
}

// deletePersonal removes the segments that only a key has.
func (r *Registry) deletePersonal(ctx context.Context, key string) error {
	for id, e := range r.segments.objects.all() {
		s := e.object()
		if s == nil || s.Shared || s.By != key {
			continue
		}
		_, err := r.segments.update(ctx, id, func(current entry[Segment]) (*Segment, error) {
			if s := current.object(); s == nil || s.Shared {
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

func (s *Segment) clean(valid func(filters []byte) error) (err error) {
	if s.Name, err = cleanName("segment", s.Name); err != nil {
		return err
	}
	if s.Filters, err = canonical(s.Filters); err != nil {
		return fmt.Errorf("%w: the filters of a segment have to be a list in JSON: %w", ErrInvalid, err)
	}
	switch {
	case len(s.Filters) > maxFilters:
		return fmt.Errorf("%w: the filters of a segment have at most %d KB", ErrInvalid, maxFilters>>10)
	case string(s.Filters) == "[]" || string(s.Filters) == "null":
		return fmt.Errorf("%w: a segment needs at least one filter; without one it would be all visitors",
			ErrInvalid)
	}
	return valid(s.Filters)
}

// canonical returns the one text of a JSON list, as records have it.
func canonical(list []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(list))
	d.UseNumber()
	var v []any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind it")
	}
	return json.Marshal(v)
}
