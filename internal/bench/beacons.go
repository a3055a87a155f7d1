package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// beacons counts single posts that were answered 202, from 1 and from 256 connections. The same server's answer to a beacon for a
// site that doesn't exist is the baseline: all of the HTTP work and none of the log's.
func beacons(ctx context.Context, s *server) error {
	const site = "bench.example.com"
	if err := s.site(ctx, site); err != nil {
		return err
	}
	for _, conns := range []int{1, 256} {
		var rates [2]float64
		for round, domain := range []string{site, "nobody.example"} {
			rate, lat, err := hammer(ctx, s, domain, conns)
			if err != nil {
				return err
			}
			rates[round] = rate
			name := fmt.Sprintf("%d connections, durable", conns)
			if round == 1 {
				name = fmt.Sprintf("%d connections, dropped unread", conns)
			}
			fmt.Printf("%-34s %.0f beacons/s\n", name, rate)
			quantiles("", lat)
		}
		fmt.Printf("%-34s %.2f\n", "durable / dropped", rates[0]/rates[1])
	}
	return nil
}

func hammer(ctx context.Context, s *server, domain string, conns int) (float64, []time.Duration, error) {
	const span = 8 * time.Second
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var sent atomic.Int64
	var mu sync.Mutex
	var lat []time.Duration
	var failed error
	var wg sync.WaitGroup
	for c := range conns {
		wg.Go(func() {
			var mine []time.Duration
			for i := 0; ctx.Err() == nil; i++ {
				t := time.Now()
				err := post(ctx, client, s.url, domain, "/", c*1000+i%1000)
				if err != nil && domain != "nobody.example" && ctx.Err() == nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				if ctx.Err() == nil {
					sent.Add(1)
					mine = append(mine, time.Since(t))
				}
			}
			mu.Lock()
			lat = append(lat, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return float64(sent.Load()) / span.Seconds(), lat, failed
}
