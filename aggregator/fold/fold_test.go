package fold

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run applies a log, numbered from 0, and calls each with the result of every envelope: its final rows by
// time, then the provisional ones.
func run(w Windows, log []Envelope, from, to int, each func(i int, rows []window.Second, o Outcome)) {
	for i := from; i < to; i++ {
		e := log[i]
		e.Offset, e.Events = int64(i), slices.Clone(e.Events)
		rows, o := w.Apply(&e)
		rows = slices.Clone(rows)
		w.Fold.Provisional(func(s *window.Second) { rows = append(rows, *s) })
		// Rows of an emission have no order: visitors leave in the order in which they came.
		slices.SortFunc(rows, func(a, b window.Second) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Site, b.Site),
				cmp.Compare(a.Version, b.Version))
		})
		if each != nil {
			each(i, rows, o)
		}
	}
}

// lists returns the current lists of a site.
func lists(f *Fold, name string) (n window.Now) {
	i := f.findSite(name, hashOf(name))
	if i == absent {
		return n
	}
	n.Site = name
	f.fill(&n, &f.sites.at(i).values)
	return n
}

// known returns the sites of a fold.
func known(f *Fold) (names []string) {
	for _, s := range f.siteTable.slots {
		if s.index1 != 0 {
			names = append(names, f.sites.at(s.index1-1).name)
		}
	}
	slices.Sort(names)
	return names
}

var (
	histories = flag.Int("histories", 16, "how many random histories to check")
	firstSeed = flag.Uint64("seed", 0, "of the first")
)

// each runs a check on n seeds, as many at a time as there are cores, and stops after the first failure.
func each(t *testing.T, n int, check func(seed uint64) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !t.Failed() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				seed := *firstSeed + uint64(i)
				if err := caught(seed, check); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	wg.Wait()
}

// caught returns a panic of a check as an error.
func caught(seed uint64, check func(seed uint64) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return check(seed)
}

// TestHistories compares every history with the oracle: the watermark, each event's class, every final row.
// No final row changes, and no version has two contents.
func TestHistories(t *testing.T) {
	var mu sync.Mutex
	var sum Outcome
	each(t, *histories, func(seed uint64) (bad error) {
		fail := func(format string, a ...any) {
			if bad == nil {
				bad = fmt.Errorf(format, a...)
			}
		}
		log := history(seed)
		want, watermarks, outcomes, _ := oracle(small(), log)
		got := map[string]window.Second{}
		versions := map[string]window.Second{}
		w := NewWindows(small())
		run(w, log, 0, len(log), func(i int, rows []window.Second, o Outcome) {
			if w.Classifier.Watermark() != watermarks[i] || o != outcomes[i] {
				fail("offset %d: watermark %d %+v, want %d %+v", i, w.Classifier.Watermark(), o,
					watermarks[i], outcomes[i])
			}
			if i > 0 && watermarks[i] < watermarks[i-1] {
				fail("offset %d: the watermark falls", i)
			}
			if !o.Retried && o.Counted+o.Late+o.Stale+o.Duplicate != len(log[i].Events) {
				fail("offset %d: %d events became %+v", i, len(log[i].Events), o)
			}
			mu.Lock()
			sum = Outcome{false, sum.Counted + o.Counted, sum.Late + o.Late, sum.Stale + o.Stale,
				sum.Duplicate + o.Duplicate}
			mu.Unlock()
			for _, s := range rows {
				key := fmt.Sprint(s.Site, s.At)
				if f, has := got[key]; has {
					fail("offset %d: %+v after the final %+v", i, s, f)
				}
				if last, has := versions[key]; has && s.Version <= last.Version {
					fail("offset %d: version falls from %+v to %+v", i, last, s)
				}
				versions[key] = s
				if s.Final {
					s.Version = 0
					got[key] = s
				}
			}
		})
		for k := range want {
			if got[k] != want[k] {
				fail("%s: got %+v, want %+v", k, got[k], want[k])
			}
		}
		if len(got) != len(want) {
			fail("%d final rows, want %d", len(got), len(want))
		}
		return bad
	})
	if !t.Failed() && (sum.Late == 0 || sum.Stale == 0 || sum.Duplicate == 0 || sum.Late > sum.Counted) {
		t.Errorf("the histories are no test: %+v", sum)
	}
}

// state returns the observable state of the stages.
func state(w Windows) string {
	var all []window.Now
	for _, site := range known(w.Fold) {
		if n := lists(w.Fold, site); len(n.Pages) > 0 {
			all = append(all, n)
		}
	}
	return fmt.Sprintf("%d %d %d %+v", w.Classifier.logTime, w.Classifier.watermark,
		w.Classifier.openEvents, all)
}

