package board

// Life says which seconds of a domain are those of its site. A site that was removed and made again has none
// of the former site's.
type Life struct {
	Since int64 // the first second, Unix; 0: all
	// MixedUntil is the last second, Unix, in which the rows of the windows topic may count active visitors of
	// the former site; 0: there was none. The rows know the domain only.
	MixedUntil int64
}

// Own returns a view without what a former site may have in it. through is the second of the view. As long as
// rows mix the two sites, the lists are empty and the active visitors are at most as many as the visitors of
// all seconds of this site.
func (s *Site) Own(v View, l Life, through int64) View {
	if v.Provisional.At < l.Since {
		v.Provisional = Second{}
	}
	if through > l.MixedUntil && through >= l.Since {
		return v
	}
	v.lists = make([]*listsRow, len(v.lists))
	v.ActiveVisitors = min(v.ActiveVisitors, s.visitors(l.Since, through))
	return v
}

// visitors sums the visitors of each second of a span, both ends included.
func (s *Site) visitors(from, through int64) (n uint32) {
	for _, x := range s.Seconds(from-1, through) {
		n += x.Visitors
	}
	return n
}

// OwnVisitors is the number of active visitors of a site; 0 for one that the board doesn't have.
func (b *Board) OwnVisitors(name string, l Life) uint32 {
	b.mu.RLock()
	s, ok := b.sites[name]
	b.mu.RUnlock()
	if !ok {
		return 0
	}
	v := s.Latest()
	return s.Own(v, l, v.newest()).ActiveVisitors
}

// newest is the newest second that a view of the latest state may have rows of.
func (v *View) newest() int64 { return max(v.LastFinal, v.Provisional.At) }

// OwnLatest is Latest for a site with a life.
func (s *Site) OwnLatest(l Life) View {
	v := s.Latest()
	return s.Own(v, l, v.newest())
}
