package board

import (
	"cmp"
	"slices"
	"strings"

	"nowcast/internal/window"
)

// Viewer follows one site. It is for one goroutine.
type Viewer struct {
	b    *Board
	name string
	s    *site
}

// Watch begins to follow a site, which need not have had an event. Close ends it.
func (b *Board) Watch(name string) *Viewer {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.site(name)
	s.watched++
	return &Viewer{b, name, s}
}

// Close ends the watching.
func (v *Viewer) Close() {
	v.b.mu.Lock()
	defer v.b.mu.Unlock()
	v.s.watched--
}

// View is a site at one moment.
type View struct {
	Now      int64  // log time, ms UTC
	Final    int64  // the newest final second, unix; 0: none yet
	Visitors uint32 // distinct of the last five minutes, the open second included
	Changed  uint64 // rises with whatever a viewer can see of the site
	Lists    *Lists // not to be changed
	Seconds  []Second
}

// Look returns the site as it is, with its seconds after the given one (those without an event left out), the channel that is closed when a
// second becomes final, and the one that is closed when the site changes.
func (v *Viewer) Look(after int64) (view View, advanced, changed <-chan struct{}) {
	v.b.mu.RLock()
	if v.s.lists != nil || len(v.s.places) == 0 {
		defer v.b.mu.RUnlock()
		return v.look(after)
	}
	v.b.mu.RUnlock()
	v.b.mu.Lock()
	defer v.b.mu.Unlock()
	if v.s.lists == nil {
		v.s.lists = v.s.merge()
	}
	return v.look(after)
}

func (v *Viewer) look(after int64) (View, <-chan struct{}, <-chan struct{}) {
	view := View{Now: v.b.now, Final: v.b.final, Visitors: v.s.visitors(), Changed: v.s.changed, Lists: v.s.lists}
	i, _ := slices.BinarySearchFunc(v.s.cells, after+1, func(c cell, at int64) int { return cmp.Compare(c.at, at) })
	for ; i < len(v.s.cells); i++ {
		view.Seconds = append(view.Seconds, v.s.cells[i].sum(v.b.final))
	}
	return view, v.b.advanced, v.s.notify
}

// Visitors is how many the site has now; 0 for one that the board doesn't know.
func (b *Board) Visitors(name string) uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.sites[name]; ok {
		return s.visitors()
	}
	return 0
}

// merge adds up the partitions' lists.
func (s *site) merge() *Lists {
	var out Lists
	for k := range 4 {
		sums := map[string]uint32{}
		for i := range s.places {
			lists, rests := s.places[i].lists.parts()
			for _, c := range *lists[k] {
				sums[c.Name] += c.Active
			}
			_, outRests := out.parts()
			*outRests[k] += *rests[k]
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
		lists, _ := out.parts()
		*lists[k] = all
	}
	return &out
}

func (l *Lists) parts() ([4]*[]window.Count, [4]*uint32) {
	return [...]*[]window.Count{&l.Pages, &l.Sources, &l.Countries, &l.Devices}, [...]*uint32{&l.RestPages, &l.RestSources, &l.RestCountries, &l.RestDevices}
}
