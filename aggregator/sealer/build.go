package sealer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/hits"
)

// visitDimensions are the dimensions of visits that are rolled up. The strings of keys are in `names` under
// the dimension; those of pages under 'page'.
var visitDimensions = func() (all []dimension) {
	for _, d := range stringDimensions {
		all = append(all, dimension{d, "cityHash64(" + d + ")"})
	}
	return append([]dimension{{"", "toUInt64(0)"}, {"referrer", "referrer"}, {"entry_page", "entry"},
		{"exit_page", "exit"}}, all...)
}()

var stringDimensions = []string{"source", "channel", "utm_source", "utm_medium", "utm_campaign",
	"utm_content",
	"utm_term", "country", "region", "city", "device", "screen", "browser", "browser_version", "os",
	"os_version", "language"}

type dimension struct{ Dim, Key string }

// stamp is what a day's seal is to say.
type stamp struct {
	Site    string `ch:"site"`
	Day     uint16 `ch:"d"`
	Marks   uint64 `ch:"marks"`
	Version uint64 `ch:"version"`
}

// count is what the events of a day are, or what a build has of them.
type count struct {
	Site    string `ch:"site"`
	Day     uint16 `ch:"d"`
	Events  uint64 `ch:"events"`
	Counted uint64 `ch:"counted"` // that aren't engagement
	Digest  uint64 `ch:"digest"`
}

type built struct {
	Site   string `ch:"site"`
	Day    uint16 `ch:"d"`
	Hits   uint64 `ch:"hits"`
	Visits uint64 `ch:"visits"`
	Events uint64 `ch:"events"` // of the visits
}

// codeMemoryLimit is ClickHouse's error code MEMORY_LIMIT_EXCEEDED (src/Common/ErrorCodes.cpp).
const codeMemoryLimit = 241

// errDiffer says that a build doesn't have the events that there are, again and again.
var errDiffer = errors.New("the rows of a build differ from the events")

// build makes a seal of the days of a batch.
func (s *Sealer) build(ctx context.Context, b batch) error {
	start := s.now()
	seal := rand.Uint64() | 1 // never 0
	done, err := s.fill(ctx, b, seal)
	if named := s.name(ctx, done); err == nil {
		err = named
	}
	s.end(seal)
	var refused *clickhouse.Exception
	if errors.As(err, &refused) && refused.Code == codeMemoryLimit && s.cfg.Slice > leastSlice {
		s.cfg.Slice = max(leastSlice, s.cfg.Slice/2)
		s.log.Info("a build needs too much memory: folding fewer events at once", "events", s.cfg.Slice)
	}
	if err != nil {
		return fmt.Errorf("seal %d days from %s: %w", len(b.units), dateOf(b.units[0].day), err)
	}
	took := s.now().Sub(start)
	s.metrics.seconds.Observe(took.Seconds())
	for _, u := range b.units {
		if x := s.days[u]; x != nil {
			x.built, x.took = s.now(), took/time.Duration(len(b.units))
		}
	}
	return nil
}

// end notes that nothing more is written to a seal.
func (s *Sealer) end(seal uint64) { s.ended[strconv.FormatUint(seal, 10)] = true }

func dateOf(day uint16) string { return time.Unix(int64(day)*86400, 0).UTC().Format(time.DateOnly) }

// fill builds a seal and returns what is to name it. The marks are read first, so that a change meanwhile
// shows.
func (s *Sealer) fill(ctx context.Context, b batch, seal uint64) (done []sealed, err error) {
	var stamps []stamp
	if err := s.db.read(ctx, &stamps, "marks", arguments(b.units)...); err != nil {
		return nil, err
	}
	if len(stamps) == 0 {
		return nil, nil // a removed site
	}
	args := append(arguments(b.units), clickhouse.Named("seal", seal), clickhouse.Named("least",
		s.cfg.Rolled))
	if err := s.fold(ctx, b, seal, args); err != nil {
		return nil, err
	}
	for _, x := range []struct {
		name string
		data any
	}{{"visits", nil}, {"rollups_visits", visitDimensions}, {"rollups_hits", nil}, {"rollups_hours", nil}} {
		if err := s.db.exec(ctx, x.name, x.data, args...); err != nil {
			return nil, err
		}
	}
	collide, keys, err := s.collisions(ctx, args)
	if err != nil {
		return nil, err
	}
	if err := s.db.exec(ctx, "names_events", nil, append(slices.Clone(args), keys...)...); err != nil {
		return nil, err
	}
	if err := s.db.exec(ctx, "names_rollups", stringDimensions, args...); err != nil {
		return nil, err
	}
	return s.check(ctx, seal, stamps, collide, args)
}

// collisions returns the days of a build in which one key has two strings, which somebody may try
// to find, and these keys as parameters.
func (s *Sealer) collisions(ctx context.Context, args []any) (days map[unit]bool, keys []any, err error) {
	var found []struct {
		Site string `ch:"site"`
		Key  uint64 `ch:"key"`
	}
	if err := s.db.read(ctx, &found, "collisions", args...); err != nil {
		return nil, nil, err
	}
	sites, numbers := []string{}, []uint64{}
	for _, x := range found {
		sites, numbers = append(sites, x.Site), append(numbers, x.Key)
	}
	keys = []any{clickhouse.Named("collided", sites), clickhouse.Named("keys", numbers)}
	if len(found) == 0 {
		return nil, keys, nil
	}
	var rows []unitRow
	err = s.db.read(ctx, &rows, "colliding", append(slices.Clone(args), keys...)...)
	days = map[unit]bool{}
	for _, r := range rows {
		days[unit{r.Site, r.Day}] = true
	}
	return days, keys, err
}

