// Package past writes a realistic past of sites straight into ClickHouse, for benchmarks, screenshots and
// demonstrations. The rows are made by ClickHouse itself, a few days at a time.
//
// The rows are of no log: `nowcast verify` reports them, and an aggregator that reads the log again doesn't
// make them. The same Config makes the same rows, which count once.
package past

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

//go:embed sql/*.sql
var files embed.FS

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
}

// Config says what is written.
type Config struct {
	Sites  []string       // the busiest first: the k-th has 1/k of the events of the first
	Zone   *time.Location // of the sites; it cuts the days
	Until  time.Time      // the last day is the one before this time's
	Months int            // of the past, up to 132
	Events int64          // in all, about
	Seed   uint64
	// Progress is called after each insert with the share that is done, 0 to 1; may be nil.
	Progress func(done float64)
}

// Validate returns an error that names the first invalid field and its range.
func (c *Config) Validate() error {
	switch {
	case len(c.Sites) == 0:
		return errors.New("there is no site: give at least one")
	case c.Months < 1 || c.Months > 132:
		return fmt.Errorf("the history is %d months: give 1 to 132", c.Months)
	case c.Events < 1 || c.Events > 100_000_000_000:
		return fmt.Errorf("events is %d: give 1 to 100000000000", c.Events)
	}
	return nil
}

const (
	eventsOfVisitor = 4.90      // mean of the statement, as a test measures it
	maxChunk        = 1_000_000 // events of an insert, unless a day has more
	maxChunkDays    = 31
)

// Run writes the past of all sites.
func Run(ctx context.Context, db database, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	insert, err := files.ReadFile("sql/insert_days.sql")
	if err != nil {
		return fmt.Errorf("read statement: %w", err)
	}
	mark, err := files.ReadFile("sql/mark_days.sql")
	if err != nil {
		return fmt.Errorf("read statement: %w", err)
	}
	w := writer{db: db, cfg: cfg, insert: string(insert), mark: string(mark)}
	year, month, day := cfg.Until.In(cfg.Zone).Date()
	last := time.Date(year, month, day, 0, 0, 0, 0, cfg.Zone)
	weights := 0.0
	for k := range cfg.Sites {
		weights += 1 / float64(k+1)
	}
	for k, site := range cfg.Sites {
		visitors := float64(cfg.Events) / eventsOfVisitor / float64(k+1) / weights
		if err := w.site(ctx, site, last.AddDate(0, -cfg.Months, 0), last, visitors); err != nil {
			return err
		}
	}
	return nil
}

// writer writes chunks of days.
type writer struct {
	db           database
	cfg          Config
	insert, mark string
	done         float64 // visitors
}

// site writes the days of [from, until), both midnights of the site.
func (w *writer) site(ctx context.Context, site string, from, until time.Time, visitors float64) error {
	days, sum := traffic(from, until, w.cfg.Seed)
	var c chunk
	rest, chunks := 0.0, uint64(0)
	for i, weight := range days {
		exact := visitors*weight/sum + rest
		n := uint64(exact)
		rest = exact - float64(n) // is carried over, so that a small site has its events too
		day := from.AddDate(0, 0, i)
		if len(c.until) == 0 {
			c = chunk{first: day}
		}
		c.count += n
		c.until = append(c.until, c.count)
		if len(c.until) < maxChunkDays && float64(c.count)*eventsOfVisitor < maxChunk && i+1 < len(days) {
			continue
		}
		chunks++
		if err := w.write(ctx, site, chunks, &c); err != nil {
			return err
		}
		c = chunk{}
	}
	return nil
}

// traffic returns how much of the visits each day has: it grows, weekends are quieter, and days differ.
func traffic(from, until time.Time, seed uint64) (days []float64, sum float64) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret
	total := until.Sub(from).Hours() / 24
	for day := from; day.Before(until); day = day.AddDate(0, 0, 1) {
		weight := 1 + float64(len(days))/total
		if d := day.Weekday(); d == time.Saturday || d == time.Sunday {
			weight *= 0.6
		}
		weight *= math.Exp(0.15 * r.NormFloat64())
		days = append(days, weight)
		sum += weight
	}
	return days, sum
}

// chunk is some days in a row.
type chunk struct {
	first time.Time // midnight of the site
	until []uint64  // how many visitors there are up to the end of each day
	count uint64
}

// write inserts the events of a chunk, and then says that its days have changed.
func (w *writer) write(ctx context.Context, site string, number uint64, c *chunk) error {
	if c.count == 0 {
		return ctx.Err()
	}
	midnights, changes, offsets := clocks(c.first, len(c.until))
	first := c.first.Format(time.DateOnly)
	pages := min(50_000, 50+c.count/uint64(len(c.until))/10)
	err := w.db.Exec(ctx, w.insert, clickhouse.Named("site", site), clickhouse.Named("seed", w.cfg.Seed),
		clickhouse.Named("chunk", number), clickhouse.Named("count", c.count),
		clickhouse.Named("first", first), clickhouse.Named("pages", pages),
		clickhouse.Named("visitors", c.until), clickhouse.Named("midnights", midnights),
		clickhouse.Named("changes", changes), clickhouse.Named("offsets", offsets))
	if err != nil {
		return fmt.Errorf("write the events of %s from %s on: %w", site, first, err)
	}
	if err := w.db.Exec(ctx, w.mark, clickhouse.Named("site", site), clickhouse.Named("first", first),
		clickhouse.Named("days", len(c.until))); err != nil {
		return fmt.Errorf("mark the days of %s from %s on: %w", site, first, err)
	}
	if w.done += float64(c.count); w.cfg.Progress != nil {
		w.cfg.Progress(min(1, w.done*eventsOfVisitor/float64(w.cfg.Events)))
	}
	return nil
}

// clocks returns the midnights of some days and the one after them, and the offsets from UTC (s) with the
// times from which they hold, all times in milliseconds.
func clocks(first time.Time, days int) (midnights, changes []int64, offsets []int32) {
	add := func(at time.Time) {
		_, offset := at.Zone()
		if n := len(offsets); n > 0 && offsets[n-1] == int32(offset) { //nolint:gosec // below a day
			return
		}
		changes = append(changes, at.UnixMilli())
		offsets = append(offsets, int32(offset)) //nolint:gosec // below a day
	}
	add(first)
	for i := range days {
		day, next := first.AddDate(0, 0, i), first.AddDate(0, 0, i+1)
		midnights = append(midnights, day.UnixMilli())
		for _, end := day.ZoneBounds(); !end.IsZero() && end.Before(next); _, end = end.ZoneBounds() {
			add(end)
		}
		add(next)
	}
	return append(midnights, first.AddDate(0, 0, days).UnixMilli()), changes, offsets
}
