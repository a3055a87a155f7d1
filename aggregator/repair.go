package aggregator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"nowcast/internal/retry"
)

// brokenPart is a part of a table that ClickHouse couldn't read at its start and has set aside.
type brokenPart struct {
	Table string `ch:"table"`
	Name  string `ch:"name"`
}

const selectBrokenParts = "SELECT table, name FROM system.detached_parts " +
	"WHERE database = currentDatabase() AND table IN ('events', 'windows', 'ledger', 'cuts') " +
	"AND reason LIKE 'broken%'"

// repair writes the rows of broken parts again from the log, beside the lanes, and removes the parts. It is
// for a ClickHouse of this machine alone: a part is broken after a loss of power, or a failing disk.
func (s *Service) repair(ctx context.Context) {
	var parts []brokenPart
	var backoff retry.Backoff
	for {
		err := s.db.Select(ctx, &parts, selectBrokenParts)
		if err == nil {
			break
		}
		s.log.Warn("can't ask ClickHouse for broken parts, trying again", "error", err)
		if backoff.Wait(ctx) != nil {
			return
		}
	}
	if len(parts) == 0 {
		return
	}
	s.log.Error("ClickHouse can't read parts of its tables: writing their rows again from the log",
		"parts", parts)
	start := time.Now()
	p, err := Rewind{From: time.UnixMilli(0)}.Run(ctx, s.deps)
	for err != nil {
		if ctx.Err() != nil {
			return // the next start finds the parts again
		}
		s.log.Error("can't write rows of broken parts again, trying again", "error", err)
		if backoff.Wait(ctx) != nil {
			return
		}
		p, err = Rewind{From: time.UnixMilli(0)}.Run(ctx, s.deps)
	}
	s.log.Info("wrote the rows of broken parts again, as far as the log reaches back", "events", p.Events,
		"windows", p.Windows, "ledger", p.Ledger, "took", time.Since(start).Round(time.Millisecond))
	for _, x := range parts {
		err := s.db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP DETACHED PART '%s' "+
			"SETTINGS allow_drop_detached = 1", x.Table, strings.ReplaceAll(x.Name, "'", "")))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("remove broken part", "table", x.Table, "part", x.Name, "error", err)
		}
	}
}
