package group

import (
	"maps"
	"slices"
)

// assign spreads the partitions 0 to n-1 evenly over the members (a sticky assignor). Each member keeps the
// partitions that it claims to own, up to its share: a new owner of a partition has to read minutes of its
// log first.
func assign(n int, claims map[string][]int) map[string][]int {
	members := slices.Sorted(maps.Keys(claims))
	taken := make([]bool, n)
	assigned := make(map[string][]int, len(members))
	take := func(id string, p int) {
		taken[p] = true
		assigned[id] = append(assigned[id], p)
	}
	share, larger := n/len(members), n%len(members) // so many members get one more
	for _, id := range members {
		assigned[id] = nil
		for _, p := range claims[id] {
			if p < 0 || p >= n || taken[p] {
				continue
			}
			if len(assigned[id]) < share {
				take(id, p)
			} else if len(assigned[id]) == share && larger > 0 {
				larger--
				take(id, p)
			}
		}
	}
	for p := range n {
		if !taken[p] {
			take(slices.MinFunc(members, func(a,
				b string) int {
				return len(assigned[a]) - len(assigned[b])
			}), p)
		}
	}
	for _, id := range members {
		slices.Sort(assigned[id])
	}
	return assigned
}
