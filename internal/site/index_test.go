package site

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// An index says what a map says, and a snapshot stays as it was.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	want, x := map[int]int{}, index[int, int]{}
	var old *snapshot[int, int]
	var oldWant map[int]int
	for step := range 3000 {
		for range r.IntN(1 + step/10) {
			k, v := r.IntN(5000), r.Int()
			if r.IntN(3) == 0 {
				delete(want, k)
				x.delete(k)
			} else {
				want[k] = v
				x.set(k, v)
			}
			if got, ok := x.latest(k); ok != (want[k] != 0) || got != want[k] {
				t.Fatalf("latest %d: %d %t, want %d", k, got, ok, want[k])
			}
		}
		x.publish()
		if k := r.IntN(5000); true {
			if got, ok := x.get(k); got != want[k] || ok != (want[k] != 0) {
				t.Fatalf("step %d, get %d: %d %t, want %d", step, k, got, ok, want[k])
			}
		}
		if step%500 == 0 {
			if got := maps.Collect(x.all()); !maps.Equal(got, want) {
				t.Fatalf("step %d: %d entries, want %d", step, len(got), len(want))
			}
			if old != nil && !maps.Equal(maps.Collect(old.all()), oldWant) {
				t.Fatalf("step %d: an old snapshot has changed", step)
			}
			old, oldWant = x.snapshot.Load(), maps.Clone(want)
		}
	}
}
