// Package feed stands in for the aggregator in tests and benchmarks of the streamer. It writes
// nowcast.windows.v1 in real time, an emission every 250 ms, as the windows lane does: provisional and
// final rows, lists and watermarks.
//
// The counts of a second are a function of the seed, so that a test can compute what a viewer should have
// received. A second becomes final in the topic exactly once, also when a record has to be retried.
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
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

const (
	// Tick is the emit interval.
	Tick = 250 * time.Millisecond
	// Lag is how long after its end a second becomes final.
	Lag = 500 * time.Millisecond
	// historyStep is the number of seconds of history in a record.
	historyStep = 10
	// unlisted is the number of visitors at values that a full list leaves out, fewer than at any listed
	// value.
	unlisted = 37
)

// Config is that of a Feed.
type Config struct {
	Broker     *broker.Client
	Partitions int // of the windows topic
	Seed       uint64
	Sites      []Site
	History    int // seconds before the present that Run writes at once
}

// Site is a site of the feed.
type Site struct {
	Domain string
	Values int  // length of each list of active visitors
	Long   int  // length in bytes that is added to each name of a page or source
	Quiet  bool // nothing happens on it
}

// Counts are those of a site in a span.
type Counts struct{ Pageviews, Visitors, Events uint32 }

// Add adds the counts of another span.
func (c *Counts) Add(d Counts) {
	c.Pageviews += d.Pageviews
	c.Visitors += d.Visitors
	c.Events += d.Events
}

// Feed writes the windows topic.
type Feed struct {
	cfg   Config
	began int64 // the first second, unix

	mu    sync.Mutex
	final int64
	when  map[int64]time.Time // when a second of the last ten minutes became final
}

// New validates cfg and starts nothing. The first second is the present one less the history.
func New(cfg Config) (*Feed, error) {
	if cfg.Broker == nil || cfg.Partitions < 1 || len(cfg.Sites) == 0 || cfg.History < 0 {
		return nil, errors.New("feed needs a broker, a partition, a site, and a history that isn't negative")
	}
	return &Feed{cfg: cfg, began: time.Now().Unix() - int64(cfg.History), when: map[int64]time.Time{}}, nil
}

// Began is the first second of the feed, in unix time.
func (f *Feed) Began() int64 { return f.began }

// Final is the newest second that is final in all partitions, in unix time; 0 before the first.
func (f *Feed) Final() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.final
}

// Finalized is the moment just before the record that made a second final was sent. It is known for ten
// minutes.
func (f *Feed) Finalized(at int64) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.when[at]
	return t, ok
}

// Truth is the counts of a site in a second over all partitions; zero before the feed began.
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

// Span is the counts of a site from a second to another, both included.
func (f *Feed) Span(domain string, from, to int64) (c Counts) {
	for at := from; at <= to; at++ {
		c.Add(f.Truth(domain, at))
	}
	return c
}

// Active is the range of the active visitors that a frame may give for a value of a dimension (page,
// source, country or device), in any second. It isn't exact for a value that no list contains: its upper
// bound is the visitors that the lists leave out.
func (f *Feed) Active(domain, dimension, value string) (least, most uint32, exact bool) {
	for _, s := range f.cfg.Sites {
		if s.Domain != domain || s.Values == 0 {
			continue
		}
		partitions := uint32(f.cfg.Partitions) //nolint:gosec // a handful
		even, odd := f.lists(s, 0, 0), f.lists(s, 1, 0)
		values := func(n *window.Now) ([]window.Count, uint32) {
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
		list, rest := values(&even)
		more, _ := values(&odd)
		for i, c := range list {
			if c.Name == value {
				return partitions * c.Active, partitions * more[i].Active, true
			}
		}
		return partitions * rest, partitions * rest, rest == 0
	}
	return 0, 0, true
}

// part is the counts of a partition in a second. A third of the seconds are empty.
func (f *Feed) part(s Site, at int64, partition int) Counts {
	if s.Quiet {
		return Counts{}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.Domain))
	seed := uint64(at)<<8 | uint64(partition) //nolint:gosec // not negative
	r := rand.New(rand.NewPCG(f.cfg.Seed^h.Sum64(), seed))
	if r.IntN(3) == 0 {
		return Counts{}
	}
	c := Counts{Pageviews: r.Uint32N(40)}
	c.Events = c.Pageviews + 1 + r.Uint32N(5)
	c.Visitors = 1 + r.Uint32N(c.Events)
	return c
}

