package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// conversions are the goals and funnels of a site: the record goals/<generation>/<domain>. They are in one
// record, because a change of one looks at the others: names are unique, funnels name goals, and there are
// bounds. An entry that this version can't read as a whole may have conditions that this version doesn't
// know. Such an entry is kept as it is, and isn't returned.
type conversions struct {
	Site       string            `json:"site"`
	Generation int64             `json:"generation"` // of the site
	Goals      []json.RawMessage `json:"goals,omitempty"`
	Funnels    []json.RawMessage `json:"funnels,omitempty"`

	read func() decoded // reads the entries at the first call
}

type decoded struct {
	goals   []stored[Goal]
	funnels []stored[Funnel]
}

// stored is an entry of a list in a record.
type stored[T any] struct {
	id, name string
	raw      json.RawMessage
	value    *T // nil: this version can't read it
}

// Bounds of a site.
const (
	maxGoals       = 200
	maxFunnels     = 50
	maxConversions = 256 << 10 // bytes of all goals and funnels: a record of Kafka has at most 1 MB
)

func newConversions(r *Registry) *table[conversions] {
	t := newTable(r, "goals", checkConversions)
	t.outlived = func(e entry[conversions], now time.Time) bool {
		ended := e.Removed
		if v := e.object(); v != nil {
			ended = r.endOf(v.Site, v.Generation)
		}
		return !ended.IsZero() && now.Sub(ended) > removalLife
	}
	return t
}

func checkConversions(id string, _ header, v *conversions) error {
	if id != conversionsID(v.Site, v.Generation) {
		return errors.New("key and value name different sites")
	}
	v.read = sync.OnceValue(func() decoded {
		d := decoded{goals: readStored(v.Goals, (*Goal).clean)}
		isGoal := func(string) bool { return true } // as it was when the funnel was written
		d.funnels = readStored(v.Funnels, func(f *Funnel) error { return f.clean(isGoal) })
		return d
	})
	return nil
}

func conversionsID(domain string, generation int64) string {
	return fmt.Sprintf("%d/%s", generation, domain)
}

func readStored[T any](list []json.RawMessage, clean func(*T) error) (out []stored[T]) {
	for _, raw := range list {
		var head struct{ ID, Name string }
		_ = json.Unmarshal(raw, &head) // an entry without them has no id
		s := stored[T]{id: head.ID, name: head.Name, raw: raw}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		v := new(T)
		if d.Decode(v) == nil && clean(v) == nil && head.ID != "" {
			s.value = v
		}
		out = append(out, s)
	}
	return out
}

// endOf returns when the site of a generation was removed; zero: it exists, or was never known.
func (r *Registry) endOf(domain string, generation int64) time.Time {
	e, ok := r.sites.objects.get(domain)
	switch {
	case !ok || e.value == nil:
		return time.Time{}
	case !e.Removed.IsZero():
		return e.Removed
	case e.value.Generation != generation:
		return e.value.Previous
	}
	return time.Time{}
}

// conversions returns the goals and funnels of a site that exists.
func (r *Registry) conversions(domain string) decoded {
	if st, ok := r.Lookup(domain); ok {
		if v := r.goals.get(conversionsID(domain, st.Generation)); v != nil {
			return v.read()
		}
	}
	return decoded{}
}

// Goals returns a site's goals in the order in which they were made.
func (r *Registry) Goals(domain string) []Goal { return values(r.conversions(domain).goals) }

// Goal finds a goal of a site by its id.
func (r *Registry) Goal(domain, id string) (Goal, bool) { return find(r.conversions(domain).goals, id) }

// Funnels returns a site's funnels in the order in which they were made. A step may name a goal that Goal
// doesn't find, when a newer version has written that goal.
func (r *Registry) Funnels(domain string) []Funnel { return values(r.conversions(domain).funnels) }

// Funnel finds a funnel of a site by its id.
func (r *Registry) Funnel(domain, id string) (Funnel, bool) {
	return find(r.conversions(domain).funnels, id)
}

func values[T any](list []stored[T]) (out []T) {
	for _, s := range list {
		if s.value != nil {
			out = append(out, *s.value)
		}
	}
	return out
}

