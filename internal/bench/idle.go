package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/retry"
)

const (
	idleSpan = time.Minute
	loadRate = 500 // beacons a second
)

// benchIdle measures a `nowcast all` from outside: its memory, CPU time and wake-ups without a beacon or a
// viewer, and its memory at loadRate.
func benchIdle(ctx context.Context, s *server) error {
	fmt.Printf("ready after %v\n", s.startTime.Round(time.Millisecond))
	if err := retry.Sleep(ctx, idleSpan); err != nil { // after a minute with nobody there it is idle
		return err
	}
	before := s.usages()
	if err := retry.Sleep(ctx, idleSpan); err != nil {
		return err
	}
	printUsages("idle for a minute", before, s.usages(), idleSpan)
	before = s.usages()
	load := exec.CommandContext(ctx, nowcastBinary, "load", "--server", s.url,
		"--rate", strconv.Itoa(loadRate), "--visitors", "5000", "--duration", idleSpan.String())
	load.Stderr = os.Stderr
	if err := load.Run(); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	printUsages(fmt.Sprintf("%d beacons a second", loadRate), before, s.usages(), idleSpan)
	if err := retry.Sleep(ctx, settleTime); err != nil {
		return err
	}
	after := s.usages()
	printUsages("a minute later", after, after, settleTime)
	return nil
}

// usage is what a process takes.
type usage struct {
	name           string
	pss, anonymous int // KB
	cpu            time.Duration
	wakeups        int // of all threads, since they began
}

// usages are those of the server's processes, itself the last.
func (s *server) usages() (all []usage) {
	for _, pid := range append(children(s.pid), s.pid) {
		u := usage{cpu: cpuOf(pid), wakeups: wakeups(pid)}
		u.pss, u.anonymous = memory(pid)
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(cmdline), "\x00")
		u.name = args[min(1, len(args)-1)]
		all = append(all, u)
	}
	return all
}

// wakeups counts how often a thread of a process began to run after it had waited.
func wakeups(pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range tasks {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				switches, _ := strconv.Atoi(strings.TrimSpace(v))
				n += switches
			}
		}
	}
	return n
}

func printUsages(when string, before, after []usage, span time.Duration) {
	fmt.Println(when)
	sum := usage{name: "all"}
	print := func(u usage) {
		fmt.Printf("  %-22s %6.1f MB, of it anonymous %6.1f MB  %6.2f %% of a core  %6.1f wake-ups/s\n",
			u.name, float64(u.pss)/1024, float64(u.anonymous)/1024,
			100*u.cpu.Seconds()/span.Seconds(), float64(u.wakeups)/span.Seconds())
	}
	for i, u := range after {
		u.cpu -= before[i].cpu
		u.wakeups -= before[i].wakeups
		print(u)
		sum.pss, sum.anonymous = sum.pss+u.pss, sum.anonymous+u.anonymous
		sum.cpu, sum.wakeups = sum.cpu+u.cpu, sum.wakeups+u.wakeups
	}
	print(sum)
}
