package erasure

// Set is an immutable set of tombstones. A nil Set erases nothing.
type Set struct {
	latest   int64 // no tombstone reaches beyond it, ms
	sites    map[string]tombstone
	visitors map[visitor]tombstone
}

type visitor struct {
	site string
	id   VisitorID
}

type tombstone struct {
	before int64 // ms
	done   bool  // ClickHouse has none of it
}

// NewSet makes the set of some erasures.
func NewSet(erasures ...*Erasure) *Set {
	all := map[string]*Erasure{}
	for _, e := range erasures {
		all[e.ID] = e
	}
	return newSet(all)
}

// newSet makes the set of a list of erasures.
func newSet(all map[string]*Erasure) *Set {
	s := &Set{sites: map[string]tombstone{}, visitors: map[visitor]tombstone{}}
	for _, e := range all {
		t := tombstone{e.Before.UnixMilli(), e.State == Done}
		s.latest = max(s.latest, t.before)
		switch e.Kind {
		case Site:
			s.sites[e.Site] = merge(s.sites, e.Site, t)
		case Visitor:
			k := visitor{e.Site, e.Visitor}
			s.visitors[k] = merge(s.visitors, k, t)
		}
	}
	return s
}

// merge joins two tombstones of one thing. It is done once both are.
func merge[K comparable](m map[K]tombstone, k K, t tombstone) tombstone {
	if old, has := m[k]; has {
		t = tombstone{max(t.before, old.before), t.done && old.done}
	}
	return t
}

// Reaches reports whether any tombstone reaches to a time, ms. It is false for nearly all times, and cheaper
// than Event.
func (s *Set) Reaches(at int64) bool { return s != nil && at < s.latest }

// Event reports whether an event that was received at a time, ms, is erased.
func (s *Set) Event(site string, id uint64, at int64) bool {
	if !s.Reaches(at) {
		return false
	}
	if t, has := s.sites[site]; has && at < t.before {
		return true
	}
	t, has := s.visitors[visitor{site, VisitorID(id)}]
	return has && at < t.before
}

// Site reports whether all counts of a site that begin at a time, ms, are erased.
func (s *Set) Site(site string, at int64) bool {
	if !s.Reaches(at) {
		return false
	}
	t, has := s.sites[site]
	return has && at < t.before
}

// Done reports whether an erasure that covers an event has ended: no table has it.
func (s *Set) Done(site string, id uint64, at int64) bool {
	if !s.Reaches(at) {
		return false
	}
	if t, has := s.sites[site]; has && at < t.before && t.done {
		return true
	}
	t, has := s.visitors[visitor{site, VisitorID(id)}]
	return has && at < t.before && t.done
}
