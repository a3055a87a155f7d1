package fold

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// dimension is what a list of active visitors is grouped by.
type dimension int

const (
	page dimension = iota
	source
	country
	device
	dimensions
)

var noValues = [dimensions]int32{absent, absent, absent, absent}

// noSource is the sourceAge of a visitor that has had no source.
const noSource = math.MaxUint32

// value is one name in one list of one site, in 8 bytes.
type value struct {
	key    valueKey
	active uint32 // visitors that count in it
}

// valueKey is the index of a name and, in the lowest bits, the dimension.
type valueKey uint32

const dimensionBits = 2

func keyOf(d dimension, name int32) valueKey { return valueKey(name)<<dimensionBits | valueKey(d) }

func (k valueKey) dimension() dimension { return dimension(k & (1<<dimensionBits - 1)) }

func (k valueKey) name() int32 { return int32(k >> dimensionBits) }

// siteValues holds the values of a site, of all dimensions: the content of its four lists. Emitted lists are
// ordered by visitors and then by name. The values are kept ordered by dimension and name, so that emitting
// compares numbers only.
type siteValues struct {
	all    []value // the first sorted ones are ordered; the rest was added since the lists were last emitted
	sorted int32
	unused int32  // values without a visitor, see sweep
	table  *table // values by key, once there are more than maxLinear
}

const (
	maxUnused = 8  // unused values that are kept without a sweep
	maxLinear = 64 // values that find searches one by one
)

func (k valueKey) hash() uint32 { return uint32(k) * 0x9e3779b1 >> 8 }

// find returns the index of a value, or absent.
func (sv *siteValues) find(k valueKey) int32 {
	if sv.table == nil {
		for i := range sv.all {
			if sv.all[i].key == k {
				return int32(i)
			}
		}
		return absent
	}
	slot, i := sv.table.first(k.hash())
	for i != absent && sv.all[i].key != k {
		slot, i = sv.table.next(slot, k.hash())
	}
	return i
}

// reindex rebuilds the table after values have moved.
func (sv *siteValues) reindex() {
	if len(sv.all) <= maxLinear {
		sv.table = nil
		return
	}
	if sv.table == nil {
		sv.table = &table{}
	}
	sv.table.clear()
	for i := range sv.all {
		sv.table.add(sv.all[i].key.hash(), int32(i))
	}
}

// value returns a value of a site and adds it if it is missing.
func (f *Fold) value(sv *siteValues, d dimension, text string) *value {
	hash := hashOf(text)
	n := f.names.find(text, hash)
	if n != absent {
		if i := sv.find(keyOf(d, n)); i != absent {
			return &sv.all[i]
		}
	} else {
		n = f.names.slab.add(name{text: strings.Clone(text), hash: hash})
		f.names.table.add(hash, n)
	}
	f.names.slab.at(n).uses++
	sv.all = append(sv.all, value{key: keyOf(d, n)})
	sv.unused++
	switch i := len(sv.all) - 1; {
	case sv.table != nil:
		sv.table.add(keyOf(d, n).hash(), int32(i))
	case i >= maxLinear:
		sv.reindex()
	}
	return &sv.all[len(sv.all)-1]
}

// release removes a visitor from the value with name n.
func (f *Fold) release(sv *siteValues, d dimension, n int32) {
	if n == absent {
		return
	}
	v := &sv.all[sv.find(keyOf(d, n))]
	v.active--
	if v.active > 0 {
		return
	}
	sv.unused++
	if int(sv.unused) > maxUnused+len(sv.all)/2 {
		f.sweep(sv)
	}
}

// sweep removes the unused values.
func (f *Fold) sweep(sv *siteValues) {
	if sv.unused == 0 {
		return
	}
	used, sorted := sv.all[:0], int32(0)
	for i, v := range sv.all {
		if v.active == 0 {
			f.names.release(v.key.name())
			continue
		}
		used = append(used, v)
		if i < int(sv.sorted) {
			sorted++
		}
	}
	sv.all, sv.sorted, sv.unused = used, sorted, 0
	sv.reindex()
}

// sort orders the values: it sorts the new ones and merges them with the ordered ones from the end.
func (f *Fold) sort(sv *siteValues) {
	n := int(sv.sorted)
	if n == len(sv.all) {
		return
	}
	order := func(a, b value) int {
		if d := cmp.Compare(a.key.dimension(), b.key.dimension()); d != 0 {
			return d
		}
		return strings.Compare(f.names.text(a.key.name()), f.names.text(b.key.name()))
	}
	slices.SortFunc(sv.all[n:], order)
	f.mergeBuffer = append(f.mergeBuffer[:0], sv.all[n:]...)
	for to, j := len(sv.all)-1, len(f.mergeBuffer)-1; j >= 0; to-- {
		if n > 0 && order(sv.all[n-1], f.mergeBuffer[j]) > 0 {
			n--
			sv.all[to] = sv.all[n]
		} else {
			sv.all[to] = f.mergeBuffer[j]
			j--
		}
	}
	sv.sorted = int32(len(sv.all))
	sv.reindex()
}

