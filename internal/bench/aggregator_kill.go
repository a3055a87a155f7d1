package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// measureKill measures how long there is no fresh frame when an aggregator is killed under 10,000 events/s
// and started again at once. Before that it fills up the log, so that its last sixteen minutes, which the
// warm-up reads, have that rate on average.
func (l *longLog) measureKill(ctx context.Context) error {
	const rate, warmUpEvents = 10_000, 16 * 60 * 10_000
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	span := time.Since(l.end) - time.Second
	logf("writing %d more events", warmUpEvents-logEvents)
	if err := l.write(ctx, l.end, span,
		float64(warmUpEvents-logEvents)/partitions/span.Seconds()); err != nil {
		return err
	}
	logf("killing an aggregator")
	defer background(ctx, func(ctx context.Context) error { return l.send(ctx, rate) })()
	watermarks := l.followWatermarks(ctx)
	// partitionsAfter counts the partitions whose watermark is past a moment.
	partitionsAfter := func(at time.Time) (n int) {
		for p := range watermarks {
			if watermarks[p].Load() > at.UnixMilli() {
				n++
			}
		}
		return n
	}
	a := &aggregatorProcess{log: filepath.Join(l.dir, "aggregator.log")}
	if err := a.start(ctx, l.addrs); err != nil {
		return err
	}
	defer a.kill()
	err := waitFor(ctx, 2*time.Minute,
		func() bool { return partitionsAfter(time.Now().Add(-2*time.Second)) == partitions })
	if err != nil {
		return fmt.Errorf("aggregator before the kill: %w: %s", err, a.logTail())
	}
	at := time.Now()
	err = waitFor(ctx, 10*time.Second, func() bool {
		return time.Since(at) > 3*time.Second && partitionsAfter(at) == partitions
	})
	if err != nil {
		return fmt.Errorf("aggregator before the kill: %w: %s", err, a.logTail())
	}
	a.kill()
	killed := time.Now()
	if err := a.start(ctx, l.addrs); err != nil {
		return err
	}
	var first time.Duration
	err = waitFor(ctx, 2*time.Minute, func() bool {
		n := partitionsAfter(killed)
		if n > 0 && first == 0 {
			first = time.Since(killed)
		}
		return n == partitions
	})
	if err != nil {
		return fmt.Errorf("aggregator after the kill: %w: %s", err, a.logTail())
	}
	last := time.Since(killed)
	got, err1 := a.lastLogged("got partitions")
	warmed, err2 := a.lastLogged("reading on")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	joined, warm := got.Sub(killed), warmed.Sub(killed)
	fmt.Printf("kill -9 at %d events/s: first fresh frame after %.2f s, of all partitions after %.2f s\n",
		rate, first.Seconds(), last.Seconds())
	fmt.Printf("  of that, until the group gave it partitions %.2f s (%s), warm-up of %.1f M events %.2f s, "+
		"catching up %.2f s\n",
		joined.Seconds(), a.membership(), float64(warmUpEvents)/1e6, (warm - joined).Seconds(),
		(last - warm).Seconds())
	return nil
}

// followWatermarks follows the windows topic from its end and keeps each partition's newest watermark, in
// unix ms.
func (l *longLog) followWatermarks(ctx context.Context) *[partitions]atomic.Int64 {
	var newest [partitions]atomic.Int64
	for p := range partitions {
		go func() {
			_, end, err := l.broker.Bounds(ctx, topic.Windows, p)
			if err != nil {
				logf("%v", err)
				return
			}
			var e window.Emission
			record := func(r broker.Record) error {
				if err := e.Decode(r.Value); err != nil {
					return err
				}
				newest[p].Store(max(newest[p].Load(), e.Watermark))
				return nil
			}
			_ = l.broker.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: p, From: end,
				Record: record})
		}()
	}
	return &newest
}

// aggregatorProcess is `nowcast aggregator` with the windows lane.
type aggregatorProcess struct {
	log    string
	static bool // the program knows static group membership (KIP-345)
	cmd    *exec.Cmd
}

func (a *aggregatorProcess) start(ctx context.Context, kafka []string) error {
	help, err := exec.CommandContext(ctx, nowcastBinary, "aggregator", "--help").Output()
	if err != nil {
		return fmt.Errorf("start %s (make build makes it): %w", nowcastBinary, err)
	}
	ops, err := freeAddrs(ctx, "127.0.0.1", 1)
	if err != nil {
		return err
	}
	args := []string{"aggregator", "--lanes", "windows", "--kafka", strings.Join(kafka, ","),
		"--ops-listen", ops[0]}
	if a.static = bytes.Contains(help, []byte("--instance")); a.static {
		args = append(args, "--instance", "bench")
	}
	f, err := os.Create(a.log)
	if err != nil {
		return err
	}
	defer f.Close()
	a.cmd = exec.CommandContext(ctx, nowcastBinary, args...)
	a.cmd.Stdout, a.cmd.Stderr = f, f
	return a.cmd.Start()
}

func (a *aggregatorProcess) kill() {
	_ = a.cmd.Process.Signal(syscall.SIGKILL)
	_ = a.cmd.Wait()
}

func (a *aggregatorProcess) membership() string {
	if a.static {
		return "a static member keeps its partitions"
	}
	return "a dynamic member's session lasts 10 s"
}

func (a *aggregatorProcess) logTail() []byte {
	b, _ := os.ReadFile(a.log)
	return b[max(0, len(b)-2000):]
}

// lastLogged is when the process last logged a message.
func (a *aggregatorProcess) lastLogged(message string) (at time.Time, err error) {
	for line := range bytes.Lines(a.logTail()) {
		var l struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal(line, &l) == nil && l.Msg == message {
			at = l.Time
		}
	}
	if at.IsZero() {
		return at, fmt.Errorf("find %q in the aggregator's log: not logged", message)
	}
	return at, nil
}
