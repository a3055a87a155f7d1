package fold

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// place is the key of a row of windows in one partition.
type place struct {
	site   string
	second int64
}

// versioned is a key that may have one content.
type versioned struct {
	place
	version uint64
}

func placeOf(s *window.Second) place { return place{s.Site, s.At} }

// rawKey is the key of a row of the table `events`: its id is the client's, or (node, sequence, index).
type rawKey struct {
	site           string
	visitor        uint64
	time           int64
	client         [16]byte
	node, sequence uint64
	index          int
}

// raw is a row of the table `events`: its key, its place in the log and its class.
type raw struct {
	rawKey
	offset, index int
	class         Class
	counts        bool // as an event in its window
}

func (r *raw) fresh() bool { return r.class != Stale }

// tape plays a log. It hands out copies, since the stages clamp events.
type tape struct {
	log    []Envelope
	events []event.Event
}

func (t *tape) at(i int) *Envelope {
	e := t.log[i]
	t.events = append(t.events[:0], e.Events...)
	e.Offset, e.Events = int64(i), t.events
	return &e
}

// judge is the store lane: it returns the rows of an envelope, without retries and duplicates.
func judge(r *Classifier, e *Envelope) (rows []raw, o Outcome) {
	if !r.Begin(e.Header, e.Time) {
		return nil, Outcome{Retried: true}
	}
	for i := range e.Events {
		x := &e.Events[i]
		class := r.Classify(x)
		o.Add(class)
		if class == Duplicate {
			continue
		}
		row := raw{rawKey: rawKey{site: x.Site, visitor: x.Visitor, time: x.Time}, offset: int(e.Offset),
			index: i, class: class,
			counts: class == Counted && x.Kind != event.Engagement}
		if x.HasID {
			row.client = x.ID
		} else {
			row.node, row.sequence, row.rawKey.index = e.Header.Node, e.Header.Sequence, i
		}
		rows = append(rows, row)
	}
	r.End()
	return rows, o
}

// reference is the output of one reader that never crashes, envelope by envelope: all that any owner may
// ever write.
type reference struct {
	watermarks []int64
	finals     map[place]window.Second
	made       [][]window.Second           // by the envelope that made them final
	ordered    []window.Second             // finals by time
	rows       map[versioned]window.Second // provisional, of every version
	open       map[place]window.Second     // … the newest of seconds that aren't over at the log's end
	// by site, each content that its lists ever had; Version is the offset since when
	lists  map[string][]window.Now
	times  []int64 // log time after each envelope
	raws   [][]raw // by envelope
	events int
}

// refer runs the reference and compares it with the oracle.
func refer(rules Rules, log []Envelope) (*reference, error) {
	want, watermarks, outcomes, _ := oracle(rules, log)
	f := &reference{finals: map[place]window.Second{}, rows: map[versioned]window.Second{},
		open: map[place]window.Second{}, lists: map[string][]window.Now{}}
	w, r := NewWindows(rules), NewClassifier(rules)
	t := tape{log: log}
	last, stray := int64(None), uint64(0)
	for i := range log {
		raws, judged := judge(r, t.at(i))
		finals, o := w.Apply(t.at(i))
		f.raws, f.made = append(f.raws, raws), append(f.made, slices.Clone(finals))
		now := w.Classifier.Watermark()
		f.watermarks, f.times = append(f.watermarks, now), append(f.times, w.Classifier.LogTime())
		switch n := o.Counted + o.Late + o.Stale + o.Duplicate; {
		case now < last:
			return f, fmt.Errorf("7: the watermark falls at offset %d from %d to %d", i, last, now)
		case now != watermarks[i]:
			return f, fmt.Errorf("7: the watermark at offset %d is %d, by the oracle %d", i, now,
				watermarks[i])
		case o != outcomes[i]:
			return f, fmt.Errorf("10: the events at offset %d become %+v, by the oracle %+v", i, o,
				outcomes[i])
		case r.Watermark() != now || judged != o || len(raws) != n-o.Duplicate:
			return f, fmt.Errorf("9: the store lane makes %+v of offset %d, the windows lane %+v", judged,
				i, o)
		case !o.Retried && n != len(log[i].Events):
			return f, fmt.Errorf("10: %d events at offset %d become %+v", len(log[i].Events), i, o)
		}
		for _, s := range finals {
			if old, has := f.finals[placeOf(&s)]; has {
				return f, fmt.Errorf("4: a final row changes from %+v to %+v", old, s)
			}
			if s.Version != window.RowVersion(window.Epoch, true, int64(i)) {
				return f, fmt.Errorf("4: offset %d makes a row final that has another version: %+v", i, s)
			}
			f.finals[placeOf(&s)] = s
		}
		w.Fold.Provisional(func(s *window.Second) {
			f.rows[versioned{placeOf(s), s.Version}], f.open[placeOf(s)] = *s, *s
			if s.Version != window.RowVersion(window.Epoch, false, int64(i)) {
				stray = s.Version
			}
		})
		if stray != 0 {
			return f, fmt.Errorf("2: offset %d changes a row that has another version: %d", i, stray)
		}
		if len(log[i].Events) > 0 || now/1000 != last/1000 {
			f.list(w.Fold, i)
		}
		last = now
		f.events += len(log[i].Events)
	}
	maps.DeleteFunc(f.open, func(p place, _ window.Second) bool { _, final := f.finals[p]; return final })
	return f, f.compare(want)
}

// list keeps the lists of all sites after an envelope. It emits them as well, so that the reference forgets
// empty sites as owners do.
func (f *reference) list(stage *Fold, offset int) {
	for _, site := range known(stage) {
		n := lists(stage, site)
		n.Version = uint64(offset)
		if all := f.lists[site]; len(all) == 0 || !sameLists(&all[len(all)-1], &n) {
			f.lists[site] = append(all, n)
		}
	}
	var n window.Now
	stage.Lists(int64(offset), 0, &n, func() {})
}

// listed returns the lists of a site at a version.
func (f *reference) listed(site string, version uint64) window.Now {
	_, _, offset := window.SplitVersion(version)
	all := f.lists[site]
	i, found := slices.BinarySearchFunc(all, uint64(offset),
		func(n window.Now, at uint64) int { return cmp.Compare(n.Version, at) })
	if !found {
		i--
	}
	n := window.Now{Site: site}
	if i >= 0 {
		n = all[i]
	}
	n.Version, n.At = version, f.times[offset]/1000
	return n
}

func sameLists(a, b *window.Now) bool {
	return slices.Equal(a.Pages, b.Pages) && slices.Equal(a.Sources, b.Sources) &&
		slices.Equal(a.Countries, b.Countries) &&
		slices.Equal(a.Devices, b.Devices) && a.RestPages == b.RestPages && a.RestSources == b.RestSources &&
		a.RestCountries == b.RestCountries && a.RestDevices == b.RestDevices
}

// compare compares all final rows with the oracle's, which have no version.
func (f *reference) compare(want map[string]window.Second) error {
	for _, s := range f.finals {
		f.ordered = append(f.ordered, s)
	}
	slices.SortFunc(f.ordered, func(a, b window.Second) int {
		return cmp.Or(cmp.Compare(a.At, b.At),
			cmp.Compare(a.Site, b.Site))
	})
	for _, s := range f.ordered {
		k := fmt.Sprint(s.Site, s.At)
		s.Version = 0
		if want[k] != s {
			return fmt.Errorf("3: a final row is %+v, by the oracle %+v", s, want[k])
		}
		delete(want, k)
	}
	for _, s := range want {
		return fmt.Errorf("3: a final row is missing: %+v", s)
	}
	return nil
}
