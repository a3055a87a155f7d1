package fold

import (
	"cmp"
	"slices"
)

// bucket is the state of an open second.
type bucket struct {
	second   int64
	rows     []row
	rowOf    map[int32]int32    // row by site, for sites whose site.rows doesn't have it
	visitors []int32            // seen in the second, in the order of the log
	unmasked map[int32]struct{} // those of them whose visitor.mask doesn't cover the second
	touched  []int32            // rows that the current envelope changed
	dirty    []int32            // rows that changed since they were emitted
}

// row is the content of one site in one second.
type row struct {
	site                        int32
	pageviews, visitors, events uint32
	// provisionally active visitors after the last envelope that changed the row
	active           uint32
	dirty            bool  // changed since it was emitted
	envelope, offset int64 // of the last envelope that changed the row
}

type rowRef struct {
	second int64
	row    int32
}

var noRows = [2]rowRef{{second: None}, {second: None}}

// expiryList is a final second of the last Rules.Active and the visitors whose expiry is checked when it
// leaves that span. Each active visitor is in one list, of a second no later than the one in which it was
// last seen.
type expiryList struct {
	second   int64
	visitors []int32
}

// bucket returns the bucket of an open second, nearly always the last or the one before it.
func (f *Fold) bucket(second int64) *bucket {
	i := len(f.open)
	for i > 0 && f.open[i-1].second > second {
		i--
	}
	if i > 0 && f.open[i-1].second == second {
		return f.open[i-1]
	}
	b := &bucket{}
	if n := len(f.freeBuckets); n > 0 {
		b, f.freeBuckets = f.freeBuckets[n-1], f.freeBuckets[:n-1]
	}
	b.second = second
	f.open = slices.Insert(f.open, i, b)
	return b
}

// recycle frees a bucket whose rows are final. Its provisional rows are no longer emitted.
func (f *Fold) recycle(b *bucket) {
	const maxFree = 16
	if len(b.dirty) > 0 {
		f.dirtyBuckets = slices.DeleteFunc(f.dirtyBuckets, func(c *bucket) bool { return c == b })
	}
	if len(f.freeBuckets) < maxFree {
		*b = bucket{rows: b.rows[:0], visitors: b.visitors[:0], touched: b.touched[:0], dirty: b.dirty[:0]}
		f.freeBuckets = append(f.freeBuckets, b)
	}
}

// find returns the index of a site's row.
func (b *bucket) find(s *site, at int32) (row int32, has bool) {
	for i := range s.rows {
		if s.rows[i].second == b.second {
			return s.rows[i].row, true
		}
	}
	row, has = b.rowOf[at]
	return row, has
}

// row returns the index of a site's row and adds the row if it is missing. A site remembers two rows, nearly
// always all that it has in open seconds; a third one goes into its bucket's map.
func (f *Fold) row(b *bucket, s *site, at int32) int32 {
	last := &s.rows[0]
	if last.second == b.second {
		return last.row
	}
	i, has := b.find(s, at)
	if !has {
		i = int32(len(b.rows))
		b.rows = append(b.rows, row{site: at})
	}
	if old := s.rows[1]; old.second != b.second && old.second >= f.open[0].second {
		o := f.bucket(old.second)
		if o.rowOf == nil {
			o.rowOf = map[int32]int32{}
		}
		o.rowOf[at] = old.row
	}
	s.rows = [2]rowRef{{b.second, i}, *last}
	return i
}

// activate makes the visitors of b active, whose second becomes final. No final second is later.
func (f *Fold) activate(b *bucket) {
	list := expiryList{second: b.second}
	if n := len(f.freeLists); n > 0 {
		list.visitors, f.freeLists = f.freeLists[n-1], f.freeLists[:n-1]
	}
	for _, v := range b.visitors {
		x := f.visitors.at(v)
		x.open--
		b.removeVisitor(v, x)
		if x.last == 0 {
			f.sites.at(x.site).active++
			list.visitors = append(list.visitors, v)
		}
		x.last = uint32(b.second)
	}
	f.expiry = append(f.expiry, list)
}

// expire ends the activity of a visitor in the expiry list of the second listed, when second becomes final. A
// visitor that was seen again since moves to the list of the second in which it was last seen.
func (f *Fold) expire(v int32, listed, second int64) {
	x := f.visitors.at(v)
	if int64(x.last) != listed {
		list := f.expiryListOf(int64(x.last))
		list.visitors = append(list.visitors, v)
		return
	}
	x.last = 0
	s := f.sites.at(x.site)
	s.active--
	if s.lastDeparture != second {
		s.lastDeparture = second
		f.departed = append(f.departed, x.site)
	}
	if x.open > 0 {
		return
	}
	s.provisionalActive--
	f.touchLists(x.site, s)
	for d := range dimensions {
		f.release(&s.values, d, x.values[d])
	}
	f.visitors.remove(v)
}

// expiryListOf returns the list of a final second in which a visitor was seen.
func (f *Fold) expiryListOf(second int64) *expiryList {
	i, _ := slices.BinarySearchFunc(f.expiry, second,
		func(l expiryList, second int64) int { return cmp.Compare(l.second, second) })
	return &f.expiry[i]
}
