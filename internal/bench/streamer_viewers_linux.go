package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

// benchViewers carries very many viewers on one machine: several streamers, each with an address of its own and as many viewers as its file limit allows.
func benchViewers(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench viewers", flag.ContinueOnError)
	n := f.Int("n", 100_000, "viewers in all")
	each := f.Int("each", 16_700, "viewers of one streamer, at most 19,900")
	span := f.Duration("span", 10*time.Minute, "how long they are carried")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *each < 1 || *each > 19_900 || *n < 1 {
		return fmt.Errorf("%d viewers of one streamer are not possible: 20,000 open files are all that a process may have here; give -each 1 to 19900", *each)
	}
	r, err := newStreamRig(ctx)
	if err != nil {
		return err
	}
	defer r.stop()
	var servers []*broadcaster
	var groups []*crowds
	defer func() {
		for _, g := range groups {
			g.leave()
		}
		for _, s := range servers {
			s.stop()
		}
	}()
	resident := func() (kb int) {
		for _, s := range servers {
			kb += residentKB(s.pid)
		}
		return kb
	}
	used := func() (d time.Duration) {
		for _, s := range servers {
			d += s.cpu()
		}
		return d
	}
	for first := 0; first < *n; first += *each {
		s, err := r.streamer(ctx, fmt.Sprintf("127.0.0.%d", 10+len(servers)))
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	empty := resident()
	begin := time.Now()
	for i, s := range servers {
		mine := min(*each, *n-i**each)
		c, _, err := gather(ctx, s.addr, s.target, s.key, mine, i**each, s.until)
		groups = append(groups, c)
		if err != nil {
			return fmt.Errorf("viewers of streamer %d: %w", i+1, err)
		}
		say("%d viewers after %v", i**each+mine, time.Since(begin).Round(time.Second))
	}
	ask := func(what string) (all tallied, err error) {
		for _, g := range groups {
			t, err := g.ask(what)
			if err != nil {
				return all, err
			}
			all.Up, all.Lost, all.Frames, all.Bytes, all.Skipped = all.Up+t.Up, all.Lost+t.Lost, all.Frames+t.Frames, all.Bytes+t.Bytes, all.Skipped+t.Skipped
		}
		return all, nil
	}
	if _, err := ask("mark"); err != nil {
		return err
	}
	begin = time.Now()
	cpu, peak := used(), 0
	var t, last tallied
	for at := begin; time.Since(begin) < *span && ctx.Err() == nil; {
		pause(ctx, min(time.Minute, *span-time.Since(begin)))
		if t, err = ask("say"); err != nil {
			return err
		}
		peak = max(peak, resident())
		fmt.Printf("%6.0f s  %d viewers, %d cut, %.2f frames a viewer and second, %d skipped as they say, %d MB resident\n", time.Since(begin).Seconds(), t.Up, t.Lost,
			float64(t.Frames-last.Frames)/float64(max(1, t.Up))/time.Since(at).Seconds(), t.Skipped, resident()>>10)
		last, at = t, time.Now()
	}
	took := time.Since(begin)
	cpu = used() - cpu
	fmt.Printf("%-34s %d by %d streamers for %v, %d cut\n", "viewers carried", t.Up, len(servers), took.Round(time.Second), t.Lost)
	fmt.Printf("%-34s %.3f\n", "frames a viewer and second", float64(t.Frames)/float64(*n)/took.Seconds())
	fmt.Printf("%-34s %d (%.2f %% of what was due)\n", "skipped, as the frames say", t.Skipped, 100*float64(t.Skipped)/float64(max(1, t.Frames+t.Skipped)))
	fmt.Printf("%-34s %d MB, before them %d MB: %.2f KB a viewer\n", "resident at most", peak>>10, empty>>10, float64(peak-empty)/float64(*n))
	fmt.Printf("%-34s %.2f cores, %.2f µs a frame\n", "CPU of the streamers", cpu.Seconds()/took.Seconds(), float64(cpu.Microseconds())/float64(max(1, t.Frames)))
	if t.Lost > 0 || t.Up < *n {
		return fmt.Errorf("%d of %d viewers were cut", t.Lost, *n)
	}
	// The rest of what was due may be on its way; a second that nobody says was skipped may not be missing.
	if due := int64(took.Seconds()-5) * int64(*n); t.Frames+t.Skipped < due {
		return fmt.Errorf("%d frames came and %d were skipped, as they say: %d were due", t.Frames, t.Skipped, due)
	}
	return ctx.Err()
}
