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
	"nowcast/internal/topic"
)

// traffic makes the log of one partition as busy sites do: a thousand of them, and visitors who come back again and again.
type traffic struct {
	partition int
	node      uint64
	sequence  uint64
	random    *rand.Rand
	sites     []string
	paths     []string
}

const (
	sites       = 1000
	visitors    = 200_000 // in all partitions
	perEnvelope = 100
)

func newTraffic(partition int) *traffic {
	t := &traffic{partition: partition, node: rand.Uint64() | 1, random: rand.New(rand.NewPCG(1, uint64(partition)))}
	for i := range sites {
		t.sites = append(t.sites, fmt.Sprintf("site-%d.example.com", i))
	}
	for i := range 50 {
		t.paths = append(t.paths, fmt.Sprintf("/articles/%d", i))
	}
	return t
}

// envelope has events of the span that ends at at.
func (t *traffic) envelope(at time.Time, span time.Duration) []byte {
	t.sequence++
	from := at.Add(-span).UnixMilli()
	b := event.AppendHeader(make([]byte, 0, perEnvelope*256), event.Header{Version: event.Version, Node: t.node, Sequence: t.sequence, Low: from - 1})
	for i := range int64(perEnvelope) {
		v := t.random.IntN(visitors/partitions)*partitions + t.partition
		site := t.sites[v%sites]
		e := event.Event{Time: from + i*span.Milliseconds()/perEnvelope, Visitor: uint64(v)*0x9e3779b97f4a7c15 + 1, Kind: event.Pageview, Name: "pageview",
			Site: site, Hostname: site, Path: t.paths[t.random.IntN(len(t.paths))],
			Country: []string{"DE", "FR", "US", "GB", "JP"}[v%5], Device: []string{"Desktop", "Mobile"}[v/2%2], Browser: "Chrome", BrowserVersion: "142",
			OS: "Windows", OSVersion: "11", Language: "de-DE", Source: []string{"Google", "", "", "Bing"}[v/3%4], HasID: true}
		for j := range e.ID {
			e.ID[j] = byte(t.random.Uint32())
		}
		b = event.AppendEvent(b, &e)
	}
	return b
}

// write appends what lasts from a moment on, at so many events/s a partition, as fast as Kafka takes it.
func (r *rig) write(ctx context.Context, from time.Time, lasts time.Duration, rate float64) error {
	const batch = 25 // of envelopes, well below Kafka's 1 MB
	r.end = from.Add(lasts)
	span := time.Duration(perEnvelope / rate * float64(time.Second))
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p, t := range r.logs {
		wg.Go(func() {
			at := from
			for n := int(lasts / span); n > 0 && errs[p] == nil; n -= batch {
				var values [][]byte
				for range min(n, batch) {
					at = at.Add(span)
					values = append(values, t.envelope(at, span))
				}
				errs[p] = r.produce(ctx, p, at, values...)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// send goes on with the log at the present, at rate events/s in all, until ctx ends.
func (r *rig) send(ctx context.Context, rate int) error {
	span := perEnvelope * partitions * time.Second / time.Duration(rate)
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p, t := range r.logs {
		wg.Go(func() {
			tick := time.NewTicker(span)
			defer tick.Stop()
			for errs[p] == nil {
				select {
				case <-ctx.Done():
					return
				case at := <-tick.C:
					errs[p] = r.produce(ctx, p, at, t.envelope(at, span))
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// produce tries again as an ingest node does: a topic that was just made may not have its leaders yet. Copies are dropped by their reader.
func (r *rig) produce(ctx context.Context, partition int, at time.Time, values ...[]byte) error {
	for {
		_, err := r.broker.Produce(ctx, topic.Events, partition, at, values...)
		if !broker.Retryable(err) || ctx.Err() != nil {
			return err
		}
		r.broker.Refresh()
		pause(ctx, 100*time.Millisecond)
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
