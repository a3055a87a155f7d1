package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nowcast/internal/e2e/feed"
)

var drainViewers = flag.Int("drain-viewers", 300, "how many viewers TestDrain moves to another streamer")

// A streamer that receives SIGTERM hands over its viewers: all are at the other replica within 30 s, which
// has no more new connections a second than the drain pace, and no viewer misses a second or receives one
// twice.
func TestDrain(t *testing.T) {
	const site = "busy.example.com"
	w := startStreams(t, 2, 20, []feed.Site{{Domain: site}})
	n := *drainViewers
	var counts viewerCounts
	var draining atomic.Bool
	var mu sync.Mutex
	var moves []time.Time
	onOpen := func(replica int) {
		mu.Lock()
		defer mu.Unlock()
		if replica == 1 {
			moves = append(moves, time.Now())
		}
	}
	choose := func() int { // as a load balancer that polls /readyz
		if draining.Load() {
			return 1
		}
		return 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	viewers := make([]*viewer, n)
	for i := range viewers {
		v := &viewer{w: w, random: rand.New(rand.NewPCG(*chaosSeed, uint64(i))), sites: []string{site},
			rate: "1s", key: w.key, counts: &counts, stay: 1000 * time.Hour, browser: true, choose: choose,
			onOpen: onOpen, accounts: map[string]*account{site: {site: site, truth: w.feed}}}
		viewers[i] = v
		all.Go(func() { v.follow(ctx) })
		if i%200 == 199 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	eventually(t, time.Minute, "all viewers are connected", func(context.Context) error {
		if opened := counts.opened.Load(); opened < int64(n) {
			return fmt.Errorf("%d of %d", opened, n)
		}
		return nil
	})
	time.Sleep(3 * time.Second)
	begin := time.Now()
	draining.Store(true)
	code := make(chan int, 1)
	go func() { code <- w.replicas[0].proc.stop(t) }()
	moved := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(moves)
	}
	for moved() < n && time.Since(begin) < time.Minute {
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(begin)
	if c := <-code; c != 0 {
		t.Errorf("SIGTERM: exit %d", c)
	}
	stopped := time.Since(begin)
	time.Sleep(3 * time.Second)
	cancel()
	all.Wait()
	faulty := 0
	for i, v := range viewers {
		a := v.accounts[site]
		a.compareTotal()
		faults := append(v.faults, a.faults...)
		if a.resumed == 0 {
			faults = append(faults, "it never resumed")
		}
		if len(faults) > 0 {
			if faulty++; faulty <= 10 {
				t.Errorf("viewer %d: %s", i, strings.Join(faults, "; "))
			}
		}
	}
	slices.SortFunc(moves, time.Time.Compare)
	// within is the largest number of moves in any span.
	within := func(span time.Duration) (most int) {
		for i, j := 0, 0; j < len(moves); j++ {
			for moves[j].Sub(moves[i]) >= span {
				i++
			}
			most = max(most, j-i+1)
		}
		return most
	}
	most := within(4*time.Second) / 4
	pace := max(1000, n/16) // see push.Engine.Drain
	t.Logf("%d viewers: all at the other streamer after %v, the first one had ended after %v; "+
		"%d new connections in the busiest second, %d a second in the busiest four, the pace is %d; "+
		"%d viewers with faults", n,
		took.Round(10*time.Millisecond), stopped.Round(10*time.Millisecond), within(time.Second), most,
		pace, faulty)
	if took > 30*time.Second {
		t.Errorf("%v to hand over %d viewers", took, n)
	}
	// All viewers receive their frames at the same moment of each second, which keeps this process busy.
	// Viewers that reconnect meanwhile do so together, so the pace is a mean over four seconds.
	if most > pace*11/10 {
		t.Errorf("%d new connections a second for four seconds, the pace is %d", most, pace)
	}
}
