package fold

import (
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

// value is one name in one list of one site.
type value struct {
	name   string
	active uint32 // visitors who hold it
}

// list is the values that the visitors of a site hold. To give it, values are put into an order in which names only decide between equal
// numbers: so they are kept in the order of names, where comparing numbers is all that is left to do.
type list struct {
	values []int32 // by name as far as sorted, the rest is new since the list was last given
	sorted int32
	unheld int32            // of the values; they go when the list is given, or when there are too many
	of     map[string]int32 // by name, once there are many
}

// few values are searched one by one.
const few = 8

func (f *Fold) value(l *list, name string) int32 {
	if l.of == nil {
		for _, i := range l.values {
			if f.values.at(i).name == name {
				return i
			}
		}
	} else if i, known := l.of[name]; known {
		return i
	}
	name = strings.Clone(name)
	i := f.values.add(value{name: name})
	l.values = append(l.values, i)
	l.unheld++
	if l.of != nil {
		l.of[name] = i
	} else if len(l.values) > few {
		l.of = map[string]int32{}
		for _, i := range l.values {
			l.of[f.values.at(i).name] = i
		}
	}
	return i
}

func (f *Fold) release(l *list, i int32) {
	if i == nobody {
		return
	}
	v := f.values.at(i)
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
	for place, i := range l.values {
		v := f.values.at(i)
		if v.active > 0 {
			rest = append(rest, i)
			if place < int(l.sorted) {
				sorted++
			}
			continue
		}
		if l.of != nil {
			delete(l.of, v.name)
		}
		f.values.remove(i)
	}
	l.values, l.sorted, l.unheld = rest, sorted, 0
}

// sort brings the values into the order of their names. The new ones are sorted by themselves and then merged, from behind.
func (f *Fold) sort(l *list) {
	n := int(l.sorted)
	if n == len(l.values) {
		return
	}
	byName := func(a, b int32) int { return strings.Compare(f.values.at(a).name, f.values.at(b).name) }
	slices.SortFunc(l.values[n:], byName)
	f.merging = append(f.merging[:0], l.values[n:]...)
	for to, j := len(l.values)-1, len(f.merging)-1; j >= 0; to-- {
		if n > 0 && byName(l.values[n-1], f.merging[j]) > 0 {
			n--
			l.values[to] = l.values[n]
		} else {
			l.values[to] = f.merging[j]
			j--
		}
	}
	l.sorted = int32(len(l.values))
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
		from = f.values.at(x.holds[source]).name
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
	if held != nobody && f.values.at(held).name == name {
		return
	}
	l := &s.lists[d]
	i := f.value(l, name)
	v := f.values.at(i)
	if v.active == 0 {
		l.unheld--
	}
	v.active++
	f.release(l, held)
	x.holds[d] = i
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
		n.Pages, n.RestPages = f.top(n.Pages[:0], s, page)
		n.Sources, n.RestSources = f.top(n.Sources[:0], s, source)
		n.Countries, n.RestCountries = f.top(n.Countries[:0], s, country)
		n.Devices, n.RestDevices = f.top(n.Devices[:0], s, device)
		give()
		if s.present == 0 { // everybody has left, and now that is known
			delete(f.siteOf, s.name)
			f.sites.remove(i)
		}
	}
	f.news = rest
}

// top appends the values that most visitors hold to c, of two with as many the one whose name comes first.
func (f *Fold) top(c []window.Count, s *site, d dimension) (top []window.Count, rest uint32) {
	l := &s.lists[d]
	f.sweep(l)
	f.sort(l)
	order := f.order[:0]
	for place, i := range l.values {
		order = append(order, uint64(math.MaxUint32-f.values.at(i).active)<<32|uint64(place))
	}
	slices.Sort(order)
	for n, at := range order {
		v := f.values.at(l.values[uint32(at)])
		if n < window.MaxCounts {
			c = append(c, window.Count{Name: v.name, Active: v.active})
		} else {
			rest += v.active
		}
	}
	f.order = order
	return c, rest
}
