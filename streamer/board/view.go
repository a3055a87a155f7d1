package board

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/window"
)

// Watch begins to follow a site, which need not have had an event: Take tells when it changes. Unwatch ends it.
func (b *Board) Watch(name string) *Site {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.site(name)
	s.watched++
	return s
}

// Unwatch ends one Watch.
func (s *Site) Unwatch() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.watched--
}

// Name is the site's domain.
func (s *Site) Name() string { return s.name }

// Changed has a value when there is something to Take.
func (b *Board) Changed() <-chan struct{} { return b.wake }

// TakeChanges returns the newest final second and the watched sites that changed since the last TakeChanges.
func (b *Board) TakeChanges() (final int64, changed []*Site) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed, b.dirty = b.dirty, nil
	for _, s := range changed {
		s.dirty = false
	}
	return b.final, changed
}

// LastFinal is the newest final second, unix; 0: none yet.
func (b *Board) LastFinal() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.final
}

// WatermarkOffsets is by partition the offset of the record by which it passed a final second; -1 when that isn't known any more.
func (b *Board) WatermarkOffsets(second int64) []int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]int64, len(b.parts))
	for i := range b.parts {
		out[i] = -1
		if c, ok := b.parts[i].crossed(second); ok {
			out[i] = c.offset
		}
	}
	return out
}

// ActiveVisitors is how many the site has now; 0 for one that the board doesn't know.
func (b *Board) ActiveVisitors(name string) uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.sites[name]; ok {
		return s.visitors()
	}
	return 0
}

// View is a site at one moment.
type View struct {
	LogTime        int64  // log time, ms UTC
	LastFinal      int64  // the newest final second of the board, unix; 0: none yet
	ActiveVisitors uint32 // distinct of the last five minutes, the open second included
	Provisional    Second // the newest second that isn't final yet and has events; zero when there is none
	parts          []*place
}

// Latest is the site as this instance knows it.
func (s *Site) Latest() View {
	s.b.mu.RLock()
	defer s.b.mu.RUnlock()
	v := View{LogTime: s.b.now, LastFinal: s.b.final, ActiveVisitors: s.visitors(), parts: make([]*place, len(s.places))}
	for i := range s.places {
		v.parts[i] = s.places[i].now()
	}
	if n := len(s.cells); n > 0 && s.cells[n-1].at > s.b.final {
		v.Provisional = s.cells[n-1].sum(s.b.final)
	}
	return v
}

// AsOf is the site as every instance knows it of a final second: what each partition had said when it passed that second.
func (s *Site) AsOf(second int64) View {
	s.b.mu.RLock()
	defer s.b.mu.RUnlock()
	v := View{LastFinal: s.b.final, parts: make([]*place, len(s.places))}
	for i := range s.places {
		v.ActiveVisitors += s.active[i].at(second).n
		v.parts[i] = s.places[i].at(second)
		if c, ok := s.b.parts[i].crossed(second); ok {
			v.LogTime = max(v.LogTime, c.now)
		}
	}
	return v
}

// Seconds are those after from and up to to that have events, in order. The newest ones may not be final.
func (s *Site) Seconds(from, to int64) []Second {
	s.b.mu.RLock()
	defer s.b.mu.RUnlock()
	var out []Second
	i, _ := slices.BinarySearchFunc(s.cells, from+1, func(c cell, at int64) int { return cmp.Compare(c.at, at) })
	for ; i < len(s.cells) && s.cells[i].at <= to; i++ {
		out = append(out, s.cells[i].sum(s.b.final))
	}
	return out
}

// ListMerger adds up the partitions' lists, again only when one of them has changed. It is for one goroutine.
type ListMerger struct {
	parts []*place
	lists *Lists
}

// Merge returns the lists of a view, not to be changed; nil when nothing is known.
func (p *ListMerger) Merge(v View) *Lists {
	if p.parts == nil || !slices.Equal(p.parts, v.parts) {
		p.parts, p.lists = v.parts, merge(v.parts)
	}
	return p.lists
}

// merge adds up lists.
func merge(parts []*place) *Lists {
	var out Lists
	known := false
	for k := range dimensions {
		sums := map[string]uint32{}
		sum, rest := out.dimension(k)
		for _, p := range parts {
			if p == nil {
				continue
			}
			known = true
			list, left := p.lists.dimension(k)
			for _, c := range *list {
				sums[c.Name] += c.Active
			}
			*rest += *left
		}
		all := make([]window.Count, 0, len(sums))
		for name, n := range sums {
			if n > 0 {
				all = append(all, window.Count{Name: name, Active: n})
			}
		}
		slices.SortFunc(all, func(a, b window.Count) int {
			return cmp.Or(cmp.Compare(b.Active, a.Active), strings.Compare(a.Name, b.Name))
		})
		*sum = all
	}
	if !known {
		return nil
	}
	return &out
}

// Dimension is one of the lists.
type Dimension uint8

// The lists.
const (
	Pages Dimension = iota
	Sources
	Countries
	Devices
	dimensions
)

func (l *Lists) dimension(d Dimension) (list *[]window.Count, rest *uint32) {
	switch d {
	case Pages:
		return &l.Pages, &l.RestPages
	case Sources:
		return &l.Sources, &l.RestSources
	case Countries:
		return &l.Countries, &l.RestCountries
	default:
		return &l.Devices, &l.RestDevices
	}
}

// VisitorsWith is how many active visitors have one value. A partition that doesn't list it may have as many as its least listed value has, and
// not more than all that it left out: then the number is an upper bound.
func (v View) VisitorsWith(d Dimension, value string) (n uint32, exact bool) {
	exact = true
	for _, p := range v.parts {
		if p == nil {
			continue
		}
		list, rest := p.lists.dimension(d)
		i := slices.IndexFunc(*list, func(c window.Count) bool { return c.Name == value })
		switch {
		case i >= 0:
			n += (*list)[i].Active
		case *rest > 0:
			most := *rest
			if k := len(*list); k > 0 {
				most = min(most, (*list)[k-1].Active)
			}
			n += most
			exact = false
		}
	}
	return n, exact
}
