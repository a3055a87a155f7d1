package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// benchSync measures what --sync always costs the sender of a beacon: beacons a second and the time to a 202,
// over HTTP, beside a server with --sync 1s. Slices of both take turns, so that other load slows both.
func benchSync(ctx context.Context, site string, eachSecond *server) error {
	always, err := startServer(ctx, "--sync", "always")
	if err != nil {
		return err
	}
	defer always.stop()
	if err := always.addSite(ctx, site); err != nil {
		return err
	}
	const rounds, slice = 10, 2 * time.Second
	for _, conns := range []int{1, 16, 256} {
		var all [2]answers
		for range rounds {
			for i, s := range []*server{eachSecond, always} {
				addr := strings.TrimPrefix(s.url, "http://")
				all[i].add(blast{addr: addr, site: site, conns: conns, span: slice}.run(ctx))
			}
		}
		for i, mode := range []string{"1s", "always"} {
			a := &all[i]
			if refused := a.tooMany + a.unavailable + a.other + a.broken; a.accepted == 0 || refused > 0 {
				return fmt.Errorf("post beacons with --sync %s: %d answered 202, %d not", mode, a.accepted,
					refused)
			}
			name := fmt.Sprintf("%d connections, --sync %s", conns, mode)
			fmt.Printf("%-34s %.0f beacons/s\n", name, a.rate(rounds*slice))
			printQuantiles("", a.latencies)
		}
		fmt.Printf("%-34s %.2f\n", "always / 1s", float64(all[1].accepted)/float64(all[0].accepted))
	}
	return nil
}
