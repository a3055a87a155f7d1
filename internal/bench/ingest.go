package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"nowcast/internal/retry"
)

// benchIngest measures the ingest role, each server in a process of its own: nowcast, a gin route that
// answers 202 and does nothing, and two that do all that nowcast does with a beacon but write the event by
// kafka-go's Writer. Of those two "writer" is on net/http, as the route that does nothing is, and
// "writer-here" on nowcast's own server.
func benchIngest(ctx context.Context) error {
	k, err := startIngestKafka(ctx)
	if err != nil {
		return err
	}
	defer k.stop()
	rates := map[string]float64{}
	for round := range 3 { // in turn, so that a change of the machine's speed affects all
		for _, kind := range []string{"nothing", "nowcast", "writer", "writer-here"} {
			rate, err := measureIngest(ctx, k, kind, round == 0 && !strings.HasPrefix(kind, "writer"))
			if err != nil {
				return err
			}
			rates[kind] = max(rates[kind], rate)
		}
	}
	fmt.Printf("%-34s %.2f of doing nothing, %.1f × kafka-go's Writer, %.1f × it on nowcast's server\n",
		"best of each, 256 connections", rates["nowcast"]/rates["nothing"], rates["nowcast"]/rates["writer"],
		rates["nowcast"]/rates["writer-here"])

	s, err := k.serve(ctx, "nowcast")
	if err != nil {
		return err
	}
	defer s.stop()
	half := blast{addr: s.addr, site: ingestSite, conns: 256, rate: rates["nowcast"] / 2, span: time.Second}
	half.run(ctx) // warm
	half.span = ingestSpan
	for range 3 {
		printQuantiles(fmt.Sprintf("half load, %.0f beacons/s", half.rate), half.run(ctx).latencies)
	}
	return measureIdleConnections(ctx, s)
}

const ingestSpan = 6 * time.Second

// measureIngest prints what a server takes from 256 connections and, if single is set, from one. It returns
// the rate of 256.
func measureIngest(ctx context.Context, k *ingestKafka, kind string, single bool) (rate float64, err error) {
	s, err := k.serve(ctx, kind)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	conns := []int{256}
	if single {
		conns = append(conns, 1)
	}
	for _, n := range conns {
		b := blast{addr: s.addr, site: ingestSite, conns: n, span: time.Second}
		b.run(ctx) // warm
		b.span = ingestSpan
		before := cpuOf(s.pid)
		a := b.run(ctx)
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if n := a.other + a.unavailable + a.tooMany; n > 0 {
			return 0, fmt.Errorf("measure %s: %d answers aren't 202", kind, n)
		}
		cpu := cpuOf(s.pid) - before
		fmt.Printf("%-34s %8.0f beacons/s, %.1f µs of CPU each\n", fmt.Sprintf("%s, %d connections", kind, n),
			a.rate(ingestSpan), cpu.Seconds()*1e6/float64(max(1, a.accepted)))
		printQuantiles("", a.latencies)
		if n == 256 {
			rate = a.rate(ingestSpan)
		}
	}
	return rate, nil
}

// measureIdleConnections opens ten thousand that send one beacon each, and prints the memory of a connection.
func measureIdleConnections(ctx context.Context, s *ingestServer) error {
	const n = 10_000
	b := blast{addr: s.addr, site: ingestSite}
	before := pssKB(s.pid)
	for i := range n {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(b.request(i)); err != nil {
			return err
		}
	}
	if err := retry.Sleep(ctx, settleTime); err != nil {
		return err
	}
	fmt.Printf("%-34s %.1f KB each\n", "10,000 idle connections", float64(pssKB(s.pid)-before)/n)
	return nil
}
