package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/e2e/feed"
	"nowcast/internal/embedded"
	"nowcast/internal/site"
	"nowcast/internal/topic"
)

const (
	busySite  = "bench.example.com"
	quietSite = "quiet.example.com"
	probeSite = "probe.example.com"
	streamKey = "nck_T4mQ9xVb2LzKc8WnRj6YsP1dHf3GuEo7"

	windowPartitions  = 4
	viewerProcessName = "viewer-process" // subcommand of a child of this program
)

// streamerPrograms are those that measure the streamer, by subcommand.
func streamerPrograms(name string) func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"streamer": benchStreamer, "viewers": benchViewers, "soak": benchSoak,
		viewerProcessName: viewerProcessMain,
	}[name]
}

// streamerDeps are what a streamer needs: a broker whose windows topic is written in real time, with five
// minutes of history, and an idle ClickHouse.
type streamerDeps struct {
	dir, kafka, clickhouse string
	client                 *broker.Client
	feed                   *feed.Feed
	ends                   []func()
}

func startStreamerDeps(ctx context.Context) (d *streamerDeps, err error) {
	d = &streamerDeps{}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	if d.dir, err = os.MkdirTemp("", "nowcast-bench-"); err != nil {
		return d, err
	}
	b, err := embedded.NewBroker(embedded.Config{Dir: d.dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return d, err
	}
	d.ends = append(d.ends, background(ctx, b.Run))
	d.kafka = b.Addr()
	engine, stop, err := startClickHouse(ctx, d.dir)
	if err != nil {
		return d, err
	}
	d.ends = append(d.ends, stop)
	d.clickhouse = engine.DSN()
	d.client = broker.New(broker.Config{Addrs: []string{d.kafka}})
	d.ends = append(d.ends, d.client.Close)
	if err := d.client.Ensure(ctx, topic.Specs(windowPartitions, 1), nil); err != nil {
		return d, err
	}
	var sites []site.Site
	for _, domain := range []string{busySite, quietSite, probeSite} { // older than the feed's history
		sites = append(sites, site.Site{Domain: domain, Created: time.Now().Add(-time.Hour)})
	}
	if err := putSites(ctx, d.client, sites...); err != nil {
		return d, err
	}
	d.feed, err = feed.New(feed.Config{Broker: d.client, Partitions: windowPartitions, Seed: 1, History: 330,
		Sites: []feed.Site{{Domain: busySite, Values: 10}, {Domain: quietSite, Quiet: true}}})
	if err != nil {
		return d, err
	}
	d.ends = append(d.ends, background(ctx, d.feed.Run))
	return d, waitFor(ctx, time.Minute, func() bool { return d.feed.Final() >= time.Now().Unix()-3 })
}

func (d *streamerDeps) stop() {
	for _, end := range slices.Backward(d.ends) {
		end()
	}
	_ = os.RemoveAll(d.dir)
}

func benchStreamer(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench streamer", flag.ContinueOnError)
	n := f.Int("n", 10_000, "viewers of each server, at most 19,900")
	peers := f.String("peers", "gin,go-sse,centrifuge,nchan,write", "which other servers are measured")
	span := f.Duration("span", 20*time.Second, "how long each is followed")
	probes := f.Int("probes", 150, "how many records are timed on their way to a viewer")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *n < 1 || *n > maxViewers {
		return fmt.Errorf("%d viewers are not possible: 20,000 files may be open; give -n 1 to 19900", *n)
	}
	d, err := startStreamerDeps(ctx)
	if err != nil {
		return err
	}
	defer d.stop()
	var all []figures
	var failed error
	for _, name := range strings.FieldsFunc("nowcast,"+*peers, func(c rune) bool { return c == ',' }) {
		logf("%s with %d viewers", name, *n)
		m, err := d.measure(ctx, name, *n, *span)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, m)
	}
	var alone, beside []time.Duration
	if failed == nil || len(all) > 0 && all[0].name == "nowcast" {
		if alone, beside, err = d.measureRecordToGlass(ctx, *n, *probes); err != nil {
			failed = errors.Join(failed, fmt.Errorf("record to glass: %w", err))
		}
	}
	printTable(all, *n, alone, beside)
	return failed
}
