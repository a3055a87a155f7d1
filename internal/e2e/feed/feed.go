// Package feed plays the aggregator for tests and measurements of the streamer: it writes nowcast.windows.v1 in real time, a tick each 250 ms,
// as the windows lane does, with provisional rows of open seconds, final rows, lists and watermarks.
//
// It promises that what happens in a second of a site is a function of the seed alone, so that whoever followed a stream can be told what it should
// have been given without a log of it, and that a second is final in the topic exactly once, whatever has to be sent again.
package feed

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

const (
	// Tick is the pace of emissions.
	Tick = 250 * time.Millisecond
	// Lag is how long after its end a second becomes final.
	Lag = 500 * time.Millisecond
	// stretch is how many seconds of the past one record holds.
	stretch = 10
	// unlisted is how many visitors are at values that a full list leaves out, fewer than at any that it has.
	unlisted = 37
)

// Config says what to write and where.
type Config struct {
	Broker     *broker.Client
	Partitions int // of the windows topic
	Seed       uint64
	Sites      []Site
	History    int // seconds before the present that are there at once
}

// Site is one that things happen on.
type Site struct {
	Domain string
	Values int // how many each list of its visitors' places has
	Long   int // bytes of each page's and source's name beside its number
	Quiet  bool
}

// Counts are what happened on a site in a span.
type Counts struct{ Pageviews, Visitors, Events uint32 }

// Add adds what happened in another span.
func (c *Counts) Add(d Counts) {
	c.Pageviews += d.Pageviews
	c.Visitors += d.Visitors
	c.Events += d.Events
}

// Feed is one that can be run.
type Feed struct {
	cfg   Config
	began int64 // the first second, unix

	mu    sync.Mutex
	final int64
	when  map[int64]time.Time // by second, of the last ten minutes: just before it was made final
}

// New checks the configuration and starts nothing. The first second is the present one, less the history.
func New(cfg Config) (*Feed, error) {
	if cfg.Broker == nil || cfg.Partitions < 1 || len(cfg.Sites) == 0 || cfg.History < 0 {
		return nil, errors.New("a feed needs a broker, at least one partition and one site, and no negative history")
	}
	return &Feed{cfg: cfg, began: time.Now().Unix() - int64(cfg.History), when: map[int64]time.Time{}}, nil
}

// Began is the first second of the feed.
func (f *Feed) Began() int64 { return f.began }

// Final is the newest second that is final in all partitions; 0 before there is one.
func (f *Feed) Final() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.final
}

// Finalized is the moment just before the record that made a second final was sent, if that was within the last ten minutes.
func (f *Feed) Finalized(at int64) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.when[at]
	return t, ok
}

// Truth is what happens on a site in a second, over all partitions. Seconds outside of the feed have nothing.
func (f *Feed) Truth(domain string, at int64) (c Counts) {
	for _, s := range f.cfg.Sites {
		if s.Domain == domain && at >= f.began {
			for p := range f.cfg.Partitions {
				c.Add(f.part(s, at, p))
			}
		}
	}
	return c
}

// Span is what happens on a site from a second to another, both included.
func (f *Feed) Span(domain string, from, to int64) (c Counts) {
	for at := from; at <= to; at++ {
		c.Add(f.Truth(domain, at))
	}
	return c
}

// Active is between what two numbers a frame says that the visitors of a value are (page, source, country or device), in any second, and whether
// that is exact: a value that no list has is known only by what the lists leave out.
func (f *Feed) Active(domain, dimension, value string) (least, most uint32, exact bool) {
	for _, s := range f.cfg.Sites {
		if s.Domain != domain || s.Values == 0 {
			continue
		}
		even, odd := f.lists(s, 0, 0), f.lists(s, 1, 0)
		of := func(n *window.Now) ([]window.Count, uint32) {
			switch dimension {
			case "page":
				return n.Pages, n.RestPages
			case "source":
				return n.Sources, n.RestSources
			case "country":
				return n.Countries, n.RestCountries
			}
			return n.Devices, n.RestDevices
		}
		list, rest := of(&even)
		more, _ := of(&odd)
		for i, c := range list {
			if c.Name == value {
				return uint32(f.cfg.Partitions) * c.Active, uint32(f.cfg.Partitions) * more[i].Active, true //nolint:gosec // a handful
			}
		}
		return uint32(f.cfg.Partitions) * rest, uint32(f.cfg.Partitions) * rest, rest == 0 //nolint:gosec // a handful
	}
	return 0, 0, true
}

