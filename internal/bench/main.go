// Command bench measures Nowcast through its public interfaces. Each figure in the docs names the
// subcommand that makes it:
//
//	bench glass       beacon to glass at rate=100ms, and its parts: idle, at 1,000 beacons/s, then beside
//	                  heavy queries
//	bench beacons     durable beacons a second by single posts, beside the same server's cheapest route, and
//	                  with --sync always beside --sync 1s
//	bench ingest      the ingest role on a real Kafka, beside a gin route that does nothing and one with
//	                  kafka-go's Writer
//	bench overload    twice the capacity of ingest, for SPAN (1m): its answers, its memory, its recovery
//	bench idle        memory of all processes when nothing happens
//	bench aggregator  that role on a long log in a real Kafka: CPU of the windows lane beside a loop that
//	                  only fetches, warm-up, rows/s into ClickHouse, time from a kill -9 to a frame
//	bench history     a page's questions about a past of -events, beside tables in the form of Plausible's,
//	                  Umami's and Rybbit's
//	bench streamer    viewers of a streamer beside those of gin, go-sse, centrifuge, nchan and a bare loop:
//	                  memory, CPU, fan-out, new connections
//	bench viewers     100,000 viewers on this machine, for -span
//	bench soak        viewers who come and go for -span: whether memory, goroutines or files grow
//
// Machines are noisy: compare figures of one run only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"nowcast/internal/embedded"
)

func main() {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if program := streamerPrograms(args[0]); program != nil {
			return program(ctx, args[1:])
		}
	}
	if len(args) > 0 && args[0] == "history" {
		return benchHistory(ctx, args[1:])
	}
	if len(args) == 3 && strings.HasPrefix(args[0], "serve-") {
		return serveBaseline(ctx, args[0], args[1], args[2])
	}
	ownKafka := map[string]func(context.Context) error{
		"aggregator": benchAggregator, "ingest": benchIngest, "overload": benchOverload,
	}
	onServer := map[string]func(context.Context, *server) error{"glass": benchGlass,
		"beacons": benchBeacons, "idle": benchIdle}
	switch {
	case len(args) == 1 && ownKafka[args[0]] != nil:
		return ownKafka[args[0]](ctx)
	case len(args) == 1 && onServer[args[0]] != nil:
		s, err := startServer(ctx)
		if err != nil {
			return err
		}
		defer s.stop()
		return onServer[args[0]](ctx, s)
	}
	return errors.New("usage: bench glass|beacons|ingest|overload|idle|aggregator|history|streamer|" +
		"viewers|soak")
}

// printQuantiles prints p50, p90, p99 and the maximum of d, which it sorts.
func printQuantiles(name string, d []time.Duration) {
	if len(d) == 0 {
		fmt.Printf("%-34s no values\n", name)
		return
	}
	slices.Sort(d)
	q := func(f float64) time.Duration { return quantile(d, f).Round(100 * time.Microsecond) }
	fmt.Printf("%-34s p50 %-8v p90 %-8v p99 %-8v max %-8v (%d)\n", name, q(.5), q(.9), q(.99), q(1), len(d))
}

// quantile is the value at the share q of sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}
