package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
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

// killed measures how long nobody hears of the present when an aggregator is killed under 10,000 events/s and started again at once.
// Before that the log is filled up, so that its last sixteen minutes, which are what has to be read again, have that rate on average.
func (r *rig) killed(ctx context.Context) error {
	const present, all = 10_000, 16 * 60 * 10_000 // events/s, and events of a warm-up
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lasts := time.Since(r.end) - time.Second
	say("writing %d events more", all-events)
	if err := r.write(ctx, r.end, lasts, float64(all-events)/partitions/lasts.Seconds()); err != nil {
		return err
	}
	say("killing an aggregator")
	defer run1(ctx, func(ctx context.Context) error { return r.send(ctx, present) })()
	newest := r.watch(ctx)
	after := func(at time.Time) (n int) {
		for p := range newest {
			if newest[p].Load() > at.UnixMilli() {
				n++
			}
		}
		return n
	}
	c := &child{log: filepath.Join(r.dir, "aggregator.log")}
	if err := c.start(ctx, r.addrs); err != nil {
		return err
	}
	defer c.kill()
	if err := until(ctx, 2*time.Minute, func() bool { return after(time.Now().Add(-2*time.Second)) == partitions }); err != nil {
		return fmt.Errorf("aggregator before the kill: %w: %s", err, c.said())
	}
	at := time.Now()
	if err := until(ctx, 10*time.Second, func() bool { return time.Since(at) > 3*time.Second && after(at) == partitions }); err != nil {
		return fmt.Errorf("aggregator before the kill: %w: %s", err, c.said())
	}
	c.kill()
	at = time.Now()
	if err := c.start(ctx, r.addrs); err != nil {
		return err
	}
	var first time.Duration
	err := until(ctx, 2*time.Minute, func() bool {
		n := after(at)
		if n > 0 && first == 0 {
			first = time.Since(at)
		}
		return n == partitions
	})
	if err != nil {
		return fmt.Errorf("aggregator after the kill: %w: %s", err, c.said())
	}
	last, joined, on := time.Since(at), c.when("got partitions").Sub(at), c.when("reading on").Sub(at)
	fmt.Printf("kill -9 at %d events/s: first fresh frame after %.2f s, of all partitions after %.2f s\n", present, first.Seconds(), last.Seconds())
	fmt.Printf("  of that, until the group gave it partitions %.2f s (%s), warm-up of %.1f M events %.2f s, catching up %.2f s\n",
		joined.Seconds(), c.membership(), float64(all)/1e6, (on - joined).Seconds(), (last - on).Seconds())
	return nil
}

// watch follows the windows topic from its end and keeps each partition's newest watermark.
func (r *rig) watch(ctx context.Context) *[partitions]atomic.Int64 {
	var newest [partitions]atomic.Int64
	for p := range partitions {
		go func() {
			_, end, err := r.broker.Bounds(ctx, topic.Windows, p)
			if err != nil {
				say("%v", err)
				return
			}
			var e window.Emission
			_ = r.broker.Follow(ctx, broker.Follower{Topic: topic.Windows, Partition: p, From: end, Record: func(rec broker.Record) error {
				if err := e.Decode(rec.Value); err != nil {
					return err
				}
				newest[p].Store(max(newest[p].Load(), e.Watermark))
				return nil
			}})
		}()
	}
	return &newest
}

// child is `nowcast aggregator` with the windows lane.
type child struct {
	log    string
	static bool // the program knows members whose place is kept
	cmd    *exec.Cmd
}

func (c *child) start(ctx context.Context, addrs []string) error {
	const bin = "bin/nowcast"
	help, err := exec.CommandContext(ctx, bin, "aggregator", "--help").Output()
	if err != nil {
		return fmt.Errorf("start %s (make build makes it): %w", bin, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.Close()
	args := []string{"aggregator", "--lanes", "windows", "--kafka", strings.Join(addrs, ","), "--ops-listen", l.Addr().String()}
	if c.static = bytes.Contains(help, []byte("--instance")); c.static {
		args = append(args, "--instance", "bench")
	}
	f, err := os.Create(c.log)
	if err != nil {
		return err
	}
	defer f.Close()
	c.cmd = exec.CommandContext(ctx, bin, args...)
	c.cmd.Stdout, c.cmd.Stderr = f, f
	return c.cmd.Start()
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	_ = c.cmd.Wait()
}

func (c *child) membership() string {
	if c.static {
		return "a static member keeps its place"
	}
	return "a dynamic member's session lasts 10 s"
}

func (c *child) said() []byte {
	b, _ := os.ReadFile(c.log)
	return b[max(0, len(b)-2000):]
}

// when is the last time that the child logged a message; the zero time when it didn't.
func (c *child) when(message string) (at time.Time) {
	for line := range bytes.Lines(c.said()) {
		var l struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal(line, &l) == nil && l.Msg == message {
			at = l.Time
		}
	}
	return at
}