// part is what one partition's visitors do. A site has seconds in which nothing happens.
func (f *Feed) part(s Site, at int64, partition int) Counts {
	if s.Quiet {
		return Counts{}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.Domain))
	r := rand.New(rand.NewPCG(f.cfg.Seed^h.Sum64(), uint64(at)<<8|uint64(partition))) //nolint:gosec // figures, no secret
	if r.IntN(3) == 0 {
		return Counts{}
	}
	c := Counts{Pageviews: r.Uint32N(40)}
	c.Events = c.Pageviews + 1 + r.Uint32N(5)
	c.Visitors = 1 + r.Uint32N(c.Events)
	return c
}

// Run writes until ctx ends; then it returns nil.
func (f *Feed) Run(ctx context.Context) error {
	for from := f.began; from < f.began+int64(f.cfg.History); from += stretch {
		to := min(from+stretch, f.began+int64(f.cfg.History)) - 1
		if err := f.past(ctx, from, to); err != nil {
			return unlessOver(ctx, err)
		}
	}
	final := f.began + int64(f.cfg.History) - 1
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			next := max(final, now.Add(-Lag).Unix()-1)
			if err := f.emit(ctx, now, final+1, next); err != nil {
				return unlessOver(ctx, err)
			}
			final = next
		}
	}
}

// unlessOver is the error of a write, if it wasn't the end of ctx that made it fail.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("write the windows: %w", err)
	}
	return nil
}

// past writes seconds that are over.
func (f *Feed) past(ctx context.Context, from, to int64) error {
	return f.emit(ctx, time.Unix(to+1, 0).Add(Lag), from, to)
}

// emit makes the seconds from and to final, and says of those after them what is known at now. The partitions are written side by side.
func (f *Feed) emit(ctx context.Context, now time.Time, from, to int64) error {
	f.mu.Lock()
	for at := from; at <= to; at++ {
		f.when[at] = time.Now()
		delete(f.when, at-600)
	}
	f.mu.Unlock()
	errs := make([]error, f.cfg.Partitions)
	var all sync.WaitGroup
	for p := range f.cfg.Partitions {
		all.Go(func() { errs[p] = f.produce(ctx, p, now, f.emission(p, now, from, to).Append(nil)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.final = max(f.final, to)
	return nil
}

func (f *Feed) emission(p int, now time.Time, from, to int64) *window.Emission {
	ms := now.UnixMilli()
	e := &window.Emission{Version: window.Version, Partition: uint32(p), Epoch: window.Epoch, Offset: ms, Watermark: (to + 1) * 1000, Now: ms}
	for _, s := range f.cfg.Sites {
		for at := from; at <= now.Unix() && at >= f.began; at++ {
			c := f.part(s, at, p)
			r := window.Second{Site: s.Domain, At: at, Final: at <= to, Version: window.RowVersion(window.Epoch, at <= to, ms)}
			if !r.Final && at == now.Unix() { // half of it has come by the middle of the second
				share := func(n uint32) uint32 { return uint32(uint64(n) * uint64(now.Nanosecond()) / 1e9) }
				c = Counts{share(c.Pageviews), min(c.Visitors, share(c.Events)), share(c.Events)}
			}
			r.Pageviews, r.Visitors, r.Events, r.Revision, r.Active = c.Pageviews, c.Visitors, c.Events, c.Events, 100+c.Visitors
			if r.Final && r.Events > 0 {
				r.Revision++
			}
			e.Seconds = append(e.Seconds, r)
		}
		if s.Values > 0 && to >= from { // the lists once a second
			e.Nows = append(e.Nows, f.lists(s, to, ms))
		}
	}
	return e
}

// lists are where a site's visitors are: much the same each second, so that a frame's size says little of chance.
func (f *Feed) lists(s Site, at, ms int64) window.Now {
	n := window.Now{Site: s.Domain, At: at, Version: window.RowVersion(window.Epoch, false, ms)}
	long := strings.Repeat("x", s.Long)
	for i := range s.Values {
		c := uint32(100+s.Values-i) + uint32(at%2)
		n.Pages = append(n.Pages, window.Count{Name: fmt.Sprintf("/articles/%d%s", i, long), Active: c})
		n.Sources = append(n.Sources, window.Count{Name: fmt.Sprintf("source-%d%s", i, long), Active: c})
		n.Countries = append(n.Countries, window.Count{Name: string([]byte{'A' + byte(i/26%26), 'A' + byte(i%26)}), Active: c})
	}
	if s.Values >= window.MaxCounts {
		n.RestPages, n.RestSources = unlisted, unlisted
	}
	n.Devices = []window.Count{{Name: "Desktop", Active: 300}, {Name: "Mobile", Active: 200}}
	return n
}

// produce tries again as an aggregator does. A copy of a record is harmless: its rows have the same versions.
func (f *Feed) produce(ctx context.Context, partition int, at time.Time, value []byte) error {
	for {
		_, err := f.cfg.Broker.Produce(ctx, topic.Windows, partition, at, value)
		if !broker.Retryable(err) || ctx.Err() != nil {
			return err
		}
		f.cfg.Broker.Refresh()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
