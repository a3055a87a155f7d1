package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"nowcast/internal/retry"
)

// fleet is several streamers, each with an address of its own and as many viewers as its open files allow.
type fleet struct {
	servers []*frameServer
	viewers []*viewers // by server
}

// benchViewers carries very many viewers on one machine.
func benchViewers(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench viewers", flag.ContinueOnError)
	n := f.Int("n", 100_000, "viewers in all")
	each := f.Int("each", 16_700, "viewers of one streamer, at most 19,900")
	span := f.Duration("span", 10*time.Minute, "how long they are followed")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *each < 1 || *each > maxViewers || *n < 1 {
		return fmt.Errorf("%d viewers of one streamer are not possible: 20,000 files may be open; "+
			"give -each 1 to 19900", *each)
	}
	d, err := startStreamerDeps(ctx)
	if err != nil {
		return err
	}
	defer d.stop()
	all := &fleet{}
	defer all.stop()
	for first := 0; first < *n; first += *each {
		s, err := d.streamer(ctx, fmt.Sprintf("127.0.0.%d", 10+len(all.servers)))
		if err != nil {
			return err
		}
		all.servers = append(all.servers, s)
	}
	empty := all.pssKB()
	begin := time.Now()
	for i, s := range all.servers {
		own := min(*each, *n-i**each)
		v, _, err := startViewers(ctx, s, own, i**each)
		all.viewers = append(all.viewers, v)
		if err != nil {
			return fmt.Errorf("viewers of streamer %d: %w", i+1, err)
		}
		logf("%d viewers after %v", i**each+own, time.Since(begin).Round(time.Second))
	}
	return all.follow(ctx, *n, *span, empty)
}

func (f *fleet) stop() {
	for _, v := range f.viewers {
		v.stop()
	}
	for _, s := range f.servers {
		s.stop()
	}
}

func (f *fleet) pssKB() (kb int) {
	for _, s := range f.servers {
		kb += pssKB(s.pid)
	}
	return kb
}

func (f *fleet) cpu() (d time.Duration) {
	for _, s := range f.servers {
		d += s.cpu()
	}
	return d
}

func (f *fleet) command(name string) (all viewerReport, err error) {
	for _, v := range f.viewers {
		r, err := v.command(name)
		if err != nil {
			return all, err
		}
		r.Seconds = nil // tens of thousands of arrivals that nobody reads
		all.add(r)
	}
	return all, nil
}

// follow follows n viewers for span. It fails if one of them was cut, or if a frame is neither received nor
// reported as skipped. emptyKB is the memory without viewers.
func (f *fleet) follow(ctx context.Context, n int, span time.Duration, emptyKB int) error {
	if _, err := f.command("reset"); err != nil {
		return err
	}
	begin, cpu, peak := time.Now(), f.cpu(), 0
	var r, last viewerReport
	for at := begin; time.Since(begin) < span && ctx.Err() == nil; {
		_ = retry.Sleep(ctx, min(time.Minute, span-time.Since(begin)))
		var err error
		if r, err = f.command("report"); err != nil {
			return err
		}
		resident := f.pssKB()
		peak = max(peak, resident)
		fmt.Printf("%6.0f s  %d viewers, %d cut, %.2f frames a viewer and second, "+
			"%d skipped (reported by frames), %d MB resident\n",
			time.Since(begin).Seconds(), r.Joined, r.Lost,
			float64(r.Frames-last.Frames)/float64(max(1, r.Joined))/time.Since(at).Seconds(), r.Skipped,
			resident>>10)
		last, at = r, time.Now()
	}
	took := time.Since(begin)
	cpu = f.cpu() - cpu
	fmt.Printf("%-34s %d by %d streamers for %v, %d cut\n", "viewers", r.Joined, len(f.servers),
		took.Round(time.Second), r.Lost)
	fmt.Printf("%-34s %.3f\n", "frames a viewer and second", float64(r.Frames)/float64(n)/took.Seconds())
	fmt.Printf("%-34s %d (%.2f %% of what was due)\n", "skipped (reported by frames)", r.Skipped,
		100*float64(r.Skipped)/float64(max(1, r.Frames+r.Skipped)))
	fmt.Printf("%-34s %d MB, before them %d MB: %.2f KB a viewer\n", "resident at most", peak>>10,
		emptyKB>>10, float64(peak-emptyKB)/float64(n))
	fmt.Printf("%-34s %.2f cores, %.2f µs a frame\n", "CPU of the streamers", cpu.Seconds()/took.Seconds(),
		float64(cpu.Microseconds())/float64(max(1, r.Frames)))
	if r.Lost > 0 || r.Joined < n {
		return fmt.Errorf("%d of %d viewers were cut", r.Lost, n)
	}
	// Frames of the last 5 s may still be on their way.
	if due := int64(took.Seconds()-5) * int64(n); r.Frames+r.Skipped < due {
		return fmt.Errorf("%d frames were received and %d reported as skipped: %d were due", r.Frames,
			r.Skipped, due)
	}
	return ctx.Err()
}
