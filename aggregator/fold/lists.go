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

// value is one name in one list of one site, for as long as a visitor holds it.
type value struct {
	name   string
	active uint32
	place  int32 // in its list
}

// list is the values that the visitors of a site hold, in the order in which they were last given: the next order is nearly the same, and so
// is quickly found.
type list struct {
	values []int32
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
	i := f.values.add(value{name: name, place: int32(len(l.values))})
	l.values = append(l.values, i)
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

func (f *Fold) release(s *site, d dimension, i int32) {
	if i == nobody {
		return
	}
	v := f.values.at(i)
	if v.active > 1 {
		v.active--
		return
	}
	l := &s.lists[d]
	last := len(l.values) - 1
	l.values[v.place] = l.values[last]
	f.values.at(l.values[last]).place = v.place
	l.values = l.values[:last]
	if l.of != nil {
		delete(l.of, v.name)
	}
	f.values.remove(i)
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
	i := f.value(&s.lists[d], name)
	f.values.at(i).active++
	f.release(s, d, held)
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

// top appends the values that most visitors hold to c.
func (f *Fold) top(c []window.Count, s *site, d dimension) (top []window.Count, rest uint32) {
	values := s.lists[d].values
	if len(values) > 1 {
		slices.SortFunc(values, func(a, b int32) int {
			x, y := f.values.at(a), f.values.at(b)
			if x.active != y.active {
				return cmp.Compare(y.active, x.active)
			}
			return strings.Compare(x.name, y.name)
		})
	}
	for place, i := range values {
		v := f.values.at(i)
		v.place = int32(place)
		if place < window.MaxCounts {
			c = append(c, window.Count{Name: v.name, Active: v.active})
		} else {
			rest += v.active
		}
	}
	return c, rest
}
