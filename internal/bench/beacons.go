package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const unknownSite = "nobody.example"

// benchBeacons counts single posts that are answered 202, from 1 and from 256 connections. Beacons for a
// site that doesn't exist are the baseline: all of the HTTP work and none of the log's. Then it measures what
// --sync always costs.
func benchBeacons(ctx context.Context, s *server) error {
	const site = "bench.example.com"
	if err := s.addSite(ctx, site); err != nil {
		return err
	}
	for _, conns := range []int{1, 256} {
		durable, err := postFor(ctx, s, fmt.Sprintf("%d connections, durable", conns), site, conns)
		if err != nil {
			return err
		}
		dropped, err := postFor(ctx, s, fmt.Sprintf("%d connections, dropped unread", conns), unknownSite,
			conns)
		if err != nil {
			return err
		}
		fmt.Printf("%-34s %.2f\n", "durable / dropped", durable/dropped)
	}
	return benchSync(ctx, site, s)
}

// postFor posts for 8 s, on each connection as fast as it is answered, and returns the beacons a second.
func postFor(ctx context.Context, s *server, name, domain string, conns int) (rate float64, err error) {
	const span = 8 * time.Second
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var mu sync.Mutex
	var latencies []time.Duration
	var failed error
	var wg sync.WaitGroup
	for c := range conns {
		wg.Go(func() {
			var own []time.Duration
			for i := 0; ctx.Err() == nil; i++ {
				begin := time.Now()
				err := postBeacon(ctx, client, s.url, domain, "/", c*1000+i%1000)
				if err != nil && domain != unknownSite && ctx.Err() == nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				if ctx.Err() == nil {
					own = append(own, time.Since(begin))
				}
			}
			mu.Lock()
			latencies = append(latencies, own...)
			mu.Unlock()
		})
	}
	wg.Wait()
	rate = float64(len(latencies)) / span.Seconds()
	fmt.Printf("%-34s %.0f beacons/s\n", name, rate)
	printQuantiles("", latencies)
	return rate, failed
}
