package sealer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/hits"
)

const (
	maxWaiting = 20_000 // days that one turn looks at
	inDay      = 24 * time.Hour
)

// waiting is a day that isn't current.
type waiting struct {
	Site  string `ch:"site"`
	Day   uint16 `ch:"d"`
	Marks uint64 `ch:"marks"`
	Seal  uint64 `ch:"seal"`  // 0: it was never sealed
	Later bool   `ch:"later"` // the site has a later day
}

func (w *waiting) unit() unit { return unit{w.Site, w.Day} }

// size is a day's number of rows and its clocks' offset from UTC, s.
type size struct {
	Site   string `ch:"site"`
	Day    uint16 `ch:"d"`
	Events uint64 `ch:"events"`
	Offset int32  `ch:"offset"`
}

// batch is days of one seal, of one month.
type batch struct {
	units  []unit
	events uint64
}

// due returns the days that are to be built now. more says that others are waiting behind them.
func (s *Sealer) due(ctx context.Context) (due []unit, more bool, err error) {
	var found []waiting
	err = s.db.read(ctx, &found, "waiting", clickhouse.Named("rules", uint16(hits.Rules)),
		clickhouse.Named("limit", uint64(maxWaiting)))
	if err != nil {
		return nil, false, err
	}
	now := s.now()
	s.note(found, now)
	var open []unit
	for i := range found {
		w := &found[i]
		x := s.days[w.unit()]
		switch {
		case !w.Later && now.Before(endOf(w.Day, -12*60*60)):
			open = append(open, w.unit()) // perhaps: its site's clocks say when it ends
		case s.isDue(x, now):
			due = append(due, w.unit())
		}
	}
	closed, err := s.openDue(ctx, open, now)
	oldest := time.Duration(0)
	for _, u := range due {
		oldest = max(oldest, now.Sub(s.days[u].since))
	}
	s.metrics.waiting.Set(float64(len(found)))
	s.metrics.oldest.Set(oldest.Seconds())
	due = append(due, closed...)
	return due, len(found) == maxWaiting && len(due) > 0, err
}

// monthOf numbers the months of days.
func monthOf(day uint16) int {
	at := time.Unix(int64(day)*86400, 0).UTC()
	return at.Year()*12 + int(at.Month())
}

// compare orders units by month, site and day: the rows of a batch are then close to each other.
func compare(a, b unit) int {
	return cmp.Or(cmp.Compare(monthOf(a.day), monthOf(b.day)), strings.Compare(a.site, b.site),
		cmp.Compare(a.day, b.day))
}

// endOf returns when a day ends on clocks with an offset from UTC.
func endOf(day uint16, offset int32) time.Time {
	return time.Unix((int64(day)+1)*int64(inDay/time.Second)-int64(offset), 0)
}

// note remembers what waits, and forgets what doesn't.
func (s *Sealer) note(found []waiting, now time.Time) {
	seen := make(map[unit]bool, len(found))
	for i := range found {
		w := &found[i]
		seen[w.unit()] = true
		x := s.days[w.unit()]
		if x == nil {
			x = &state{}
			s.days[w.unit()] = x
		}
		if x.since.IsZero() {
			x.since = now
		}
		if x.marks != w.Marks || x.changed.IsZero() {
			x.marks, x.changed = w.Marks, now
		}
	}
	maps.DeleteFunc(s.days, func(u unit, x *state) bool {
		if seen[u] {
			return false
		}
		x.since = time.Time{}
		return now.Sub(x.built) > x.gap()
	})
}

// gap is the time between two builds of a day that goes on changing.
func (x *state) gap() time.Duration { return max(leastGap, share*x.took) }

// isDue reports whether a day that is over is to be built: it has been quiet, or goes on changing.
func (s *Sealer) isDue(x *state, now time.Time) bool {
	if !x.built.IsZero() && now.Sub(x.built) < x.gap() && x.differing == 0 {
		return false
	}
	return now.Sub(x.changed) >= s.cfg.Quiet || now.Sub(x.since) >= 10*s.cfg.Quiet
}

// openDue returns those of days, which may be open, that are over on their site's clocks or large.
func (s *Sealer) openDue(ctx context.Context, open []unit, now time.Time) (due []unit, err error) {
	var asked []unit
	for _, u := range open {
		if x := s.days[u]; x.built.IsZero() || now.Sub(x.built) >= x.gap() {
			if now.Sub(x.sized) >= leastGap || !now.Before(endOf(u.day, x.offset)) {
				asked = append(asked, u)
			}
		}
	}
	err = s.sizes(ctx, asked, func(z size) {
		u := unit{z.Site, z.Day}
		x := s.days[u]
		x.sized, x.offset = now, z.Offset
		// The seal of an open day is current until its next event, so it has to be quiet.
		over := !now.Before(endOf(u.day, z.Offset))
		if (over || z.Events >= s.cfg.Large && now.Sub(x.changed) >= s.cfg.Quiet) && s.isDue(x, now) {
			due = append(due, u)
		}
	})
	return due, err
}

// sizes asks for the sizes of days.
func (s *Sealer) sizes(ctx context.Context, units []unit, add func(size)) error {
	for len(units) > 0 {
		n := min(len(units), maxUnits)
		var found []size
		if err := s.db.read(ctx, &found, "sizes", arguments(units[:n])...); err != nil {
			return err
		}
		for _, z := range found {
			add(z)
		}
		units = units[n:]
	}
	return nil
}

// arguments are the parameters of the templates "units" and "listed".
func arguments(units []unit) []any {
	sites, days := make([]string, len(units)), make([]uint16, len(units))
	first, last := units[0].day, units[0].day
	for i, u := range units {
		sites[i], days[i] = u.site, u.day
		first, last = min(first, u.day), max(last, u.day)
	}
	const hour = 60 * 60
	return []any{clickhouse.Named("sites", sites), clickhouse.Named("days", days),
		clickhouse.Named("from", seconds(int64(first)*24*hour-15*hour)),
		clickhouse.Named("to", seconds(int64(last)*24*hour+38*hour))}
}

// seconds are a time within those of ClickHouse's DateTime.
func seconds(at int64) uint32 { return uint32(max(0, min(at, 1<<32-1))) } //nolint:gosec // within the bounds

// plan distributes days over batches. A day without rows is built too: its seal says that it has none.
func (s *Sealer) plan(ctx context.Context, due []unit) (batches []batch, err error) {
	events := make(map[unit]uint64, len(due))
	if err := s.sizes(ctx, due, func(z size) { events[unit{z.Site, z.Day}] = z.Events }); err != nil {
		return nil, fmt.Errorf("plan builds: %w", err)
	}
	var b batch
	slices.SortFunc(due, compare)
	for _, u := range due {
		n := events[u]
		full := b.events+n > s.cfg.Slice || len(b.units) == maxUnits ||
			len(b.units) > 0 && monthOf(u.day) != monthOf(b.units[0].day)
		if len(b.units) > 0 && full {
			batches, b = append(batches, b), batch{}
		}
		b.units, b.events = append(b.units, u), b.events+n
	}
	if len(b.units) > 0 {
		batches = append(batches, b)
	}
	return batches, nil
}
