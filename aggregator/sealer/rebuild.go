package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/hits"
)

// claimAge is how long the partitions of a rebuild that died are kept.
const claimAge = 7 * inDay

// Status is how far sealed history is.
type Status struct {
	Days     uint64 `json:"days" ch:"days"`         // of sites, with events
	Sealed   uint64 `json:"sealed" ch:"sealed"`     // and current
	Never    uint64 `json:"never" ch:"never"`       // open, or not sealed yet
	Changed  uint64 `json:"changed" ch:"changed"`   // since they were sealed
	Outdated uint64 `json:"outdated" ch:"outdated"` // sealed by older rules
	Oldest   string `json:"oldest" ch:"oldest"`     // day that isn't sealed
	Events   uint64 `json:"events" ch:"events"`     // in seals
	Seals    uint64 `json:"seals" ch:"seals"`       // partitions
	Rules    uint16 `json:"rules" ch:"-"`
}

// ReadStatus reads how far sealed history is, of the days from one on.
func ReadStatus(ctx context.Context, db database, from time.Time) (s Status, err error) {
	var rows []Status
	err = newClient(db, defaultMemory).read(ctx, &rows, "status", clickhouse.Named("rules",
		uint16(hits.Rules)),
		clickhouse.Named("from", dayOf(from)))
	if err != nil {
		return s, err
	}
	s = rows[0]
	s.Rules = hits.Rules
	if s.Sealed+s.Outdated == s.Days {
		s.Oldest = ""
	}
	return s, nil
}

func dayOf(at time.Time) uint16 {
	return uint16(max(0, min(at.Unix()/86400, math.MaxUint16))) //nolint:gosec // within the bounds
}

// Change is a day whose sums differ between the builds before a rebuild and after it.
type Change struct {
	Site       string `json:"site" ch:"site"`
	Day        string `json:"day" ch:"date"`
	Visitors   uint64 `json:"visitors" ch:"visitors"`
	Visitors2  uint64 `json:"new_visitors" ch:"visitors2"`
	Visits     uint64 `json:"visits" ch:"visits"`
	Visits2    uint64 `json:"new_visits" ch:"visits2"`
	Pageviews  uint64 `json:"pageviews" ch:"pageviews"`
	Pageviews2 uint64 `json:"new_pageviews" ch:"pageviews2"`
	Events     uint64 `json:"events" ch:"events"`
	Events2    uint64 `json:"new_events" ch:"events2"`
	Bounces    uint64 `json:"bounces" ch:"bounces"`
	Bounces2   uint64 `json:"new_bounces" ch:"bounces2"`
}

// Rebuild builds all days from one on beside those that count, and then switches to all of them in one step.
// Sealers go on meanwhile: a day that changes is read from its events, and is sealed again after the switch.
type Rebuild struct {
	From     time.Time
	DryRun   bool                         // only compare
	Most     uint32                       // changes to return
	Progress func(days, of int, e uint64) // after each build: days and events so far; may be nil

	config Config
}

// errRebuilding says that there is another rebuild.
var errRebuilding = errors.New("another rebuild is under way, or ended less than a week ago without its " +
	"switch: wait for it, or remove what it holds with --abandon")

// claim is a row of `seals` of no site, which keeps a partition until the switch.
type claim struct {
	Day     uint16 `ch:"d"`
	Seal    uint64 `ch:"seal"`
	Version uint64 `ch:"version"`
}

// Abandon gives up what a rebuild that died has left.
func Abandon(ctx context.Context, db database) error {
	return newClient(db, defaultMemory).abandon(ctx)
}

func (c *client) abandon(ctx context.Context) error {
	err := c.Exec(ctx, "ALTER TABLE seals DELETE WHERE site = '' SETTINGS mutations_sync = 2")
	if err != nil {
		return fmt.Errorf("give up the partitions of a rebuild: %w", err)
	}
	return nil
}

// Run rebuilds, and returns the days that are built and those that changed.
func (r Rebuild) Run(ctx context.Context, db database, log *slog.Logger) (days int, changes []Change,
	err error) {
	s := New(r.config, db, log, prometheus.NewRegistry())
	var claims []claim
	if err := s.db.read(ctx, &claims, "claims"); err != nil {
		return 0, nil, err
	}
	for _, c := range claims {
		if time.Since(time.UnixMicro(int64(c.Version))) < claimAge { //nolint:gosec // a time
			return 0, nil, errRebuilding
		}
	}
	defer func() {
		// Also where ctx has ended: the sealer drops the partitions then.
		err = errors.Join(err, s.db.abandon(context.WithoutCancel(ctx)))
	}()
	done, seals, err := r.build(ctx, s)
	if err != nil {
		return len(done), nil, err
	}
	err = s.db.read(ctx, &changes, "difference", clickhouse.Named("seals", seals),
		clickhouse.Named("from", dayOf(r.From)), clickhouse.Named("limit", max(1, r.Most)))
	if err != nil || r.DryRun {
		return len(done), changes, err
	}
	if err := s.supersede(ctx, done); err != nil {
		return len(done), changes, err
	}
	return len(done), changes, s.name(ctx, done)
}

// supersede gives days versions that are newer than those that sealers have written during a rebuild.
func (s *Sealer) supersede(ctx context.Context, days []sealed) error {
	var newest []struct {
		Version uint64 `ch:"version"`
	}
	if err := s.db.Select(ctx, &newest, "SELECT max(version) AS version FROM seals"); err != nil {
		return fmt.Errorf("read the newest version of a seal: %w", err)
	}
	for i := range days {
		days[i].Version = max(days[i].Version, newest[0].Version+1)
	}
	return nil
}

// build builds all days and claims their seals.
func (r Rebuild) build(ctx context.Context, s *Sealer) (done []sealed, seals []uint64, err error) {
	var rows []unitRow
	if err := s.db.read(ctx, &rows, "rebuildable", clickhouse.Named("from", dayOf(r.From))); err != nil {
		return nil, nil, err
	}
	units := make([]unit, len(rows))
	for i, x := range rows {
		units[i] = unit{x.Site, x.Day}
	}
	batches, err := s.plan(ctx, units)
	if err != nil {
		return nil, nil, err
	}
	events := uint64(0)
	built := 0
	for i, b := range batches {
		seal := rand.Uint64() | 1
		if err := s.claim(ctx, i, seal); err != nil {
			return done, nil, err
		}
		days, err := s.fill(ctx, b, seal)
		if err != nil {
			return done, nil, err
		}
		done, seals, events = append(done, days...), append(seals, seal), events+b.events
		built += len(b.units)
		if r.Progress != nil {
			r.Progress(built, len(units), events)
		}
	}
	return done, seals, nil
}

// claim keeps the partition of a build that isn't named yet. The number of the claim is its day,
// from the last.
func (s *Sealer) claim(ctx context.Context, n int, seal uint64) error {
	err := s.db.Exec(ctx, "INSERT INTO seals (site, day, seal, version) SELECT '', "+
		"toDate({d:UInt16}), {seal:UInt64}, "+
		"toUInt64(toUnixTimestamp64Micro(now64(6)))",
		clickhouse.Named("d", uint16(math.MaxUint16-n)), clickhouse.Named("seal", seal)) //nolint:gosec // few
	if err != nil {
		return fmt.Errorf("claim a partition: %w", err)
	}
	return nil
}