type unitRow struct {
	Site string `ch:"site"`
	Day  uint16 `ch:"d"`
}

// columns of a fold, as those of `hits` but the seal.
const foldColumns = "site, day, who, visit, alone, n, nth, ts, utc_offset, kind, name, hostname, " +
	"page, next, props, " +
	"engaged_ms, scroll_depth, revenue_micros, currency, start, pageviews, duration_ms, bounced, " +
	"entry, exit, " +
	"source, channel, referrer, utm_source, utm_medium, utm_campaign, utm_content, utm_term, " +
	"country, region, " +
	"city, device, screen, browser, browser_version, os, os_version, language, user"

// fold inserts the hits of a batch. A day of more events than a slice is folded by parts of its visitors.
func (s *Sealer) fold(ctx context.Context, b batch, seal uint64, args []any) error {
	where, err := text("units", nil)
	if err != nil {
		return err
	}
	where = strings.TrimSpace(where)
	parts := b.events/s.cfg.Slice + 1
	for i := range parts {
		who, condition := "number", where
		if parts > 1 {
			who = fmt.Sprintf("number * %d + %d", parts, i)
			condition = fmt.Sprintf("%s AND visitor %% %d = %d", where, parts, i)
		}
		fold, err := hits.Select(condition, "toUInt32("+who+")")
		if err != nil {
			return err
		}
		query := fmt.Sprintf("INSERT INTO hits (seal, %s) SELECT %d AS seal, %[1]s FROM (%[3]s)", foldColumns,
			seal, fold)
		if err := s.db.Exec(s.db.context(ctx), query, args...); err != nil {
			return fmt.Errorf("fold events: %w", err)
		}
	}
	return nil
}

// check compares a build with the events, and returns the days that agree.
func (s *Sealer) check(ctx context.Context, seal uint64, stamps []stamp, collide map[unit]bool,
	args []any) (done []sealed, err error) {
	var counts []count
	if err := s.db.read(ctx, &counts, "counts", args...); err != nil {
		return nil, err
	}
	var have []built
	if err := s.db.read(ctx, &have, "built", args...); err != nil {
		return nil, err
	}
	want, got := map[unit]count{}, map[unit]built{}
	for _, c := range counts {
		want[unit{c.Site, c.Day}] = c
	}
	for _, c := range have {
		got[unit{c.Site, c.Day}] = c
	}
	now, err := s.marksNow(ctx, args)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, x := range stamps {
		u := unit{x.Site, x.Day}
		w, g := want[u], got[u]
		switch agree := w.Counted == g.Hits && g.Hits == g.Events; {
		case now[u] != x.Marks: // its rows have changed meanwhile: the seal wouldn't be current
		case collide[u]:
			s.metrics.collisions.Inc()
			s.log.Error("two pages or referrers of a site have one key: the day isn't sealed and is "+
				"read from "+
				"its events", "site", x.Site, "day", dateOf(x.Day))
		case agree:
			done = append(done, sealed{x, seal, w.Events, w.Digest, g.Hits, g.Visits >= s.cfg.Rolled})
			if d := s.days[u]; d != nil {
				d.differing = 0
			}
		default:
			errs = append(errs, s.differs(u, w, g))
		}
	}
	return done, errors.Join(errs...)
}

// marksNow returns the sums of the marks of days.
func (s *Sealer) marksNow(ctx context.Context, args []any) (map[unit]uint64, error) {
	var stamps []stamp
	if err := s.db.read(ctx, &stamps, "marks", args...); err != nil {
		return nil, err
	}
	all := make(map[unit]uint64, len(stamps))
	for _, x := range stamps {
		all[unit{x.Site, x.Day}] = x.Marks
	}
	return all, nil
}

// differs notes that a build of a day isn't what its events are. Events that have no mark yet are the usual
// reason.
func (s *Sealer) differs(u unit, want count, got built) error {
	x := s.days[u]
	if x == nil {
		x = &state{}
		s.days[u] = x
	}
	if x.differing++; x.differing < failures {
		return nil
	}
	return fmt.Errorf("%w: %s of %s has %d events, %d hits and %d in visits", errDiffer, dateOf(u.day),
		u.site,
		want.Counted, got.Hits, got.Events)
}

// sealed is a day that a build holds.
type sealed struct {
	stamp
	seal, events, digest, hits uint64
	rolled                     bool
}

// name makes the builds of days those that count: one block, so that they switch together.
func (s *Sealer) name(ctx context.Context, days []sealed) error {
	if len(days) == 0 {
		return nil
	}
	query, err := text("insert_seals", nil)
	if err != nil {
		return err
	}
	b, err := s.db.PrepareBatch(ctx, query)
	if err != nil {
		return fmt.Errorf("name seal: %w", err)
	}
	defer b.Close() //nolint:errcheck // returns no error after Send
	rows := uint64(0)
	for _, x := range days {
		rows += x.hits
		err := b.Append(x.Site, time.Unix(int64(x.Day)*86400, 0).UTC(), x.seal, x.Marks, uint16(hits.Rules),
			x.events, x.digest, x.rolled, false, x.Version)
		if err != nil {
			return fmt.Errorf("name seal: %w", err)
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("name seal: %w", err)
	}
	s.metrics.sealed.Add(float64(len(days)))
	s.metrics.rows.Add(float64(rows))
	return nil
}
