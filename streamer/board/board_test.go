package board

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"nowcast/internal/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const T = 1_795_435_200

// emission says that everything before the end of second at is final, with rows.
func emission(offset, at int64, rows ...window.Second) *window.Emission {
	return &window.Emission{Version: 1, Epoch: window.Epoch, Offset: offset, Watermark: (at + 1) * 1000, Now: (at + 1) * 1000, Seconds: rows}
}

func second(site string, at int64, n uint32, final bool, offset int64) window.Second {
	r := window.Second{Site: site, At: at, Pageviews: n, Visitors: n, Events: n, Active: n, Final: final, Revision: n, Version: window.RowVersion(window.Epoch, final, offset)}
	if final {
		r.Revision++
	}
	return r
}

func TestPartitionsAddUp(t *testing.T) {
	b := New(2)
	v := b.Watch("x")
	defer v.Close()
	b.Apply(0, emission(1, T-1, second("x", T, 3, false, 1)))
	b.Apply(1, emission(1, T-1, second("x", T, 4, false, 1)))
	view, advanced, changed := v.Look(T - 1)
	if view.Final != T-1 || view.Visitors != 7 || len(view.Seconds) != 1 || view.Seconds[0].Pageviews != 7 || view.Seconds[0].Final {
		t.Fatalf("%+v", view)
	}
	b.Apply(0, emission(2, T, second("x", T, 5, true, 2)))
	select {
	case <-changed:
	default:
		t.Error("a changed row wakes nobody")
	}
	if view, _, _ = v.Look(T - 1); view.Final != T-1 || view.Seconds[0].Pageviews != 9 || view.Seconds[0].Final {
		t.Errorf("one partition alone makes nothing final: %+v", view)
	}
	b.Apply(1, emission(2, T, second("x", T, 4, true, 2)))
	select {
	case <-advanced:
	default:
		t.Error("a final second wakes nobody")
	}
	if view, _, _ = v.Look(T - 1); view.Final != T || !view.Seconds[0].Final || view.Seconds[0].Pageviews != 9 {
		t.Errorf("%+v", view)
	}
}

// Whatever order rows arrive in within their partition, and however often, the sums are those of each key's highest version.
func TestOrderAndCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's history
		type message struct {
			part int
			e    *window.Emission
		}
		var all []message
		want := map[int64]uint32{}
		const parts = 3
		for p := range parts {
			for at := int64(T); at < T+20; at++ {
				n := uint32(r.IntN(4))
				if n == 0 {
					continue
				}
				for k := uint32(1); k <= n; k++ {
					all = append(all, message{p, &window.Emission{Version: 1, Epoch: window.Epoch, Seconds: []window.Second{second("x", at, k, false, int64(k))}}})
				}
				all = append(all, message{p, &window.Emission{Version: 1, Epoch: window.Epoch, Seconds: []window.Second{second("x", at, n, true, 9)}}})
				want[at] += n
			}
		}
		all = append(all, all[:r.IntN(len(all)+1)]...)
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		b := New(parts)
		for _, m := range all {
			b.Apply(m.part, m.e)
		}
		for p := range parts {
			b.Apply(p, emission(10, T+19))
		}
		v := b.Watch("x")
		defer v.Close()
		view, _, _ := v.Look(0)
		for _, s := range view.Seconds {
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
	defer v.Close()
	pages := func(at int64, offset int64, rest uint32, c ...window.Count) *window.Emission {
		e := emission(offset, at)
		e.Nows = []window.Now{{Site: "x", At: at, Version: window.RowVersion(window.Epoch, false, offset), Pages: c, RestPages: rest}}
		return e
	}
	b.Apply(0, pages(T, 1, 2, window.Count{Name: "/", Active: 5}, window.Count{Name: "/b", Active: 1}))
	b.Apply(1, pages(T, 1, 1, window.Count{Name: "/b", Active: 4}, window.Count{Name: "/a", Active: 1}))
	b.Apply(1, pages(T-1, 0, 9, window.Count{Name: "/old", Active: 9})) // older than what is known
	view, _, _ := v.Look(0)
	if got := fmt.Sprint(view.Lists.Pages, view.Lists.RestPages); got != "[{/ 5} {/b 5} {/a 1}] 3" {
		t.Error(got)
	}
}

// A site of which nothing is left is forgotten; one that is watched stays.
func TestForgets(t *testing.T) {
	b := New(1)
	v := b.Watch("watched")
	for i := range 1000 {
		b.Apply(0, emission(1, T, second(fmt.Sprint("site", i), T, 1, true, 1)))
	}
	for at := int64(T + 1); at < T+Span+3*margin; at += 10 {
		var gone []window.Second
		if at > T+Span {
			for i := range 1000 {
				gone = append(gone, window.Second{Site: fmt.Sprint("site", i), At: at, Final: true, Revision: 1, Version: window.RowVersion(window.Epoch, true, at)})
			}
		}
		b.Apply(0, emission(at, at, gone...))
	}
	if len(b.sites) != 1 {
		t.Errorf("%d sites are kept", len(b.sites))
	}
	v.Close()
}

func TestOtherEpochsAndPartitionsAreNoHarm(t *testing.T) {
	b := New(1)
	e := emission(1, T, second("x", T, 1, true, 1))
	e.Epoch++
	b.Apply(0, e)
	b.Apply(7, emission(1, T, second("x", T, 1, true, 1)))
	b.Apply(-1, emission(1, T, second("x", T, 1, true, 1)))
	if b.Visitors("x") != 0 || b.final != 0 {
		t.Error("they were taken")
	}
}

func TestConcurrentViewers(t *testing.T) {
	b := New(1)
	const seconds = 200
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v := b.Watch("x")
			defer v.Close()
			var given []int64
			for at := int64(T - 1); at < T+seconds-1; {
				view, advanced, _ := v.Look(at)
				if view.Final <= at {
					<-advanced
					continue
				}
				for _, s := range view.Seconds {
					if s.At <= view.Final {
						given = append(given, s.At)
					}
				}
				at = max(at, view.Final)
			}
			if len(given) != seconds || !slices.IsSorted(given) {
				t.Errorf("given %d of %d seconds", len(given), seconds)
			}
		})
	}
	for at := int64(T - 1); at < T+seconds; at++ {
		b.Apply(0, emission(at, at, second("x", at, 1, true, at)))
	}
	wg.Wait()
}
