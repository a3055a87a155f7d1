package group

import (
	"maps"
	"slices"
)

// assign spreads the partitions 0 to n-1 evenly over the members. A member keeps what it claims to have had, as far as its share goes:
// whoever gets a partition anew has to read minutes of its log first.
func assign(n int, claims map[string][]int) map[string][]int {
	members := slices.Sorted(maps.Keys(claims))
	taken := make([]bool, n)
	got := make(map[string][]int, len(members))
	give := func(id string, p int) {
		taken[p] = true
		got[id] = append(got[id], p)
	}
	share, more := n/len(members), n%len(members) // so many have one more
	for _, id := range members {
		got[id] = nil
		for _, p := range claims[id] {
			if p < 0 || p >= n || taken[p] {
				continue
			}
			if len(got[id]) < share {
				give(id, p)
			} else if len(got[id]) == share && more > 0 {
				more--
				give(id, p)
			}
		}
	}
	for p := range n {
		if !taken[p] {
			give(slices.MinFunc(members, func(a, b string) int { return len(got[a]) - len(got[b]) }), p)
		}
	}
	for _, id := range members {
		slices.Sort(got[id])
	}
	return got
}
