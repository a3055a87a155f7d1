package fold

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"nowcast/internal/window"
)

// sinks are what owners write to: the windows topic, the tables `events` and `windows`, and the committed
// positions. Each write is compared with the reference.
type sinks struct {
	ref     *reference
	commits [lanes]position
	has     [lanes]bool

	topic   [][]window.Second // final rows by record
	visible map[place]window.Second
	nows    map[string]window.Now

	places [][]bool       // of the log whose rows are in `events`
	events map[rawKey]raw // `events FINAL`
	stored map[place]window.Second

	durable [lanes]int // every offset before is known to be in the lane's sink
	tailed  int        // … and every record of the topic in `windows`
	over    int        // so many of the reference's ordered finals are known to be visible
	err     error      // the first
}

func newSinks(f *reference) *sinks {
	s := &sinks{ref: f, visible: map[place]window.Second{}, nows: map[string]window.Now{},
		events: map[rawKey]raw{}, stored: map[place]window.Second{}}
	for _, rows := range f.raws {
		most := -1
		for i := range rows {
			most = rows[i].index
		}
		s.places = append(s.places, make([]bool, most+1))
	}
	return s
}

func (s *sinks) fail(format string, a ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, a...)
	}
}

// put is a write that reaches its sink, perhaps late or for the second time.
func (s *sinks) put(r *record) {
	var finals []window.Second
	for _, row := range r.seconds {
		p := placeOf(&row)
		if row.Final {
			finals = append(finals, row)
			if want, has := s.ref.finals[p]; !has || want != row {
				s.fail("4: a final row is written as %+v, by the reference %+v", row, want)
			}
		} else if want, has := s.ref.rows[versioned{p, row.Version}]; !has || want != row {
			s.fail("2: a provisional row is written as %+v, by the reference %+v", row, want)
		}
		if old, has := s.visible[p]; !has || row.Version > old.Version {
			if old.Final {
				s.fail("4: the final row %+v is replaced by %+v", old, row)
			}
			s.visible[p] = row
		}
	}
	if len(finals) > 0 {
		s.topic = append(s.topic, finals)
	}
	for i := range r.nows {
		n := &r.nows[i]
		if want := s.ref.listed(n.Site, n.Version); want.At != n.At || !sameLists(&want, n) {
			s.fail("2: lists are written as %+v, by the reference %+v", *n, want)
		}
		if old, has := s.nows[n.Site]; !has || n.Version > old.Version {
			s.nows[n.Site] = *n
		}
	}
	// The streamer relies on this: every second before a record's watermark is visible.
	for ; s.over < len(s.ref.ordered) && (s.ref.ordered[s.over].At+1)*1000 <= r.watermark; s.over++ {
		if want := s.ref.ordered[s.over]; s.visible[placeOf(&want)] != want {
			s.fail("4: the watermark %d is written before the final row %+v", r.watermark, want)
		}
	}
	for _, row := range r.raws {
		if !slices.Contains(s.ref.raws[row.offset], row) {
			s.fail("1: an event is written as %+v, not so by the reference", row)
			return
		}
		s.places[row.offset][row.index] = true
		if old, has := s.events[row.rawKey]; !has || row.fresh() || !old.fresh() {
			s.events[row.rawKey] = row
		}
	}
	for _, row := range r.stored {
		if old, has := s.stored[placeOf(&row)]; !has || row.Version > old.Version {
			s.stored[placeOf(&row)] = row
		}
	}
}

// commit is a commit that reaches the coordinator. The sink must have everything before it.
func (s *sinks) commit(lane int, c position) {
	for d := &s.durable[lane]; *d < c.offset; *d++ {
		if lane == windowsLane {
			for _, want := range s.ref.made[*d] {
				if s.visible[placeOf(&want)] != want {
					s.fail("8: the commit of offset %d is past the final row %+v of offset %d", c.offset,
						want, *d)
				}
			}
			continue
		}
		for _, want := range s.ref.raws[*d] {
			if !s.places[*d][want.index] {
				s.fail("8: the commit of offset %d is past the event %+v", c.offset, want)
			}
		}
	}
	for ; s.tailed < c.tail; s.tailed++ {
		for _, want := range s.topic[s.tailed] {
			if s.stored[placeOf(&want)].Version < want.Version {
				s.fail("8: the commit of record %d of the windows topic is past the row %+v", c.tail, want)
			}
		}
	}
	s.commits[lane], s.has[lane] = c, true
}

// settled checks the tables once all owners have written everything.
func (s *sinks) settled() {
	f := s.ref
	want := maps.Clone(f.finals)
	maps.Copy(want, f.open)
	if p, differ := difference(s.visible, want); differ {
		s.fail("3: in the end the row %v is %+v, by the reference %+v", p, s.visible[p], want[p])
	}
	if p, differ := difference(s.stored, f.finals); differ {
		s.fail("9: in the end the row %v is %+v in the table, %+v in the topic", p, s.stored[p], f.finals[p])
	}
	for site, all := range f.lists {
		n := s.nows[site]
		if want := all[len(all)-1]; !sameLists(&want, &n) {
			s.fail("3: in the end the lists of %s are %+v, by the reference %+v", site, n, want)
		}
	}
	counts := map[place]uint32{}
	fresh, all := 0, map[rawKey]bool{}
	for _, rows := range f.raws {
		for _, row := range rows {
			all[row.rawKey] = true
			if row.fresh() {
				fresh++
			}
			if !s.places[row.offset][row.index] {
				s.fail("1: an event is missing: %+v", row)
			}
		}
	}
	for _, row := range s.events {
		if row.fresh() {
			fresh--
		}
		if row.counts {
			counts[place{row.site, row.time / 1000}]++
		}
	}
	if fresh != 0 || len(s.events) != len(all) {
		s.fail("1: %d rows without repeats, want %d; %d fresh ones are missing", len(s.events), len(all),
			fresh)
	}
	for p, row := range s.visible {
		if row.Events != counts[p] {
			s.fail("10: %d events of %v are stored as counted, but the window is %+v", counts[p], p, row)
		}
		delete(counts, p)
	}
	for p, n := range counts {
		s.fail("10: %d events of %v are stored as counted, but there is no window", n, p)
	}
}

// difference returns the first key whose values differ.
func difference(a, b map[place]window.Second) (first place, differ bool) {
	for _, m := range []map[place]window.Second{a, b} {
		for p := range m {
			if a[p] != b[p] && (!differ || p.second < first.second || p.second == first.second &&
				strings.Compare(p.site, first.site) < 0) {
				first, differ = p, true
			}
		}
	}
	return first, differ
}
