package fold

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// dimension is what a list of now is by.
type dimension int

const (
	page dimension = iota
	source
	country
	device
	dimensions
)

var holdsNothing = [dimensions]int32{nobody, nobody, nobody, nobody}

// never is the age of the source of a visitor who has had none.
const never = math.MaxUint32

// value is one name in one list of one site, in 8 bytes.
type value struct {
	key    valueKey
	active uint32 // visitors who hold it
}

// valueKey is the place of a name and, in the lowest bits, the dimension.
type valueKey uint32

const dimensionBits = 2

func keyOf(d dimension, name int32) valueKey { return valueKey(name)<<dimensionBits | valueKey(d) }

func (k valueKey) dimension() dimension { return dimension(k & (1<<dimensionBits - 1)) }

func (k valueKey) name() int32 { return int32(k >> dimensionBits) }

// list is the values that the visitors of a site hold, of all dimensions. To give it, values are put into an order in which names only decide
// between equal numbers: so they are kept in the order of dimensions and names, where comparing numbers is all that is left to do.
type list struct {
	values []value // in order as far as sorted, the rest is new since the list was last given
	sorted int32
	unheld int32  // of the values; they go when the list is given, or when there are too many
	of     *table // their places by key, once there are many
}

const (
	few  = 8  // values that nobody holds are nothing to care about
	many = 64 // values are too many to be searched one by one
)

func (k valueKey) hash() uint32 { return uint32(k) * 0x9e3779b1 >> 8 }

// find gives the place of a value; nobody: the list doesn't have it.
func (l *list) find(k valueKey) int32 {
	if l.of == nil {
		for i := range l.values {
			if l.values[i].key == k {
				return int32(i)
			}
		}
		return nobody
	}
	slot, i := l.of.first(k.hash())
	for i != nobody && l.values[i].key != k {
		slot, i = l.of.next(slot, k.hash())
	}
	return i
}

// moved says that values aren't where they were.
func (l *list) moved() {
	if len(l.values) <= many {
		l.of = nil
		return
	}
	if l.of == nil {
		l.of = &table{}
	}
	l.of.clear()
	for i := range l.values {
		l.of.add(l.values[i].key.hash(), int32(i))
	}
}

// value finds a value or adds it.
func (f *Fold) value(l *list, d dimension, text string) *value {
	hash := hashOf(text)
	n := f.names.find(text, hash)
	if n != nobody {
		if i := l.find(keyOf(d, n)); i != nobody {
			return &l.values[i]
		}
	} else {
		n = f.names.slab.add(name{text: strings.Clone(text), hash: hash})
		f.names.of.add(hash, n)
	}
	f.names.slab.at(n).uses++
	l.values = append(l.values, value{key: keyOf(d, n)})
	l.unheld++
	switch i := len(l.values) - 1; {
	case l.of != nil:
		l.of.add(keyOf(d, n).hash(), int32(i))
	case i >= many:
		l.moved()
	}
	return &l.values[len(l.values)-1]
}

func (f *Fold) release(l *list, d dimension, n int32) {
	if n == nobody {
		return
	}
	v := &l.values[l.find(keyOf(d, n))]
	v.active--
	if v.active > 0 {
		return
	}
	l.unheld++
	if int(l.unheld) > few+len(l.values)/2 {
		f.sweep(l)
	}
}

// sweep takes out the values that nobody holds.
func (f *Fold) sweep(l *list) {
	if l.unheld == 0 {
		return
	}
	rest, sorted := l.values[:0], int32(0)
	for place, v := range l.values {
		if v.active == 0 {
			f.names.release(v.key.name())
			continue
		}
		rest = append(rest, v)
		if place < int(l.sorted) {
			sorted++
		}
	}
	l.values, l.sorted, l.unheld = rest, sorted, 0
	l.moved()
}

// sort brings the values into their order. The new ones are sorted by themselves and then merged, from behind.
func (f *Fold) sort(l *list) {
	n := int(l.sorted)
	if n == len(l.values) {
		return
	}
	order := func(a, b value) int {
		if d := cmp.Compare(a.key.dimension(), b.key.dimension()); d != 0 {
			return d
		}
		return strings.Compare(f.names.text(a.key.name()), f.names.text(b.key.name()))
	}
	slices.SortFunc(l.values[n:], order)
	f.merging = append(f.merging[:0], l.values[n:]...)
	for to, j := len(l.values)-1, len(f.merging)-1; j >= 0; to-- {
		if n > 0 && order(l.values[n-1], f.merging[j]) > 0 {
			n--
			l.values[to] = l.values[n]
		} else {
			l.values[to] = f.merging[j]
			j--
		}
	}
	l.sorted = int32(len(l.values))
	l.moved()
}

