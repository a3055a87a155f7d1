package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/internal/retry"
)

// sample is what a streamer holds at one moment.
type sample struct {
	rss, inUse        int // KB; inUse leaves out the free heap
	goroutines, files int
	viewers           int
}

// benchSoak has viewers come and go for span. It fails if memory, goroutines or files are higher at the end
// than at the beginning, or if any are left over without viewers.
func benchSoak(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	n := f.Int("n", 2000, "viewers at a time")
	span := f.Duration("span", 2*time.Hour, "for how long")
	if err := f.Parse(args); err != nil {
		return err
	}
	d, err := startStreamerDeps(ctx)
	if err != nil {
		return err
	}
	defer d.stop()
	s, err := d.streamer(ctx, "127.0.0.1")
	if err != nil {
		return err
	}
	defer s.stop()
	c := churn{server: s}
	// A few viewers come and go first, so that the sample without viewers is of a server with filled pools.
	c.run(ctx, 50, 5*time.Second)
	if err := retry.Sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	before, err := takeSample(ctx, s)
	if err != nil {
		return err
	}
	churning, stop := context.WithCancel(ctx)
	defer stop()
	stopped := background(churning, func(ctx context.Context) error { c.run(ctx, *n, 2**span); return nil })
	samples, err := takeSamples(ctx, s, *span)
	stop()
	stopped()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	fmt.Printf("%d connections, %d of them not opened, %d MB read\n", c.opened.Load(), c.failed.Load(),
		c.bytes.Load()>>20)
	var after sample
	err = waitFor(ctx, 30*time.Second, func() bool {
		after, err = takeSample(ctx, s)
		return err == nil && after.viewers == 0 && after.goroutines <= before.goroutines+20 &&
			after.files <= before.files+20
	})
	before.print("before")
	after.print("after")
	if err != nil {
		err = fmt.Errorf("goroutines, files or viewers are left over: %w", err)
	}
	if c.failed.Load()*100 > c.opened.Load() {
		err = errors.Join(err, fmt.Errorf("%d connections could not be opened", c.failed.Load()))
	}
	return errors.Join(err, judgeSoak(samples))
}

// takeSamples takes a sample a minute, at least ten, for span.
func takeSamples(ctx context.Context, s *frameServer, span time.Duration) (samples []sample, err error) {
	_ = retry.Sleep(ctx, min(10*time.Second, span/10)) // until the viewers are connected
	step := min(time.Minute, span/10)
	for begin := time.Now(); time.Since(begin) < span && ctx.Err() == nil; _ = retry.Sleep(ctx, step) {
		x, err := takeSample(ctx, s)
		if err != nil {
			return samples, err
		}
		samples = append(samples, x)
		x.print(time.Since(begin).Round(time.Second).String())
	}
	return samples, nil
}

// judgeSoak compares medians: that of the last third of the samples with that of the second to fourth
// tenth. In the first tenth the server warms up.
func judgeSoak(all []sample) error {
	if len(all) < 10 {
		return fmt.Errorf("%d samples are too few for a judgement", len(all))
	}
	median := func(list []sample, value func(sample) int) int {
		v := make([]int, 0, len(list))
		for _, s := range list {
			v = append(v, value(s))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	early, late := all[len(all)/10:max(len(all)*4/10, len(all)/10+2)], all[len(all)*2/3:]
	var errs []error
	for _, c := range []struct {
		name  string
		slack int // that it may grow by, beside a tenth
		value func(sample) int
	}{
		{"KB resident", 8 << 10, func(s sample) int { return s.rss }},
		{"KB resident and in use", 4 << 10, func(s sample) int { return s.inUse }},
		{"goroutines", 50, func(s sample) int { return s.goroutines }},
		{"open files", 50, func(s sample) int { return s.files }},
	} {
		from, to := median(early, c.value), median(late, c.value)
		fmt.Printf("%-34s %d at the beginning, %d at the end\n", c.name, from, to)
		if to > from+from/10+c.slack {
			errs = append(errs, fmt.Errorf("%s grew from %d to %d", c.name, from, to))
		}
	}
	return errors.Join(errs...)
}

func (s sample) print(at string) {
	fmt.Printf("%10s  %6d viewers  %7.1f MB resident  %7.1f MB of it in use  %6d goroutines  %6d files\n",
		at, s.viewers, float64(s.rss)/1024, float64(s.inUse)/1024, s.goroutines, s.files)
}

func takeSample(ctx context.Context, server *frameServer) (s sample, err error) {
	held, err := heldKB(ctx, server.ops, server.pid)
	if err != nil {
		return s, err
	}
	m, err := get(ctx, "http://"+server.ops+"/metrics")
	if err != nil {
		return s, err
	}
	goroutines, err := metric(m, "go_goroutines")
	if err != nil {
		return s, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", server.pid))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(m) {
		if strings.HasPrefix(line, "nowcast_streamer_viewers{") {
			var v float64
			_, _ = fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			s.viewers += int(v)
		}
	}
	s.rss, s.inUse, s.goroutines, s.files = pssKB(server.pid), held, int(goroutines), len(files)
	return s, nil
}

// heldKB is the memory that a Go process holds, in KB: its resident memory after a collection, less the heap
// that is free and not yet returned to the system. It shows a leak sooner than the resident memory.
func heldKB(ctx context.Context, ops string, pid int) (int, error) {
	if err := collectGarbage(ctx, ops); err != nil {
		return 0, err
	}
	m, err := get(ctx, "http://"+ops+"/metrics")
	if err != nil {
		return 0, err
	}
	idle, err := metric(m, "go_memstats_heap_idle_bytes")
	if err != nil {
		return 0, err
	}
	released, err := metric(m, "go_memstats_heap_released_bytes")
	return pssKB(pid) - int(idle-released)>>10, err
}

// churn is viewers who stay for 15 s on average; some leave in the middle of a frame, some never read.
type churn struct {
	server                *frameServer
	opened, failed, bytes atomic.Int64
}

// run has n viewers at a time come and go for span, or until ctx ends.
func (c *churn) run(ctx context.Context, n int, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var all sync.WaitGroup
	for range n {
		all.Go(func() { c.comeAndGo(ctx) })
	}
	all.Wait()
}

func (c *churn) comeAndGo(ctx context.Context) {
	rates := []string{"100ms", "250ms", "1s", "1s", "5s", "30s"}
	for ctx.Err() == nil {
		visit, cancel := context.WithTimeout(ctx, time.Duration(rand.ExpFloat64()*float64(15*time.Second)))
		err := c.visit(visit, rates[rand.IntN(len(rates))], rand.IntN(20) > 0)
		if err != nil && visit.Err() == nil {
			c.failed.Add(1)
			_ = retry.Sleep(ctx, time.Second)
		}
		cancel()
	}
}

func (c *churn) visit(ctx context.Context, rate string, reads bool) error {
	s := c.server
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_, err = fmt.Fprintf(conn, "GET %s&rate=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		s.target, rate, s.addr, s.key)
	if err != nil {
		return err
	}
	c.opened.Add(1)
	if !reads {
		<-ctx.Done()
		return nil
	}
	n, err := io.Copy(io.Discard, conn)
	c.bytes.Add(n)
	if err == nil && n == 0 {
		err = errors.New("no answer")
	}
	return err
}
