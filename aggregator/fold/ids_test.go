package fold

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestIDs compares ids with a map that forgets nothing, with as many as make tables grow, drop expired ids
// and shrink.
func TestIDs(t *testing.T) {
	const memory = 1000
	each(t, 4, func(seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 3))
		m, all := newIDs(memory), map[id]int64{}
		next, watermark := uint64(0), int64(None)
		for now := start; now < start+30_000; now++ {
			rate := []int{100, 1, 30}[(now-start)/10_000]
			for range r.IntN(2 * rate) {
				n := next
				if r.IntN(3) == 0 { // a repeat
					n -= min(n, r.Uint64N(uint64(2000*rate)))
				}
				next++
				k, at := id{n * 0xd6e8feb86659fd93, n % 3}, now-r.Int64N(100)
				last, known := all[k]
				known = known && last+memory > watermark
				if known {
					all[k] = max(at, last)
				} else {
					all[k] = at
				}
				if want := known && at-last < memory; m.duplicate(k, at, watermark) != want {
					return fmt.Errorf("id %d at %d, last at %d: want %t", n, at-start, last-start, want)
				}
			}
			if r.IntN(10) == 0 {
				watermark = now - 200
			}
		}
		slots, used := 0, 0
		for _, in := range m.tables {
			slots, used = slots+len(in.slots), used+in.used
		}
		if slots > 1<<18 || used > slots {
			return fmt.Errorf("%d slots with %d ids", slots, used)
		}
		if m.release(watermark + 1_000_000); m.newest != None {
			return errors.New("they are kept for ever")
		}
		return nil
	})
}
