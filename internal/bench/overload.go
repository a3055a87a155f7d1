package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"nowcast/internal/retry"
)

// benchOverload sends twice the capacity of ingest for SPAN, and prints its answers, its memory, and the
// latencies at half of the capacity 3 s afterwards.
func benchOverload(ctx context.Context) error {
	span, err := time.ParseDuration(cmp.Or(os.Getenv("SPAN"), "1m"))
	if err != nil {
		return err
	}
	k, err := startIngestKafka(ctx)
	if err != nil {
		return err
	}
	defer k.stop()
	s, err := k.serve(ctx, "nowcast")
	if err != nil {
		return err
	}
	defer s.stop()
	const warm = 8 * time.Second
	capacity := blast{addr: s.addr, site: ingestSite, conns: 256, span: warm}.run(ctx).rate(warm)
	fmt.Printf("%-34s %.0f beacons/s\n", "capacity", capacity)
	resident := pssKB(s.pid)
	peak := resident
	var watch sync.WaitGroup
	watch.Go(func() {
		for end := time.Now().Add(span); time.Now().Before(end) && ctx.Err() == nil; {
			peak = max(peak, pssKB(s.pid))
			_ = retry.Sleep(ctx, time.Second)
		}
	})
	a := blast{addr: s.addr, site: ingestSite, conns: 4000, rate: 2 * capacity, span: span}.run(ctx)
	watch.Wait()
	fmt.Printf("%-34s %d × 202 (%.0f/s), %d × 429, %d × 503, %d others, %d connections broken\n",
		fmt.Sprintf("twice of that for %v", span), a.accepted, a.rate(span), a.tooMany, a.unavailable,
		a.other, a.broken)
	fmt.Printf("%-34s %d MB, before %d MB\n", "resident at most", peak>>10, resident>>10)
	if err := retry.Sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	half := blast{addr: s.addr, site: ingestSite, conns: 256, rate: capacity / 2, span: 5 * time.Second}
	printQuantiles("half load, 3 s afterwards", half.run(ctx).latencies)
	return ctx.Err()
}
