package main

import (
	"fmt"
	"slices"
	"time"
)

// printTable prints the figures of all servers, and Nowcast's beside the goals and the best peer. The bare
// loop ("write") is no peer but the lower bound.
func printTable(all []figures, n int, alone, beside []time.Duration) {
	fmt.Printf("\n%-12s %14s %16s %18s %14s %8s\n", fmt.Sprintf("%d viewers", n), "memory each",
		"CPU a frame", "first to last", "connects/s", "a frame")
	for _, m := range all {
		fmt.Printf("%-12s %11.2f KB %13.2f µs %18v %14.0f %6d B\n", m.name, m.memory/1024, m.cpu,
			m.spread.Round(time.Millisecond), m.connects, m.bytes)
	}
	i := slices.IndexFunc(all, func(m figures) bool { return m.name == "nowcast" })
	if i < 0 {
		return
	}
	own := all[i]
	best := func(value func(figures) float64) string { return besideBestPeer(all, own, value) }
	fmt.Printf("\n%-52s %-12s %-14s %-8s %s\n", "what", "goal", "figure", "", "beside the best peer")
	printGoal("user-space memory a viewer", "≤ 1.5 KB", fmt.Sprintf("%.2f KB", own.memory/1024),
		own.memory <= 1536, best(func(m figures) float64 { return m.memory }))
	printGoal("CPU a frame and viewer", "≤ 9 µs", fmt.Sprintf("%.2f µs", own.cpu), own.cpu <= 9,
		best(func(m figures) float64 { return m.cpu })+" (goal: ≤ 0.75)")
	printGoal(fmt.Sprintf("one frame to %d viewers, first to last", n), fmt.Sprintf("≤ %d ms", n/80),
		own.spread.Round(time.Millisecond).String(), own.spread <= time.Duration(n)*time.Millisecond/80,
		best(func(m figures) float64 { return float64(m.spread) }))
	connects := "no gin beside it"
	if j := slices.IndexFunc(all, func(m figures) bool { return m.name == "gin" }); j >= 0 {
		connects = fmt.Sprintf("%.2f of gin's stream without a snapshot", own.connects/all[j].connects)
	}
	printGoal("new connections, key and snapshot of a busy site", "≥ 5,000/s",
		fmt.Sprintf("%.0f/s", own.connects), own.connects >= 5000, connects)
	printGoal("new connections, key and snapshot of a quiet site", "≥ 5,000/s",
		fmt.Sprintf("%.0f/s", own.quiet), own.quiet >= 5000, "")
	if len(beside) > 0 {
		p99 := quantile(beside, .99).Round(time.Millisecond)
		printGoal(fmt.Sprintf("record to glass at 250ms beside %d viewers, p99", n), "≤ 500 ms", p99.String(),
			p99 <= 500*time.Millisecond, fmt.Sprintf("%v without them",
				quantile(alone, .99).Round(time.Millisecond)))
	}
}

func printGoal(what, goal, figure string, met bool, ratio string) {
	verdict := "MISSED"
	if met {
		verdict = "met"
	}
	fmt.Printf("%-52s %-12s %-14s %-8s %s\n", what, goal, figure, verdict, ratio)
}

// besideBestPeer is Nowcast's value as a ratio of the lowest among the peers.
func besideBestPeer(all []figures, own figures, value func(figures) float64) string {
	var peer *figures
	for i := range all {
		m := &all[i]
		if m.name != "nowcast" && m.name != "write" && (peer == nil || value(*m) < value(*peer)) {
			peer = m
		}
	}
	if peer == nil {
		return "no peer"
	}
	return fmt.Sprintf("%.2f of %s", value(own)/value(*peer), peer.name)
}