// place puts a visitor where its latest event was: latest by time, and of two at the same time the later one in the log. A custom event
// moves it as well: a visitor who sends no other would else stay on a page that the warm-up can't know.
//
// The source is that of the latest event that had one, for as long as the next event comes less than five minutes after it; then the
// visitor has come by itself (""). To keep the source for as long as the visit lasts, there would be no end to what a warm-up has to read.
func (f *Fold) place(at int32, s *site, x *visitor, e *event.Event) {
	if e.Time >= x.time {
		if x.sourceAge != never {
			x.sourceAge = uint32(min(int64(x.sourceAge)+e.Time-x.time, never-1))
		}
		x.time = e.Time
		f.hold(at, s, x, page, e.Path)
		f.hold(at, s, x, country, e.Country)
		f.hold(at, s, x, device, e.Device)
	}
	from := ""
	if x.holds[source] != nobody {
		from = f.names.text(x.holds[source])
	}
	if age := x.time - e.Time; e.Source != "" && age <= int64(x.sourceAge) {
		from, x.sourceAge = e.Source, uint32(age)
	}
	if int64(x.sourceAge) >= f.rules.Active*1000 {
		from = ""
	}
	f.hold(at, s, x, source, from)
}

// hold moves a visitor from one value of a list to another.
func (f *Fold) hold(at int32, s *site, x *visitor, d dimension, name string) {
	held := x.holds[d]
	if held != nobody && f.names.text(held) == name {
		return
	}
	v := f.value(&s.list, d, name)
	if v.active == 0 {
		s.list.unheld--
	}
	v.active++
	x.holds[d] = v.key.name()
	f.release(&s.list, d, held)
	f.list(at, s)
}

// list says that a site's lists are news.
func (f *Fold) list(at int32, s *site) {
	if s.envelope != f.envelope {
		s.envelope = f.envelope
		f.listed = append(f.listed, at)
	}
}

// News gives the lists of where a site's present visitors are, of each site whose lists have changed since they were last given, but of one
// site not twice within pace unless it is empty now; at is the time by any clock in the unit of pace. What is given later is as new as it is
// then, and still a function of the log up to the envelope in its version: no later one has changed it. n is valid only during the call. The
// name "" is that of an unknown value; of a source, that the visitor came by itself.
func (f *Fold) News(at, pace int64, n *window.Now, give func()) {
	f.touch(f.news)
	rest := f.news[:0]
	for _, i := range f.news {
		s := f.sites.at(i)
		// That everybody has left isn't held back: whoever is born from a later commit may not know that there was such a site.
		if s.present > 0 && s.given != None && at-s.given < pace {
			rest = append(rest, i)
			continue
		}
		s.news, s.given = false, at
		n.Site, n.At, n.Version = s.name, s.listed/1000, window.RowVersion(window.Epoch, false, s.listedOffset)
		f.fill(n, &s.list)
		give()
		if s.present == 0 { // everybody has left, and now that is known
			f.siteOf.remove(s.hash, i)
			f.sites.remove(i)
		}
	}
	f.news = rest
}

// touch looks at sites and their lists before they are given, see Reader.Ahead.
func (f *Fold) touch(sites []int32) {
	seen := uint64(0)
	for _, i := range sites {
		seen += uint64(f.sites.at(i).hash)
	}
	for _, i := range sites {
		s := f.sites.at(i)
		if len(s.name) > 0 {
			seen += uint64(s.name[0])
		}
		if len(s.list.values) > 0 {
			seen += uint64(s.list.values[0].key)
		}
	}
	f.seen = seen
}

// fill puts what a list holds into n.
func (f *Fold) fill(n *window.Now, l *list) {
	f.sweep(l)
	f.sort(l)
	all := l.values
	n.Pages, n.RestPages, all = f.top(n.Pages[:0], all, page)
	n.Sources, n.RestSources, all = f.top(n.Sources[:0], all, source)
	n.Countries, n.RestCountries, all = f.top(n.Countries[:0], all, country)
	n.Devices, n.RestDevices, _ = f.top(n.Devices[:0], all, device)
}

// top takes those of a dimension, with which all begins, and appends to c the ones that most visitors hold, of two with as many the one whose
// name comes first.
func (f *Fold) top(c []window.Count, all []value, d dimension) (top []window.Count, others uint32, rest []value) {
	order := f.order[:0]
	for place := 0; place < len(all) && all[place].key.dimension() == d; place++ {
		order = append(order, uint64(math.MaxUint32-all[place].active)<<32|uint64(place))
	}
	if len(order) > 1 {
		slices.Sort(order)
	}
	for n, at := range order {
		v := all[uint32(at)]
		if n < window.MaxCounts {
			c = append(c, window.Count{Name: f.names.text(v.key.name()), Active: v.active})
		} else {
			others += v.active
		}
	}
	f.order = order
	return c, others, all[len(order):]
}
