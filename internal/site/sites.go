package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sites are the records site/<domain>. A removed site leaves a record that keeps its generation, so it never
// expires.
type sites struct {
	*table[Site]
	ordered  atomic.Pointer[func() []Site] // of the newest snapshot, put in order at the first call
	outdated bool                          // ordered lacks a change
}

func newSites(r *Registry) *sites {
	s := &sites{table: newTable(r, "site", checkSite), outdated: true}
	s.kept = func(v Site) Site { return Site{Generation: v.Generation, Created: v.Created} }
	s.outlived = func(entry[Site], time.Time) bool { return false }
	s.retain = true
	s.changed = func(_, _ *Site) { s.outdated = true }
	s.publishMore = s.publishOrder
	s.publishOrder()
	return s
}

// checkSite completes a site that was read: its rules are compiled once, here.
func checkSite(domain string, h header, v *Site) (err error) {
	if v.Domain != domain {
		return errors.New("key and value name different sites")
	}
	v.Revision = h.Revision
	if v.Generation == 0 { // of a version before generations
		v.Generation = v.Created.UnixMilli()
	}
	v.ruleSet, err = compileRules(v.Rules)
	return err
}

func (s *sites) publishOrder() {
	if !s.outdated {
		return
	}
	s.outdated = false
	snapshot := s.objects.snapshot.Load()
	ordered := sync.OnceValue(func() []Site {
		var all []Site
		for _, e := range snapshot.all() {
			if v := e.object(); v != nil {
				all = append(all, *v)
			}
		}
		slices.SortFunc(all, func(a, b Site) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Domain, b.Domain))
		})
		return all
	})
	s.ordered.Store(&ordered)
}

// Lookup finds a site by its domain.
func (r *Registry) Lookup(domain string) (Site, bool) {
	if s := r.sites.get(domain); s != nil {
		return *s, true
	}
	return Site{}, false
}

// Sites returns all sites by creation, then domain. The slice must not be changed.
func (r *Registry) Sites() []Site { return (*r.sites.ordered.Load())() }

// Default returns the site that was made first.
func (r *Registry) Default() (Site, bool) {
	all := r.Sites()
	if len(all) == 0 {
		return Site{}, false
	}
	return all[0], true
}

// Create makes a site. A site that is made again is another one: its generation is new, and it is created in
// a later second than the former one was removed in. Create fails with ErrExists, and with ErrInvalid, naming
// a domain, time zone, rule or origin that isn't one.
func (r *Registry) Create(ctx context.Context, s Site) (Site, error) {
	if err := s.clean(); err != nil {
		return Site{}, err
	}
	return r.sites.put(ctx, s.Domain, func(current entry[Site]) (*Site, error) {
		if current.object() != nil {
			return nil, fmt.Errorf("%s %w", s.Domain, ErrExists)
		}
		return first(s, current), nil
	})
}

// first returns a site as it is created after the record in effect, which may be that of a removal.
func first(s Site, current entry[Site]) *Site {
	if s.Created.IsZero() {
		s.Created = now()
	}
	if !current.Removed.IsZero() {
		s.Previous = current.Removed
		if after := current.Removed.Truncate(time.Second).Add(time.Second); s.Created.Before(after) {
			s.Created = after
		}
	}
	s.Generation = s.Created.UnixMilli()
	if current.value != nil {
		s.Generation = max(s.Generation, current.value.Generation+1)
	}
	return &s
}

// Change changes a site. change gets the newest state; it is called again with what another writer has
// written meanwhile, and an error that it returns ends Change. The domain, the time of creation and the
// generation stay. Change fails with ErrNotFound, with ErrInvalid as Create does, and with ErrConflict when
// other writers always come first.
func (r *Registry) Change(ctx context.Context, domain string, change func(*Site) error) (Site, error) {
	return r.sites.put(ctx, domain, func(current entry[Site]) (*Site, error) {
		if current.object() == nil {
			return nil, fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
		}
		s := *current.value
		if err := change(&s); err != nil {
			return nil, err
		}
		s.keep(current.value)
		return &s, s.clean()
	})
}

// keep gives a changed site what no change may change.
func (s *Site) keep(old *Site) {
	s.Domain, s.Created, s.Generation, s.Previous = old.Domain, old.Created, old.Generation, old.Previous
}

// Put makes or replaces a site, whatever its state. It fails with ErrInvalid as Create does.
func (r *Registry) Put(ctx context.Context, s Site) error {
	if err := s.clean(); err != nil {
		return err
	}
	_, err := r.sites.put(ctx, s.Domain, func(current entry[Site]) (*Site, error) {
		old := current.object()
		if old == nil {
			return first(s, current), nil
		}
		next := s
		next.keep(old)
		if !s.Created.IsZero() {
			next.Created = s.Created
		}
		return &next, nil
	})
	return err
}

// Delete removes a site with its links, goals, funnels, segments and annotations. It fails with ErrNotFound.
// What a Delete that fails in between leaves is not in effect, and expires.
func (r *Registry) Delete(ctx context.Context, domain string) error {
	var generation int64
	_, err := r.sites.update(ctx, domain, func(current entry[Site]) (*Site, error) {
		if current.object() == nil {
			return nil, fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
		}
		generation = current.value.Generation
		return nil, nil
	})
	if err != nil {
		return err
	}
	if err := r.deleteLinks(ctx, domain); err != nil {
		return err
	}
	if err := r.deleteConversions(ctx, domain, generation); err != nil {
		return err
	}
	if err := r.segments.deleteEnded(ctx, domain); err != nil {
		return err
	}
	return r.annotations.deleteEnded(ctx, domain)
}

func (s *sites) put(
	ctx context.Context, domain string, change func(current entry[Site]) (*Site, error),
) (Site, error) {
	made, err := s.update(ctx, domain, change)
	if err != nil {
		return Site{}, err
	}
	return *made, nil
}

// clean completes and normalises a site. It fails with ErrInvalid.
func (s *Site) clean() (err error) {
	s.Timezone = cmp.Or(s.Timezone, "UTC")
	if err := s.check(); err != nil {
		return err
	}
	if s.Rules, err = s.Rules.Clean(); err != nil {
		return err
	}
	if s.SearchParameter, err = cleanParameter(s.SearchParameter); err != nil {
		return err
	}
	s.Origins, err = cleanOrigins(s.Origins)
	return err
}
