package board

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/window"
)

// Watch returns a site, which need not have had an event, and has TakeChanges report its changes. Each
// Watch needs one Unwatch.
func (b *Board) Watch(name string) *Site {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.site(name)
	s.watches++
	return s
}

// Unwatch undoes one Watch.
func (s *Site) Unwatch() {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.watches--
}

// Name is the site's domain.
func (s *Site) Name() string { return s.name }

// Changed has a value when TakeChanges has something new.
func (b *Board) Changed() <-chan struct{} { return b.wake }

// TakeChanges returns the newest final second (unix; 0: none yet) and the watched sites that changed
// since the last call.
func (b *Board) TakeChanges() (lastFinal int64, changed []*Site) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed, b.changed = b.changed, nil
	for _, s := range changed {
		s.changed = false
	}
	return b.lastFinal, changed
}

// LastFinal is the newest final second, unix; 0: none yet.
func (b *Board) LastFinal() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.lastFinal
}

// WatermarkOffsets returns, by partition, the offset of the record whose watermark passed a second; -1
// when the watermark hasn't. For a second that is older than those on the board the offset may be a
// later one.
func (b *Board) WatermarkOffsets(second int64) []int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]int64, len(b.partitions))
	for i := range b.partitions {
		out[i] = -1
		if a, ok := b.partitions[i].advancePast(second); ok {
			out[i] = a.offset
		}
	}
	return out
}

// ActiveVisitors is the number of a site's active visitors; 0 for a site that the board doesn't have.
func (b *Board) ActiveVisitors(name string) uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.sites[name]; ok {
		return s.activeVisitors()
	}
	return 0
}

// View is a site's state at one moment.
type View struct {
	LogTime        int64       // ms UTC
	LastFinal      int64       // newest final second of the board, unix; 0: none yet
	ActiveVisitors uint32      // of the last five minutes, with the provisional second
	Provisional    Second      // newest provisional second with events; the zero value when there is none
	Incomplete     bool        // without the visitors of a partition that is missing
	lists          []*listsRow // by partition; nil: the partition has none
}

// Latest is the site's newest state on this instance.
func (s *Site) Latest() View {
	s.board.mu.RLock()
	defer s.board.mu.RUnlock()
	v := View{
		LogTime: s.board.logTime, LastFinal: s.board.lastFinal,
		ActiveVisitors: s.activeVisitors(), lists: make([]*listsRow, len(s.lists)),
	}
	for i := range s.lists {
		if s.board.partitions[i].missing {
			v.Incomplete = true
		} else {
			v.lists[i] = s.lists[i].latest()
		}
	}
	if n := len(s.seconds); n > 0 && s.seconds[n-1].at > s.board.lastFinal {
		v.Provisional = s.board.sum(&s.seconds[n-1])
	}
	return v
}

// AsOf is the site's state with a final second, the same on every instance: from the rows that each partition
// had emitted when its watermark passed the second. While a partition is missing it may differ between
// instances, which go on without the partition at different moments. The view has no provisional second.
func (s *Site) AsOf(second int64) View {
	s.board.mu.RLock()
	defer s.board.mu.RUnlock()
	v := View{LastFinal: s.board.lastFinal, lists: make([]*listsRow, len(s.lists))}
	for i := range s.lists {
		if s.board.partitions[i].absentAt(second) {
			v.Incomplete = true
			continue
		}
		v.ActiveVisitors += s.active[i].asOf(second).n
		v.lists[i] = s.lists[i].asOf(second)
		if a, ok := s.board.partitions[i].advancePast(second); ok {
			v.LogTime = max(v.LogTime, a.logTime)
		}
	}
	return v
}

// Seconds returns, in order, the seconds after after and up to through that have events. The newest may
// be provisional.
func (s *Site) Seconds(after, through int64) []Second {
	s.board.mu.RLock()
	defer s.board.mu.RUnlock()
	var out []Second
	i, _ := s.search(after + 1)
	for ; i < len(s.seconds) && s.seconds[i].at <= through; i++ {
		out = append(out, s.board.sum(&s.seconds[i]))
	}
	return out
}

// ListMerger adds up the partitions' lists of one site. It keeps the result until a list changes. It is
// for one goroutine.
type ListMerger struct {
	lists  []*listsRow
	merged *Lists
}

// Merge returns the lists of a view, which the caller may not change; nil when no partition has any.
func (m *ListMerger) Merge(v View) *Lists {
	if m.lists == nil || !slices.Equal(m.lists, v.lists) {
		m.lists, m.merged = v.lists, merge(v.lists)
	}
	return m.merged
}

func merge(partitions []*listsRow) *Lists {
	if !slices.ContainsFunc(partitions, func(p *listsRow) bool { return p != nil }) {
		return nil
	}
	var out Lists
	for d := range dimensions {
		sums := map[string]uint32{}
		sum, rest := out.dimension(d)
		for _, p := range partitions {
			if p == nil {
				continue
			}
			list, partitionRest := p.lists.dimension(d)
			for _, c := range *list {
				sums[c.Name] += c.Active
			}
			*rest += *partitionRest
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
	return &out
}

// Dimension names one of the Lists.
type Dimension uint8

// The dimensions of Lists.
const (
	Pages Dimension = iota
	Sources
	Countries
	Devices
	dimensions // how many there are
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

// VisitorsWith is the number of active visitors with one value of a dimension. A partition that left the
// value out of its list may have as many of them as of its least listed value, but at most as many as it
// left out in all. With such a partition the number is an upper bound, and exact is false.
func (v View) VisitorsWith(d Dimension, value string) (n uint32, exact bool) {
	exact = true
	for _, p := range v.lists {
		if p == nil {
			continue
		}
		list, rest := p.lists.dimension(d)
		i := slices.IndexFunc(*list, func(c window.Count) bool { return c.Name == value })
		switch {
		case i >= 0:
			n += (*list)[i].Active
		case *rest > 0:
			bound := *rest
			if k := len(*list); k > 0 {
				bound = min(bound, (*list)[k-1].Active)
			}
			n += bound
			exact = false
		}
	}
	return n, exact
}
