package fold

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"nowcast/internal/event"
	"nowcast/internal/window"
)

// TestManyPages compares sites with more pages than window.MaxCounts with a recount.
func TestManyPages(t *testing.T) {
	each(t, 4, func(seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 4))
		w := NewWindows(small())
		type who struct {
			site string
			id   uint64
		}
		type where struct {
			second int64
			page   string
		}
		at := map[who]where{}
		for i := range int64(200) {
			now := start + 1000*i
			e := Envelope{Offset: i, Time: now,
				Header: event.Header{Node: 1, Sequence: uint64(i + 1), Low: now - 1}}
			pages := []int{10, 1000, 200, 30}[i/50]
			for range r.IntN(300) {
				v := who{string(rune('a' + r.IntN(2))), 1 + r.Uint64N(2000)}
				p := fmt.Sprint("/", r.IntN(pages))
				at[v] = where{now / 1000, p}
				e.Events = append(e.Events, event.Event{Time: now, Kind: event.Pageview, Site: v.site,
					Visitor: v.id, Path: p})
			}
			w.Apply(&e)
			maps.DeleteFunc(at, func(_ who,
				x where) bool {
				return x.second+small().Active <= (now-1)/1000-1
			})
			if i%10 != 0 {
				continue
			}
			for _, site := range []string{"a", "b"} {
				pages := map[string]uint32{}
				for v, x := range at {
					if v.site == site {
						pages[x.page]++
					}
				}
				var want []window.Count
				for p, n := range pages {
					want = append(want, window.Count{Name: p, Active: n})
				}
				slices.SortFunc(want, func(a, b window.Count) int {
					return cmp.Or(cmp.Compare(b.Active, a.Active), cmp.Compare(a.Name, b.Name))
				})
				rest := uint32(0)
				for len(want) > window.MaxCounts {
					rest += want[len(want)-1].Active
					want = want[:len(want)-1]
				}
				if got := lists(w.Fold, site); !slices.Equal(got.Pages, want) || got.RestPages != rest {
					return fmt.Errorf("second %d of site %s:\n got %v %d\nwant %v %d", i, site, got.Pages,
						got.RestPages, want, rest)
				}
			}
		}
		return nil
	})
}
