// Package verify recounts a span of the log by brute force and compares the result with everything that was said of it: the windows topic,
// and ClickHouse's tables `windows`, `events` and `ledger`.
//
// It shares the wire schemas with the aggregator and nothing else: the protocol's rules are written down a second time here, in the
// slowest form that is still obviously right (sets, sorted lists, no state that is carried along). When both agree, either both are right
// or both have made the same mistake twice.
//
// It promises to find each row that is missing, doubled or different, with its position, and never to blame a row that is merely not there
// yet: it compares as far as the lanes have said that they have come, waits a while for them, and otherwise says what was not compared.
// A repeated row that ClickHouse's FINAL removes is no difference, since no reader sees it. The lists of who is where now are not
// compared: they say something about a moment and are kept nowhere.
//
// Memory is about 80 bytes an event of the span and partition; partitions are gone through one after the other.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/topic"
	"nowcast/internal/warehouse"
)

// Config says what to verify.
type Config struct {
	Sites    []string      // none: all
	From, To time.Time     // whole seconds; the second at To is not in the span. To is cut down to what is final
	Wait     time.Duration // for lanes that are behind
	Progress func(Progress)
}

// Progress is how far a run has come.
type Progress struct {
	Partition, Partitions int
	Doing                 string
	Done                  float64 // of the partition's log, 0 to 1
	Events                int     // recounted so far, in all
}

// Deps are what a run works with.
type Deps struct {
	Broker    *broker.Client
	Warehouse *warehouse.DB
}

// margin is read before the span: ids and active visitors reach back five minutes each, nodes eleven, and a little is to spare.
const margin = 20 * time.Minute

// beyond is read behind the span. What is in the log later than that (somebody emptied a spool very late) is in no window, and is
// compared when a later span is.
const beyond = 15 * time.Minute

// run is one run.
type run struct {
	Config
	Deps
	report *Report
	stored map[string][]int64 // by topic and partition: what the store lane has committed
}

// Run recounts and compares. It fails when something can't be read; differences are in the report.
func Run(ctx context.Context, c Config, d Deps) (*Report, error) {
	c.From, c.To = c.From.UTC().Truncate(time.Second), c.To.UTC().Truncate(time.Second)
	if !c.From.Before(c.To) {
		return nil, fmt.Errorf("the span is empty: it begins at %s and ends at %s", c.From.Format(time.RFC3339), c.To.Format(time.RFC3339))
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	partitions, err := d.Broker.Partitions(ctx, topic.Events)
	if err != nil {
		return nil, err
	}
	r := &run{Config: c, Deps: d, report: &Report{From: c.From, To: c.To, Partitions: partitions}}
	for p := range partitions {
		if err := r.partition(ctx, p); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	if err := r.strangers(ctx, partitions); err != nil {
		return nil, err
	}
	r.report.finish()
	return r.report, nil
}

// partition recounts one partition and compares it with what was said of it.
func (r *run) partition(ctx context.Context, p int) error {
	progress := func(doing string, done float64) {
		r.Progress(Progress{Partition: p, Partitions: r.report.Partitions, Doing: doing, Done: done, Events: r.report.Events})
	}
	from, to, headless, err := r.offsets(ctx, p)
	if err != nil {
		return err
	}
	rc := newRecount(r.Config, p)
	if err := r.read(ctx, topic.Events, p, from, to, func(x broker.Record) error {
		if headless { // clocks of nodes differ a little, so what is gone may have been about the minute after as well
			headless, rc.headless = false, x.Time/60_000+1
		}
		if x.Offset%64 == 0 {
			progress("recounting the log", float64(x.Offset-from)/float64(max(1, to-from)))
		}
		return rc.envelope(x, r.report)
	}); err != nil {
		return err
	}
	progress("comparing", 1)
	want := rc.rows()

	said, err := r.said(ctx, p, rc.watermark)
	if err != nil {
		return err
	}
	// Only what both have called final is compared.
	final := min(rc.watermark, said.watermark, r.To.UnixMilli())
	r.report.reached(p, final, min(rc.watermark, r.To.UnixMilli()))
	r.compareWindows(p, rc, want, said, final)

	if err := r.wait(ctx, p, max(rc.last()+1, rc.ledgerEnd), said.last()+1); err != nil {
		return err
	}
	if err := r.compareTable(ctx, p, rc, want, said, final); err != nil {
		return err
	}
	if err := r.compareEvents(ctx, p, rc, to); err != nil {
		return err
	}
	return r.compareLedger(ctx, p, rc, to)
}

// offsets is the part of the log to read, and whether records before it, that would have been read too, are gone.
func (r *run) offsets(ctx context.Context, p int) (from, to int64, headless bool, err error) {
	first, end, err := r.Broker.Bounds(ctx, topic.Events, p)
	if err != nil {
		return 0, 0, false, err
	}
	if from, err = r.Broker.OffsetAt(ctx, topic.Events, p, r.From.Add(-margin)); err != nil {
		return 0, 0, false, err
	}
	if to, err = r.Broker.OffsetAt(ctx, topic.Events, p, r.To.Add(beyond)); err != nil {
		return 0, 0, false, err
	}
	headless = from <= first && first > 0
	if headless {
		r.report.note("partition %d: the log begins at offset %d; what retention has taken before it isn't recounted, so the first %s after it may differ", p, first, margin)
	}
	return from, min(to, end), headless, nil
}

var errEnd = errors.New("end")

// read hands over the records of a partition from from up to to.
func (r *run) read(ctx context.Context, name string, p int, from, to int64, each func(broker.Record) error) error {
	if from >= to {
		return nil
	}
	err := r.Broker.Follow(ctx, broker.Follower{Topic: name, Partition: p, From: from,
		Record: func(x broker.Record) error {
			if x.Offset >= to {
				return errEnd
			}
			return each(x)
		},
		Batch: func(next, _ int64) error {
			if next >= to {
				return errEnd
			}
			return nil
		},
		Gap: func(g broker.Gap) { r.report.note("%s", g) }})
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

// wait lets the store lane come up to the given offsets: everything before what it has committed is in ClickHouse.
func (r *run) wait(ctx context.Context, p int, events, windows int64) error {
	for end := time.Now().Add(r.Wait); ; {
		if err := r.committed(ctx); err != nil {
			return err
		}
		behind := max(0, events-r.stored[topic.Events][p]) + max(0, windows-r.stored[topic.Windows][p])
		if behind == 0 {
			return nil
		}
		if time.Now().After(end) {
			r.report.behind("partition %d: the store lane is %d records behind, what is in those isn't compared with ClickHouse", p, behind)
			return nil
		}
		r.Progress(Progress{Partition: p, Partitions: r.report.Partitions, Doing: fmt.Sprintf("waiting for the store lane, %d records behind", behind), Done: 1, Events: r.report.Events})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (r *run) committed(ctx context.Context) error {
	partitions := make([]int, r.report.Partitions)
	for p := range partitions {
		partitions[p] = p
	}
	all, err := r.Broker.Committed(ctx, topic.Group("store"), partitions, topic.Events, topic.Windows)
	if err != nil {
		return err
	}
	r.stored = map[string][]int64{topic.Events: make([]int64, len(partitions)), topic.Windows: make([]int64, len(partitions))}
	for _, x := range all {
		r.stored[x.Topic][x.Partition] = max(0, x.Offset)
	}
	return nil
}

// asked says whether the run is about a site.
func (c *Config) asked(site string) bool { return len(c.Sites) == 0 || slices.Contains(c.Sites, site) }