// TestWarmUp checks that a warm-up followed by the rest of the log has the result of the whole log, and
// that half a warm-up has another one.
func TestWarmUp(t *testing.T) {
	differs := func(seed uint64, warm, lazy int64, limit int) string {
		rules := small()
		rules.MaxOpenEvents = limit
		log := history(seed)
		type after struct {
			state   string
			seconds []window.Second
		}
		commits := func(i int) bool { return i%197 == int(seed%197) }
		compared := func(i int) bool { return i%16 == 0 }
		var whole []after
		w := NewWindows(rules)
		run(w, log, 0, len(log), func(i int, rows []window.Second, o Outcome) {
			whole = append(whole, after{seconds: slices.Clone(rows)})
			if compared(i) || commits(i) {
				whole[i].state = state(w)
			}
		})
		watermark := NewClassifier(rules)
		for i := range log {
			if watermark.Begin(log[i].Header, log[i].Time) {
				for j := range log[i].Events {
					e := log[i].Events[j]
					watermark.Classify(&e)
				}
				watermark.End()
			}
			if !commits(i) || watermark.Watermark() == None {
				continue
			}
			commit := i + 1
			from := slices.IndexFunc(log,
				func(e Envelope) bool { return e.Time >= watermark.Watermark()-warm })
			if from < 0 || from > commit {
				from = commit
			}
			w := NewWindows(rules)
			for i := from; i < commit; i++ {
				e := log[i]
				e.Offset, e.Events = int64(i), slices.Clone(e.Events)
				w.Warm(&e, watermark.Watermark()+lazy)
			}
			w.Fold.Provisional(func(*window.Second) {})
			if w.Classifier.Watermark() != watermark.Watermark() {
				return fmt.Sprintf("commit %d: watermark %d, want %d", commit, w.Classifier.Watermark(),
					watermark.Watermark())
			}
			if got := state(w); got != whole[i].state {
				return fmt.Sprintf("commit %d:\n got %s\nwant %s", commit, got, whole[i].state)
			}
			bad := ""
			run(w, log, commit, min(len(log), commit+200), func(i int, rows []window.Second, o Outcome) {
				if bad == "" && (!slices.Equal(rows, whole[i].seconds) || compared(i) &&
					state(w) != whole[i].state) {
					bad = fmt.Sprintf("commit %d, offset %d:\n got %s %+v\nwant %s %+v", commit, i,
						state(w), rows, whole[i].state, whole[i].seconds)
				}
			})
			if bad != "" {
				return bad
			}
		}
		return ""
	}
	var noticed, lazy atomic.Int64
	each(t, *histories, func(seed uint64) error {
		limit := 1 << 20
		if seed%3 == 0 {
			limit = 20 + int(seed)
		}
		if d := differs(seed, smallWarmUp, 0, limit); d != "" {
			return errors.New(d)
		}
		if seed-*firstSeed < 10 && differs(seed, smallWarmUp/2, 0, limit) != "" {
			noticed.Add(1)
		}
		if seed-*firstSeed < 10 && differs(seed, smallWarmUp, 36_000, limit) != "" {
			lazy.Add(1)
		}
		return nil
	})
	if !t.Failed() && (noticed.Load() == 0 || lazy.Load() == 0) {
		t.Error("half a warm-up, or half of the fold's, does as well: the histories are no test")
	}
}

// TestLists compares the lists with a recount: each provisionally active visitor is in each list once, at
// the page of its latest event.
func TestLists(t *testing.T) {
	each(t, *histories, func(seed uint64) error {
		log := history(seed)
		_, watermarks, _, all := oracle(small(), log)
		w := NewWindows(small())
		run(w, log, 0, len(log), nil)
		final := watermarks[len(log)-1] / 1000
		for _, site := range []string{"x", "y", "z"} {
			at := map[string]counted{}
			for _, c := range all {
				if c.site == site && c.second >= final-small().Active && c.time >= at[c.who].time {
					at[c.who] = c
				}
			}
			pages := map[string]uint32{}
			for _, c := range at {
				pages[c.path]++
			}
			n := lists(w.Fold, site)
			got := map[string]uint32{}
			for _, c := range n.Pages {
				got[c.Name] = c.Active
			}
			if !maps.Equal(got, pages) {
				return fmt.Errorf("site %s: pages %v, want %v", site, got, pages)
			}
			for name, list := range map[string][]window.Count{"sources": n.Sources,
				"countries": n.Countries, "devices": n.Devices} {
				sum := uint32(0)
				for _, c := range list {
					sum += c.Active
				}
				if sum != uint32(len(at)) {
					return fmt.Errorf("site %s: %d visitors by %s, want %d", site, sum, name, len(at))
				}
			}
		}
		return nil
	})
}

// TestForgets checks that no state outlives its last visitor.
func TestForgets(t *testing.T) {
	log := history(1)
	w := NewWindows(small())
	run(w, log, 0, len(log), nil)
	last := start + 10*length
	for i := range 3 {
		w.Apply(&Envelope{Offset: 1 << 20, Time: last + int64(i)*70_000,
			Header: event.Header{Node: 1, Sequence: uint64(i + 1), Low: last + int64(i)*70_000}})
	}
	f := w.Fold
	var n window.Now
	f.Lists(1, 1, &n, func() {
		if len(n.Pages) > 0 {
			t.Errorf("a visitor is left: %+v", n)
		}
	})
	got := []int{f.siteTable.used, f.visitors.len(), len(f.visitors.aliases), len(f.open), len(f.expiry),
		f.sites.len(), f.visitors.slab.len(), f.names.slab.len(), f.names.table.used,
		len(f.dirtyBuckets), len(f.dirtySites), len(w.Classifier.openSeconds), w.Classifier.openEvents,
		int(w.Classifier.ids.newest - None), len(w.Classifier.nodes) - 1}
	if !reflect.DeepEqual(got, make([]int, len(got))) {
		t.Errorf("left over: %v", got)
	}
}
