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
)

// sample is what a streamer holds at one moment.
type sample struct {
	rss, inUse           int // KB, of inUse those without the free heap
	goroutines, files, n int
}

// soak has viewers come and go for long, and wants the curve's end no higher than its beginning: that of memory, goroutines and files.
func soak(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	n := f.Int("n", 2000, "viewers at a time")
	span := f.Duration("span", 2*time.Hour, "for how long")
	if err := f.Parse(args); err != nil {
		return err
	}
	r, err := newStreamRig(ctx)
	if err != nil {
		return err
	}
	defer r.stop()
	b, err := r.streamer(ctx, "127.0.0.1")
	if err != nil {
		return err
	}
	defer b.stop()
	churn := churn{b: b}
	churning, end := context.WithCancel(ctx)
	defer end()
	var all sync.WaitGroup
	defer all.Wait()
	defer end()
	// The same few come and go once before, so that the sample without viewers is of a server that has had some.
	first, stop := context.WithTimeout(ctx, 5*time.Second)
	for range 50 {
		all.Go(func() { churn.run(first) })
	}
	all.Wait()
	stop()
	pause(ctx, 3*time.Second)
	empty, err := r.sample(ctx, b)
	if err != nil {
		return err
	}
	for range *n {
		all.Go(func() { churn.run(churning) })
	}
	pause(ctx, min(10*time.Second, *span/10)) // until they are there
	var samples []sample
	step := min(time.Minute, *span/10)
	for begin := time.Now(); time.Since(begin) < *span && ctx.Err() == nil; pause(ctx, step) {
		s, err := r.sample(ctx, b)
		if err != nil {
			return err
		}
		samples = append(samples, s)
		s.print(time.Since(begin).Round(time.Second).String())
	}
	end()
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Printf("%d connections, %d of them not opened, %d MB read\n", churn.opened.Load(), churn.failed.Load(), churn.bytes.Load()>>20)
	var after sample
	err = until(ctx, 30*time.Second, func() bool {
		after, err = r.sample(ctx, b)
		return err == nil && after.n == 0 && after.goroutines <= empty.goroutines+20 && after.files <= empty.files+20
	})
	empty.print("before")
	after.print("after")
	if err != nil {
		err = fmt.Errorf("goroutines, files or viewers are left over: %w", err)
	}
	if churn.failed.Load()*100 > churn.opened.Load() {
		err = errors.Join(err, fmt.Errorf("%d connections could not be opened", churn.failed.Load()))
	}
	return errors.Join(err, judgeSoak(samples))
}

// judgeSoak compares the last third of the curve with the second tenth to fourth tenth: the first is for warming up.
func judgeSoak(all []sample) error {
	if len(all) < 10 {
		return fmt.Errorf("%d samples are too few for a judgement", len(all))
	}
	middle := func(of []sample, value func(sample) int) int {
		v := make([]int, 0, len(of))
		for _, s := range of {
			v = append(v, value(s))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	early, late := all[len(all)/10:max(len(all)*4/10, len(all)/10+2)], all[len(all)*2/3:]
	var errs []error
	for _, c := range []struct {
		name  string
		room  int // beside a tenth
		value func(sample) int
	}{
		{"KB resident", 8 << 10, func(s sample) int { return s.rss }},
		{"KB resident and in use", 4 << 10, func(s sample) int { return s.inUse }},
		{"goroutines", 50, func(s sample) int { return s.goroutines }},
		{"open files", 50, func(s sample) int { return s.files }},
	} {
		from, to := middle(early, c.value), middle(late, c.value)
		fmt.Printf("%-34s %d at the beginning, %d at the end\n", c.name, from, to)
		if to > from+from/10+c.room {
			errs = append(errs, fmt.Errorf("%s grew from %d to %d", c.name, from, to))
		}
	}
	return errors.Join(errs...)
}

func (s sample) print(at string) {
	fmt.Printf("%10s  %6d viewers  %7.1f MB resident  %7.1f MB of it in use  %6d goroutines  %6d files\n", at, s.n, float64(s.rss)/1024, float64(s.inUse)/1024, s.goroutines, s.files)
}

func (r *streamRig) sample(ctx context.Context, b *broadcaster) (s sample, err error) {
	bytes, err := b.footprint(ctx)
	if err != nil {
		return s, err
	}
	m, err := fetch(ctx, "http://"+b.ops+"/metrics")
	if err != nil {
		return s, err
	}
	goroutines, err := metric(m, "go_goroutines")
	if err != nil {
		return s, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.pid))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(m) {
		if strings.HasPrefix(line, "nowcast_streamer_viewers{") {
			var v float64
			_, _ = fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			s.n += int(v)
		}
	}
	s.rss, s.inUse, s.goroutines, s.files = residentKB(b.pid), bytes>>10, int(goroutines), len(files)
	return s, nil
}

// churn are viewers who stay for a while: some seconds, now and then a minute; some leave in the middle of a frame, some never read.
type churn struct {
	b                     *broadcaster
	opened, failed, bytes atomic.Int64
}

func (c *churn) run(ctx context.Context) {
	rates := []string{"100ms", "250ms", "1s", "1s", "5s", "30s"}
	for ctx.Err() == nil {
		mine, cancel := context.WithTimeout(ctx, time.Duration(rand.ExpFloat64()*float64(15*time.Second)))
		err := c.visit(mine, rates[rand.IntN(len(rates))], rand.IntN(20) > 0) //nolint:gosec // habits, no secrets
		if err != nil && mine.Err() == nil {
			c.failed.Add(1)
			pause(ctx, time.Second)
		}
		cancel()
	}
}

func (c *churn) visit(ctx context.Context, rate string, reads bool) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.b.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET %s&rate=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", c.b.target, rate, c.b.addr, c.b.key); err != nil {
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