func find[T any](list []stored[T], id string) (v T, ok bool) {
	i := indexOf(list, id)
	if i < 0 || list[i].value == nil {
		return v, false
	}
	return *list[i].value, true
}

func indexOf[T any](list []stored[T], id string) int {
	return slices.IndexFunc(list, func(s stored[T]) bool { return s.id == id && id != "" })
}

// CreateGoal makes a goal of a site. It fails with ErrNotFound when there is no such site, with ErrExists
// when a goal has its name, and with ErrInvalid for one that can't be or is one too many.
func (r *Registry) CreateGoal(ctx context.Context, domain string, g Goal) (Goal, error) {
	g.ID, g.Created, g.Revision = newID(), now(), 1
	if err := g.clean(); err != nil {
		return Goal{}, err
	}
	err := r.changeConversions(ctx, domain, func(d *decoded) error {
		return add(&d.goals, "goal", stored[Goal]{id: g.ID, name: g.Name, value: &g}, maxGoals, domain)
	})
	return g, err
}

// ChangeGoal changes a goal of a site. change gets the newest state, also when another writer has come first;
// an error that it returns ends ChangeGoal. The id and the time of creation stay. It fails as CreateGoal
// does.
func (r *Registry) ChangeGoal(
	ctx context.Context, domain, id string, change func(*Goal) error,
) (changed Goal, err error) {
	err = r.changeConversions(ctx, domain, func(d *decoded) error {
		return modify(d.goals, "goal", domain, id, func(g *Goal) (string, error) {
			old := *g
			if err := change(g); err != nil {
				return "", err
			}
			g.ID, g.Created, g.Revision = old.ID, old.Created, old.Revision+1
			err := g.clean()
			changed = *g
			return g.Name, err
		})
	})
	return changed, err
}

// DeleteGoal removes a goal of a site. It fails with ErrNotFound, and with ErrInUse while a funnel names the
// goal.
func (r *Registry) DeleteGoal(ctx context.Context, domain, id string) error {
	return r.changeConversions(ctx, domain, func(d *decoded) error {
		names := func(s stored[Funnel]) bool {
			if s.value == nil { // of a newer version: it may name the goal somewhere
				return bytes.Contains(s.raw, []byte(`"`+id+`"`))
			}
			return slices.ContainsFunc(s.value.Steps, func(step Step) bool { return step.Goal == id })
		}
		if i := slices.IndexFunc(d.funnels, names); i >= 0 {
			return fmt.Errorf("goal %s is %w: funnel %s has it as a step; change or remove that first",
				shorten(id), ErrInUse, quote(d.funnels[i].name))
		}
		return remove(&d.goals, "goal", domain, id)
	})
}

// CreateFunnel makes a funnel of a site. It fails as CreateGoal does.
func (r *Registry) CreateFunnel(ctx context.Context, domain string, f Funnel) (Funnel, error) {
	f.ID, f.Created, f.Revision = newID(), now(), 1
	err := r.changeConversions(ctx, domain, func(d *decoded) error {
		if err := f.clean(d.isGoal); err != nil {
			return err
		}
		return add(&d.funnels, "funnel", stored[Funnel]{id: f.ID, name: f.Name, value: &f}, maxFunnels,
			domain)
	})
	return f, err
}

// ChangeFunnel changes a funnel of a site as ChangeGoal changes a goal.
func (r *Registry) ChangeFunnel(
	ctx context.Context, domain, id string, change func(*Funnel) error,
) (changed Funnel, err error) {
	err = r.changeConversions(ctx, domain, func(d *decoded) error {
		return modify(d.funnels, "funnel", domain, id, func(f *Funnel) (string, error) {
			old := *f
			if err := change(f); err != nil {
				return "", err
			}
			f.ID, f.Created, f.Revision = old.ID, old.Created, old.Revision+1
			err := f.clean(d.isGoal)
			changed = *f
			return f.Name, err
		})
	})
	return changed, err
}

