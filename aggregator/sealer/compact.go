package sealer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

const (
	settled   = 3 * inDay // after its end, a month is compacted
	lookAt    = 10 * time.Minute
	again     = time.Hour // between two compactions of a month
	maxLoose  = 64        // seals of a month that isn't over
	stillOpen = 2         // days before today that may be built again soon
)

// month is a month's seals.
type month struct {
	First uint16   `ch:"first"`
	Seals []uint64 `ch:"seals"`
	Loose uint64   `ch:"loose"` // days of seals that aren't monthly
}

// columns of visits but the seal, and the sums of rollups.
const (
	visitColumns = "site, day, who, visit, alone, start, utc_offset, pageviews, events, " +
		"duration_ms, bounced, entry, " +
		"exit, source, channel, referrer, utm_source, utm_medium, utm_campaign, utm_content, " +
		"utm_term, country, " +
		"region, city, device, screen, browser, browser_version, os, os_version, language, user"
	rollupSums = "visitors, visits, pageviews, events, views, entries, bounces, duration_ms, engaged_ms, " +
		"engaged_visits, scroll_depth, scrolled_visits, exits"
)

// compact merges the seals of a month that is over into one, which has the sums of the month too,
// and those of the running month when they are many.
func (s *Sealer) compact(ctx context.Context) error {
	now := s.now()
	if now.Sub(s.looked) < lookAt {
		return nil
	}
	today := now.Unix() / int64(inDay/time.Second)
	var months []month
	err := s.db.read(ctx, &months, "months",
		clickhouse.Named("last", uint16(max(0, min(today-stillOpen,
			1<<16-1))))) //nolint:gosec // within the bounds
	if err != nil {
		return err
	}
	s.looked = now
	for _, m := range months {
		first := time.Unix(int64(m.First)*86400, 0).UTC()
		next := first.AddDate(0, 1, 0)
		over := now.Sub(next) >= settled
		due := len(m.Seals) > maxLoose || over && (m.Loose > 0 || len(m.Seals) > 1)
		if !due || now.Sub(s.compacted[m.First]) < again {
			continue
		}
		last := uint16(next.AddDate(0, 0, -1).Unix() / 86400) //nolint:gosec // of a Date
		s.compacted[m.First] = now
		if err := s.merge(ctx, m, last, over); err != nil {
			return fmt.Errorf("compact %s: %w", first.Format("2006-01"), err)
		}
	}
	return nil
}

// merge copies the days of seals into one. A day that is built again meanwhile keeps its new seal.
func (s *Sealer) merge(ctx context.Context, m month, last uint16, over bool) error {
	start := s.now()
	seal := rand.Uint64() | 1
	defer s.end(seal)
	args := []any{clickhouse.Named("seals", m.Seals), clickhouse.Named("first", m.First),
		clickhouse.Named("last", last), clickhouse.Named("to", seal), clickhouse.Named("monthly", over)}
	steps := []struct{ name, data string }{{"compact_hits", foldColumns}, {"compact_visits", visitColumns},
		{"compact_rollups", rollupSums}, {"rollups_months", ""}, {"compact_seals", ""}}
	for _, x := range steps {
		if x.name == "rollups_months" && !over {
			continue
		}
		if err := s.db.exec(ctx, x.name, x.data, args...); err != nil {
			return err
		}
	}
	s.metrics.seconds.Observe(s.now().Sub(start).Seconds())
	s.log.Info("compacted the sealed days of a month", "month", dateOf(m.First)[:7], "seals", len(m.Seals))
	return nil
}

// mend marks days whose sealed rows ClickHouse has lost, so that they are built again.
func (s *Sealer) mend(ctx context.Context) error {
	if err := s.db.exec(ctx, "mend", nil); err != nil {
		return err
	}
	var parts []struct {
		Table string `ch:"table"`
		Name  string `ch:"name"`
	}
	if err := s.db.read(ctx, &parts, "broken"); err != nil {
		return err
	}
	for _, p := range parts {
		s.log.Error("ClickHouse can't read a part of sealed rows: its days are built again", "table", p.Table,
			"part", p.Name)
		err := s.db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP DETACHED PART '%s' SETTINGS "+
			"allow_drop_detached = 1",
			p.Table, strings.ReplaceAll(p.Name, "'", "")))
		if err != nil {
			return fmt.Errorf("remove broken part: %w", err)
		}
	}
	return nil
}
