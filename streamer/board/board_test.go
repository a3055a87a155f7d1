package board

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"nowcast/internal/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const T = 1_795_435_200

// emission is one whose watermark passes the second at.
func emission(offset, at int64, rows ...window.Second) *window.Emission {
	end := (at + 1) * 1000
	return &window.Emission{
		Version: 1, Epoch: window.Epoch, Offset: offset, Watermark: end, Now: end, Seconds: rows,
	}
}

func second(site string, at int64, n uint32, final bool, offset int64) window.Second {
	r := window.Second{
		Site: site, At: at, Pageviews: n, Visitors: n, Events: n, Active: n, Final: final, Revision: n,
		Version: window.RowVersion(window.Epoch, final, offset),
	}
	if final {
		r.Revision++
	}
	return r
}

func TestPartitionsAddUp(t *testing.T) {
	b := New(2)
	v := b.Watch("x")
	defer v.Unwatch()
	b.Apply(0, 0, emission(1, T-1, second("x", T, 3, false, 1)))
	b.Apply(1, 0, emission(1, T-1, second("x", T, 4, false, 1)))
	view := v.Latest()
	open := view.Provisional
	if view.LastFinal != T-1 || view.ActiveVisitors != 7 || open.Pageviews != 7 || open.Final {
		t.Fatalf("%+v", view)
	}
	b.TakeChanges()
	b.Apply(0, 0, emission(2, T, second("x", T, 5, true, 2)))
	if _, changed := take(b); len(changed) != 1 || changed[0] != v {
		t.Error("a changed row isn't notified")
	}
	if view = v.Latest(); view.LastFinal != T-1 || view.Provisional.Pageviews != 9 || view.Provisional.Final {
		t.Errorf("one partition alone makes a second final: %+v", view)
	}
	b.Apply(1, 0, emission(2, T, second("x", T, 4, true, 2)))
	if final, _ := take(b); final != T {
		t.Error("a final second isn't notified")
	}
	if s := v.Seconds(T-1, T); len(s) != 1 || !s[0].Final || s[0].Pageviews != 9 {
		t.Errorf("%+v", s)
	}
}

// take returns the changes that the board has notified of.
func take(b *Board) (int64, []*Site) {
	select {
	case <-b.Changed():
		return b.TakeChanges()
	default:
		return 0, nil
	}
}

// In whatever order and however often the rows of a partition arrive, the sums are those of each row's
// highest version.
func TestOrderAndCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's history
		type message struct {
			partition int
			e         *window.Emission
		}
		var all []message
		add := func(partition int, row window.Second) {
			e := &window.Emission{Version: 1, Epoch: window.Epoch, Seconds: []window.Second{row}}
			all = append(all, message{partition, e})
		}
		want := map[int64]uint32{}
		const parts = 3
		for p := range parts {
			for at := int64(T); at < T+20; at++ {
				n := uint32(r.IntN(4))
				if n == 0 {
					continue
				}
				for k := uint32(1); k <= n; k++ {
					add(p, second("x", at, k, false, int64(k)))
				}
				add(p, second("x", at, n, true, 9))
				want[at] += n
			}
		}
		all = append(all, all[:r.IntN(len(all)+1)]...)
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		b := New(parts)
		for _, m := range all {
			b.Apply(m.partition, 0, m.e)
		}
		for p := range parts {
			b.Apply(p, 0, emission(10, T+19))
		}
		v := b.Watch("x")
		defer v.Unwatch()
		for _, s := range v.Seconds(0, T+19) {
			if s.Pageviews != want[s.At] || !s.Final {
				t.Fatalf("second %d: %+v, want %d", s.At-T, s, want[s.At])
			}
			delete(want, s.At)
		}
		if len(want) > 0 {
			t.Fatalf("missing: %v", want)
		}
	})
}

func TestLists(t *testing.T) {
	b := New(2)
	v := b.Watch("x")
	defer v.Unwatch()
	pages := func(at int64, offset int64, rest uint32, c ...window.Count) *window.Emission {
		e := emission(offset, at)
		version := window.RowVersion(window.Epoch, false, offset)
		e.Nows = []window.Now{{Site: "x", At: at, Version: version, Pages: c, RestPages: rest}}
		return e
	}
	b.Apply(0, 0, pages(T, 1, 2, window.Count{Name: "/", Active: 5}, window.Count{Name: "/b", Active: 1}))
	b.Apply(1, 0, pages(T, 1, 1, window.Count{Name: "/b", Active: 4}, window.Count{Name: "/a", Active: 1}))
	b.Apply(1, 0, pages(T-1, 0, 9, window.Count{Name: "/old", Active: 9})) // older than the row before
	var merger ListMerger
	lists := merger.Merge(v.Latest())
	if got := fmt.Sprint(lists.Pages, lists.RestPages); got != "[{/ 5} {/b 5} {/a 1}] 3" {
		t.Error(got)
	}
}

// A site without seconds and active visitors is dropped, unless somebody watches it.
func TestSweep(t *testing.T) {
	b := New(1)
	v := b.Watch("watched")
	for i := range 1000 {
		b.Apply(0, 0, emission(1, T, second(fmt.Sprint("site", i), T, 1, true, 1)))
	}
	for at := int64(T + 1); at < T+SnapshotSeconds+90; at += 10 {
		var inactive []window.Second
		if at > T+SnapshotSeconds {
			for i := range 1000 {
				inactive = append(inactive, second(fmt.Sprint("site", i), at, 0, true, at))
			}
		}
		b.Apply(0, 0, emission(at, at, inactive...))
	}
	if len(b.sites) != 1 {
		t.Errorf("%d sites are kept", len(b.sites))
	}
	v.Unwatch()
}

