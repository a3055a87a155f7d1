package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
)

// eventGenerator makes the events of one partition: a thousand sites, and visitors who come back again and
// again.
type eventGenerator struct {
	partition int
	node      uint64
	sequence  uint64
	random    *rand.Rand
	sites     []string
	paths     []string
}

const (
	generatedSites    = 1000
	generatedVisitors = 200_000 // over all partitions
	eventsPerEnvelope = 100
)

func newEventGenerator(partition int) *eventGenerator {
	g := &eventGenerator{partition: partition, node: rand.Uint64() | 1,
		random: rand.New(rand.NewPCG(1, uint64(partition)))}
	for i := range generatedSites {
		g.sites = append(g.sites, fmt.Sprintf("site-%d.example.com", i))
	}
	for i := range 50 {
		g.paths = append(g.paths, fmt.Sprintf("/articles/%d", i))
	}
	return g
}

// envelope returns an envelope with events of the span that ends at end.
func (g *eventGenerator) envelope(end time.Time, span time.Duration) []byte {
	g.sequence++
	from := end.Add(-span).UnixMilli()
	h := event.Header{Version: event.Version, Node: g.node, Sequence: g.sequence, Low: from - 1}
	b := event.AppendHeader(make([]byte, 0, eventsPerEnvelope*256), h)
	for i := range int64(eventsPerEnvelope) {
		v := g.random.IntN(generatedVisitors/partitions)*partitions + g.partition
		site := g.sites[v%generatedSites]
		e := event.Event{
			Time: from + i*span.Milliseconds()/eventsPerEnvelope, Visitor: uint64(v)*0x9e3779b97f4a7c15 + 1,
			Kind: event.Pageview, Name: "pageview", Site: site, Hostname: site,
			Path:    g.paths[g.random.IntN(len(g.paths))],
			Country: []string{"DE", "FR", "US", "GB", "JP"}[v%5],
			Device:  []string{"Desktop", "Mobile"}[v/2%2],
			Browser: "Chrome", BrowserVersion: "142", OS: "Windows", OSVersion: "11", Language: "de-DE",
			Source: []string{"Google", "", "", "Bing"}[v/3%4], HasID: true,
		}
		for j := range e.ID {
			e.ID[j] = byte(g.random.Uint32())
		}
		b = event.AppendEvent(b, &e)
	}
	return b
}

// write appends events of a span of event time, rate events/s a partition, as fast as Kafka accepts them.
func (l *longLog) write(ctx context.Context, from time.Time, span time.Duration, rate float64) error {
	const batch = 25 // envelopes a request, well below Kafka's 1 MB
	l.end = from.Add(span)
	step := time.Duration(eventsPerEnvelope / rate * float64(time.Second))
	return l.eachPartition(func(p int, g *eventGenerator) error {
		at := from
		for n := int(span / step); n > 0; n -= batch {
			var values [][]byte
			for range min(n, batch) {
				at = at.Add(step)
				values = append(values, g.envelope(at, step))
			}
			if err := l.produce(ctx, p, at, values...); err != nil {
				return err
			}
		}
		return nil
	})
}

// send continues the log at the present, rate events/s over all partitions, until ctx ends.
func (l *longLog) send(ctx context.Context, rate int) error {
	step := eventsPerEnvelope * partitions * time.Second / time.Duration(rate)
	return l.eachPartition(func(p int, g *eventGenerator) error {
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case at := <-tick.C:
				if err := l.produce(ctx, p, at, g.envelope(at, step)); err != nil {
					return err
				}
			}
		}
	})
}

func (l *longLog) eachPartition(f func(p int, g *eventGenerator) error) error {
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p, g := range l.generators {
		wg.Go(func() { errs[p] = f(p, g) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// produce retries as an ingest node does: the leaders of a new topic may not be elected yet. The aggregator
// drops the duplicates that a retry can make.
func (l *longLog) produce(ctx context.Context, partition int, at time.Time, values ...[]byte) error {
	for {
		_, err := l.broker.Produce(ctx, topic.Events, partition, at, values...)
		if !broker.Retryable(err) || ctx.Err() != nil {
			return err
		}
		l.broker.Refresh()
		_ = retry.Sleep(ctx, 100*time.Millisecond)
	}
}