// DeleteFunnel removes a funnel of a site. It fails with ErrNotFound.
func (r *Registry) DeleteFunnel(ctx context.Context, domain, id string) error {
	return r.changeConversions(ctx, domain, func(d *decoded) error {
		return remove(&d.funnels, "funnel", domain, id)
	})
}

func (d *decoded) isGoal(id string) bool { return indexOf(d.goals, id) >= 0 }

// changeConversions writes what change makes of the goals and funnels of a site.
func (r *Registry) changeConversions(
	ctx context.Context, domain string, change func(*decoded) error,
) error {
	st, ok := r.Lookup(domain)
	if !ok {
		return fmt.Errorf("site %s: %w", shorten(domain), ErrNotFound)
	}
	_, err := r.goals.update(ctx, conversionsID(domain, st.Generation),
		func(current entry[conversions]) (*conversions, error) {
			next := conversions{Site: domain, Generation: st.Generation}
			var d decoded
			if v := current.object(); v != nil {
				d = v.read()
				d.goals, d.funnels = slices.Clone(d.goals), slices.Clone(d.funnels)
			}
			if err := change(&d); err != nil {
				return nil, err
			}
			var size int
			for _, list := range []struct {
				out *[]json.RawMessage
				all []json.RawMessage
			}{{&next.Goals, raws(d.goals)}, {&next.Funnels, raws(d.funnels)}} {
				for _, raw := range list.all {
					size += len(raw)
				}
				*list.out = list.all
			}
			if size > maxConversions {
				return nil, fmt.Errorf("%w: the goals and funnels of %s have %d KB; at most %d",
					ErrInvalid, domain, size>>10, maxConversions>>10)
			}
			return &next, checkConversions(conversionsID(domain, st.Generation), header{}, &next)
		})
	return err
}

func raws[T any](list []stored[T]) (out []json.RawMessage) {
	for _, s := range list {
		out = append(out, s.raw)
	}
	return out
}

// add appends an entry to a list.
func add[T any](list *[]stored[T], kind string, s stored[T], most int, domain string) (err error) {
	if len(*list) >= most {
		return fmt.Errorf("%w: %s has %d %ss; remove one first", ErrInvalid, domain, len(*list), kind)
	}
	if err := unique(*list, kind, s.id, s.name); err != nil {
		return err
	}
	s.raw, err = json.Marshal(s.value)
	*list = append(*list, s)
	return err
}

// modify changes an entry of a list. change returns the entry's name.
func modify[T any](
	list []stored[T], kind, domain, id string, change func(*T) (name string, err error),
) error {
	i := indexOf(list, id)
	switch {
	case i < 0:
		return fmt.Errorf("%s %s of %s: %w", kind, shorten(id), shorten(domain), ErrNotFound)
	case list[i].value == nil:
		return fmt.Errorf("%w: a newer version of Nowcast wrote %s %s; change it with that version",
			ErrInvalid, kind, shorten(id))
	}
	v := *list[i].value
	name, err := change(&v)
	if err != nil {
		return err
	}
	if err := unique(list, kind, id, name); err != nil {
		return err
	}
	raw, err := json.Marshal(&v)
	list[i] = stored[T]{id, name, raw, &v}
	return err
}

// remove removes an entry of a list.
func remove[T any](list *[]stored[T], kind, domain, id string) error {
	i := indexOf(*list, id)
	if i < 0 {
		return fmt.Errorf("%s %s of %s: %w", kind, shorten(id), shorten(domain), ErrNotFound)
	}
	*list = slices.Delete(*list, i, i+1)
	return nil
}

func unique[T any](list []stored[T], kind, id, name string) error {
	if slices.ContainsFunc(list, func(s stored[T]) bool { return s.id != id && s.name == name }) {
		return fmt.Errorf("%s %s %w; give another name", kind, quote(name), ErrExists)
	}
	return nil
}

// deleteConversions removes the goals and funnels of a site that has been removed.
func (r *Registry) deleteConversions(ctx context.Context, domain string, generation int64) error {
	_, err := r.goals.update(ctx, conversionsID(domain, generation),
		func(current entry[conversions]) (*conversions, error) {
			if current.object() == nil {
				return nil, errUnchanged
			}
			return nil, nil
		})
	return err
}