func TestOtherEpochsAndPartitionsAreIgnored(t *testing.T) {
	b := New(1)
	e := emission(1, T, second("x", T, 1, true, 1))
	e.Epoch++
	b.Apply(0, 0, e)
	b.Apply(7, 0, emission(1, T, second("x", T, 1, true, 1)))
	b.Apply(-1, 0, emission(1, T, second("x", T, 1, true, 1)))
	if b.ActiveVisitors("x") != 0 || b.lastFinal != 0 {
		t.Error("they count")
	}
}

// The state with a final second is what each partition had said when its watermark passed the second,
// however far an instance has read the partitions since.
func TestInstancesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const parts, seconds = 3, 12
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)) //nolint:gosec // a test's history
		var logs [parts][]*window.Emission
		for p := range logs {
			for i := range int64(4 * seconds) { // four a second
				at := T + i/4
				ms := at*1000 + i%4*250
				e := &window.Emission{
					Version: 1, Epoch: window.Epoch, Offset: i, Watermark: ms - 1100, Now: ms + int64(p),
				}
				if r.IntN(2) == 0 {
					row := second("x", at, uint32(r.IntN(50)), false, i)
					row.Events = 1
					e.Seconds = append(e.Seconds, row)
					e.Nows = append(e.Nows, window.Now{
						Site: "x", At: at, Version: window.RowVersion(window.Epoch, false, i),
						Pages: []window.Count{{Name: "/", Active: row.Active}},
					})
				}
				logs[p] = append(logs[p], e)
			}
		}
		show := func(skew int) map[int64]string {
			b := New(parts)
			v := b.Watch("x")
			defer v.Unwatch()
			out := map[int64]string{}
			var next [parts]int
			shown := int64(0)
			for {
				var readable []int // partitions that are less than skew ahead of the others
				for p := range next {
					others := min(next[(p+1)%parts], next[(p+2)%parts])
					if next[p] < len(logs[p]) && next[p] < others+skew {
						readable = append(readable, p)
					}
				}
				if len(readable) == 0 {
					return out
				}
				p := readable[r.IntN(len(readable))]
				b.Apply(p, int64(next[p]), logs[p][next[p]])
				next[p]++
				for final := b.LastFinal(); shown < final; {
					if shown = max(shown+1, T); shown <= final {
						var merger ListMerger
						s := v.AsOf(shown)
						out[shown] = fmt.Sprint(s.ActiveVisitors, s.LogTime, merger.Merge(s))
					}
				}
			}
		}
		a, b := show(1), show(12)
		if len(a) != seconds-3 { // the watermark is 1.1 s behind
			t.Fatalf("only %d seconds are final", len(a))
		}
		for at := range a {
			if a[at] != b[at] {
				t.Fatalf("second %d: %s and %s", at-T, a[at], b[at])
			}
		}
	})
}

// The number of visitors with a value that a partition doesn't list is an upper bound.
func TestVisitorsWith(t *testing.T) {
	b := New(2)
	v := b.Watch("x")
	defer v.Unwatch()
	for p, n := range []window.Now{
		{Pages: []window.Count{{Name: "/", Active: 9}, {Name: "/a", Active: 4}}, RestPages: 3},
		{Pages: []window.Count{{Name: "/", Active: 1}}},
	} {
		e := emission(1, T)
		n.Site, n.At, n.Version = "x", T, window.RowVersion(window.Epoch, false, 1)
		e.Nows = []window.Now{n}
		b.Apply(p, 0, e)
	}
	for _, row := range []struct {
		value string
		n     uint32
		exact bool
	}{{"/", 10, true}, {"/a", 4, true}, {"/nowhere", 3, false}} {
		if n, exact := v.Latest().VisitorsWith(Pages, row.value); n != row.n || exact != row.exact {
			t.Errorf("%s: %d %v", row.value, n, exact)
		}
	}
	if n, exact := v.Latest().VisitorsWith(Countries, "DE"); n != 0 || !exact {
		t.Error(n, exact)
	}
}

// The offset of the record whose watermark passed a second is kept for as long as the second is on the
// board.
func TestWatermarkOffsets(t *testing.T) {
	b := New(1)
	for i := range int64(2 * SnapshotSeconds) {
		b.Apply(0, i, emission(i, T+i))
	}
	const n = SnapshotSeconds
	for second, want := range map[int64]int64{2*n - 1: 2*n - 1, n: n, 2 * n: -1} {
		if got := b.WatermarkOffsets(T + second); got[0] != want {
			t.Errorf("%d: %v, want %d", second, got, want)
		}
	}
}

// The cuts of a log are one span, from the first second that may lack events to the last restart. It is told
// for as long as it reaches into the seconds asked for.
func TestCut(t *testing.T) {
	b := New(2)
	if got := b.CutSince(0); got != (Cut{}) || b.CutAfter(0) {
		t.Errorf("without a cut: %+v", got)
	}
	b.Cut(T*1000+700, (T+60)*1000+5)
	b.Cut(T*1000+1700, (T+60)*1000+5) // another partition
	want := Cut{After: T - 2, At: T + 60}
	if got := b.CutSince(T + 60); got != want {
		t.Errorf("two partitions: %+v, want %+v", got, want)
	}
	if got := b.CutSince(T + 61); got != (Cut{}) {
		t.Errorf("after the cut: %+v", got)
	}
	b.Cut(0, (T+90)*1000) // a partition that has no record left
	if got := b.CutSince(T + 61); got != (Cut{After: T - 2, At: T + 90}) {
		t.Errorf("a second cut: %+v", got)
	}
	if !b.CutAfter(T+90) || b.CutAfter(T+91) {
		t.Error("CutAfter differs from the newest cut")
	}
}