// Run writes until ctx ends, and returns nil then.
func (f *Feed) Run(ctx context.Context) error {
	for from := f.began; from < f.began+int64(f.cfg.History); from += historyStep {
		to := min(from+historyStep, f.began+int64(f.cfg.History)) - 1
		if err := f.emit(ctx, time.Unix(to+1, 0).Add(Lag), from, to); err != nil {
			return unlessEnded(ctx, err)
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
				return unlessEnded(ctx, err)
			}
			final = next
		}
	}
}

// unlessEnded is the error of a write, or nil if ctx has ended.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return fmt.Errorf("write windows topic: %w", err)
	}
	return nil
}

// emit makes the seconds from and to final, and writes provisional rows of those after them, as of now.
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
	e := &window.Emission{Version: window.Version, Partition: uint32(p), Epoch: window.Epoch, Offset: ms,
		Watermark: (to + 1) * 1000, Now: ms}
	for _, s := range f.cfg.Sites {
		for at := from; at <= now.Unix() && at >= f.began; at++ {
			c := f.part(s, at, p)
			r := window.Second{Site: s.Domain, At: at, Final: at <= to,
				Version: window.RowVersion(window.Epoch, at <= to, ms)}
			if !r.Final && at == now.Unix() { // in proportion to the time that has passed
				share := func(n uint32) uint32 { return uint32(uint64(n) * uint64(now.Nanosecond()) / 1e9) }
				c = Counts{share(c.Pageviews), min(c.Visitors, share(c.Events)), share(c.Events)}
			}
			r.Pageviews, r.Visitors, r.Events, r.Revision, r.Active = c.Pageviews, c.Visitors, c.Events,
				c.Events, 100+c.Visitors
			if r.Final && r.Events > 0 {
				r.Revision++
			}
			e.Seconds = append(e.Seconds, r)
		}
		if s.Values > 0 && to >= from { // lists are written once a second
			e.Nows = append(e.Nows, f.lists(s, to, ms))
		}
	}
	return e
}

// lists are those of a site's active visitors. They hardly differ between seconds, so that frames have the
// same size.
func (f *Feed) lists(s Site, at, ms int64) window.Now {
	n := window.Now{Site: s.Domain, At: at, Version: window.RowVersion(window.Epoch, false, ms)}
	long := strings.Repeat("x", s.Long)
	for i := range s.Values {
		c := uint32(100+s.Values-i) + uint32(at%2)
		n.Pages = append(n.Pages, window.Count{Name: fmt.Sprintf("/articles/%d%s", i, long), Active: c})
		n.Sources = append(n.Sources, window.Count{Name: fmt.Sprintf("source-%d%s", i, long), Active: c})
		country := string([]byte{'A' + byte(i/26%26), 'A' + byte(i%26)})
		n.Countries = append(n.Countries, window.Count{Name: country, Active: c})
	}
	if s.Values >= window.MaxCounts {
		n.RestPages, n.RestSources = unlisted, unlisted
	}
	n.Devices = []window.Count{{Name: "Desktop", Active: 300}, {Name: "Mobile", Active: 200}}
	return n
}

// produce retries as an aggregator does. A duplicate record is harmless: its rows have the same versions.
func (f *Feed) produce(ctx context.Context, partition int, at time.Time, value []byte) error {
	for {
		_, err := f.cfg.Broker.Produce(ctx, topic.Windows, partition, at, value)
		if !broker.Retryable(err) || ctx.Err() != nil {
			return err
		}
		f.cfg.Broker.Refresh()
		_ = retry.Sleep(ctx, 100*time.Millisecond)
	}
}