// countInLists counts a visitor at the values of its latest event: latest by time, and of two at the same
// time the later one in the log. A custom event counts like a page view: otherwise a visitor who sends only
// custom events would stay on a page that is older than the warm-up.
//
// The source is that of the latest event with a source, as long as the following event comes less than
// Rules.Active seconds after it; then the visitor has no source (""). A source that lasted as long as the
// visit would make the warm-up unbounded.
func (f *Fold) countInLists(at int32, s *site, x *visitor, e *event.Event) {
	if e.Time >= x.time {
		if x.sourceAge != noSource {
			x.sourceAge = uint32(min(int64(x.sourceAge)+e.Time-x.time, noSource-1))
		}
		x.time = e.Time
		f.setValue(at, s, x, page, e.Path)
		f.setValue(at, s, x, country, e.Country)
		f.setValue(at, s, x, device, e.Device)
	}
	from := ""
	if x.values[source] != absent {
		from = f.names.text(x.values[source])
	}
	if age := x.time - e.Time; e.Source != "" && age <= int64(x.sourceAge) {
		from, x.sourceAge = e.Source, uint32(age)
	}
	if int64(x.sourceAge) >= f.rules.Active*1000 {
		from = ""
	}
	f.setValue(at, s, x, source, from)
}

// setValue moves a visitor from one value of a dimension to another.
func (f *Fold) setValue(at int32, s *site, x *visitor, d dimension, name string) {
	old := x.values[d]
	if old != absent && f.names.text(old) == name {
		return
	}
	v := f.value(&s.values, d, name)
	if v.active == 0 {
		s.values.unused--
	}
	v.active++
	x.values[d] = v.key.name()
	f.release(&s.values, d, old)
	f.touchLists(at, s)
}

// touchLists records that the current envelope changed a site's lists.
func (f *Fold) touchLists(at int32, s *site) {
	if s.touchedBy != f.envelope {
		s.touchedBy = f.envelope
		f.touchedSites = append(f.touchedSites, at)
	}
}

// Lists emits the lists of each site whose lists have changed since they were last emitted, but of one site
// at most once in pace unless it has become empty; now and pace are times of any clock in one unit. The
// content is a function of the log up to the envelope in its version, since no later envelope has changed it.
// l is valid only during emit. The name "" stands for an unknown value; as a source, for none.
func (f *Fold) Lists(now, pace int64, l *window.Now, emit func()) {
	f.prefetchSites(f.dirtySites)
	held := f.dirtySites[:0]
	for _, i := range f.dirtySites {
		s := f.sites.at(i)
		// Empty lists are never held back: an owner that starts from a later commit may not know the site.
		if s.provisionalActive > 0 && s.emittedAt != None && now-s.emittedAt < pace {
			held = append(held, i)
			continue
		}
		s.dirty, s.emittedAt = false, now
		l.Site, l.At = s.name, s.changedAt/1000
		l.Version = window.RowVersion(window.Epoch, false, s.changedOffset)
		f.fill(l, &s.values)
		emit()
		if s.provisionalActive == 0 {
			f.siteTable.remove(s.hash, i)
			f.sites.remove(i)
		}
	}
	f.dirtySites = held
}

// prefetchSites reads sites and their lists, see Classifier.Prefetch.
func (f *Fold) prefetchSites(sites []int32) {
	sink := uint64(0)
	for _, i := range sites {
		sink += uint64(f.sites.at(i).hash)
	}
	for _, i := range sites {
		s := f.sites.at(i)
		if len(s.name) > 0 {
			sink += uint64(s.name[0])
		}
		if len(s.values.all) > 0 {
			sink += uint64(s.values.all[0].key)
		}
	}
	f.prefetchSink = sink
}

// fill copies a site's lists into n.
func (f *Fold) fill(n *window.Now, sv *siteValues) {
	f.sweep(sv)
	f.sort(sv)
	all := sv.all
	n.Pages, n.RestPages, all = f.top(n.Pages[:0], all, page)
	n.Sources, n.RestSources, all = f.top(n.Sources[:0], all, source)
	n.Countries, n.RestCountries, all = f.top(n.Countries[:0], all, country)
	n.Devices, n.RestDevices, _ = f.top(n.Devices[:0], all, device)
}

// top appends to c the values of a dimension with the most visitors, at most window.MaxCounts, in descending
// order and then by name. The dimension's values are the first of all. It returns the visitors of its other
// values and the values of the other dimensions.
func (f *Fold) top(c []window.Count, all []value, d dimension) (top []window.Count, others uint32,
	rest []value) {
	keys := f.sortKeys[:0]
	for i := 0; i < len(all) && all[i].key.dimension() == d; i++ {
		keys = append(keys, uint64(math.MaxUint32-all[i].active)<<32|uint64(i))
	}
	if len(keys) > 1 {
		slices.Sort(keys)
	}
	for n, key := range keys {
		v := all[uint32(key)]
		if n < window.MaxCounts {
			c = append(c, window.Count{Name: f.names.text(v.key.name()), Active: v.active})
		} else {
			others += v.active
		}
	}
	f.sortKeys = keys
	return c, others, all[len(keys):]
}
