package fold

import (
	"cmp"
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

// value is one name in one list of one site, for as long as a visitor holds it.
type value struct {
	name   string
	active uint32
}

// place puts a visitor where its latest event was: latest by time, and of two at the same time the later one in the log. A custom event
// moves it as well: a visitor who sends no other would else stay on a page that the warm-up can't know.
//
// The source is that of the latest event that had one, for as long as the next event comes less than five minutes after it; then the
// visitor has come by itself (""). To keep the source for as long as the visit lasts, there would be no end to what a warm-up has to read.
func (f *Fold) place(v int32, e *event.Event) {
	x := f.visitors.at(v)
	s := f.sites.at(x.key.site)
	latest := e.Time >= x.time
	if latest {
		x.time = e.Time
		f.hold(s, x, page, e.Path)
		f.hold(s, x, country, e.Country)
		f.hold(s, x, device, e.Device)
	}
	from := ""
	if x.holds[source] != nobody {
		from = f.values.at(x.holds[source]).name
	}
	if e.Source != "" && e.Time >= x.sourceTime {
		from, x.sourceTime = e.Source, e.Time
	}
	if x.sourceTime <= x.time-f.rules.Active*1000 {
		from = ""
	}
	f.hold(s, x, source, from)
}

// hold moves a visitor from one value of a list to another.
func (f *Fold) hold(s *site, x *visitor, d dimension, name string) {
	held := x.holds[d]
	if held != nobody && f.values.at(held).name == name {
		return
	}
	i, known := s.values[d][name]
	if !known {
		name = strings.Clone(name)
		i = f.values.add(value{name: name})
		if s.values[d] == nil {
			s.values[d] = map[string]int32{}
		}
		s.values[d][name] = i
	}
	f.values.at(i).active++
	f.release(s, d, held)
	x.holds[d] = i
	f.list(s)
}

func (f *Fold) release(s *site, d dimension, i int32) {
	if i == nobody {
		return
	}
	if v := f.values.at(i); v.active > 1 {
		v.active--
		return
	}
	delete(s.values[d], f.values.at(i).name)
	f.values.remove(i)
}

// list says that a site's lists are news.
func (f *Fold) list(s *site) {
	if s.envelope != f.envelope {
		s.envelope = f.envelope
		f.changes.Nows = append(f.changes.Nows, s.name)
	}
}

// Lists fills n with where the site's present visitors are, as of the last envelope. They stay the same until the site is in Nows
// again, so that they are a function of the log up to the envelope that it was last in, whenever they are asked for. The name "" is
// that of an unknown value; of a source, that the visitor came by itself.
func (f *Fold) Lists(site string, n *window.Now) {
	n.Site = site
	n.Pages, n.Sources, n.Countries, n.Devices = n.Pages[:0], n.Sources[:0], n.Countries[:0], n.Devices[:0]
	n.RestPages, n.RestSources, n.RestCountries, n.RestDevices = 0, 0, 0, 0
	i, known := f.siteOf[site]
	if !known {
		return
	}
	s := f.sites.at(i)
	n.Pages, n.RestPages = f.top(n.Pages, s, page)
	n.Sources, n.RestSources = f.top(n.Sources, s, source)
	n.Countries, n.RestCountries = f.top(n.Countries, s, country)
	n.Devices, n.RestDevices = f.top(n.Devices, s, device)
}

// top appends the values that most visitors hold to the empty list c. It sorts a few lists' lengths at a time, so a site with very many
// pages costs little more than walking through them.
func (f *Fold) top(c []window.Count, s *site, d dimension) (top []window.Count, rest uint32) {
	cut := func() {
		slices.SortFunc(c, func(a, b window.Count) int {
			return cmp.Or(cmp.Compare(b.Active, a.Active), strings.Compare(a.Name, b.Name))
		})
		for len(c) > window.MaxCounts {
			rest += c[len(c)-1].Active
			c = c[:len(c)-1]
		}
	}
	for _, i := range s.values[d] {
		if len(c) == 8*window.MaxCounts {
			cut()
		}
		v := f.values.at(i)
		c = append(c, window.Count{Name: v.name, Active: v.active})
	}
	cut()
	return c, rest
}
