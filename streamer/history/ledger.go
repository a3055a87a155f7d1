package history

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/streamer/api"
)

// Outcomes counts the beacons of a site by what became of them. Each beacon counts in Received and in
// exactly one other field.
type Outcomes struct {
	Received  uint64            `json:"received"`
	Counted   uint64            `json:"counted"`
	Late      uint64            `json:"late"`
	Stale     uint64            `json:"stale"`
	Duplicate uint64            `json:"duplicate"`
	Dropped   map[string]uint64 `json:"dropped"` // by reason
}

// LedgerMinute counts the beacons received within one minute. Minutes without a beacon are left out.
type LedgerMinute struct {
	At time.Time `json:"at"`
	Outcomes
	Settled bool `json:"settled"` // false: the counts may still grow
}

// Ledger says what became of the beacons of a site, in [From, To).
type Ledger struct {
	From    time.Time      `json:"from"`
	To      time.Time      `json:"to"`
	Total   Outcomes       `json:"total"`
	Minutes []LedgerMinute `json:"minutes"`
}

// LedgerRange is the part of a ledger that a query asks for.
type LedgerRange struct {
	// two dates in the site's time zone or two times, both included; both empty: the last hour
	From, To string
	Minutes  bool // also the counts of each minute
}

const (
	// maxLedgerMinutes bounds a range by the minute: a week, and the hour by which clocks may go back in it.
	maxLedgerMinutes = (7*24 + 1) * time.Hour
	// settlingTime is how long the counts of a minute may grow: until its last second is in ClickHouse. A
	// store lane that is behind takes longer.
	settlingTime = 2 * time.Minute
)

// Ledger returns what became of the beacons of a site. The principal and the errors are those of Run.
func (e *Engine) Ledger(ctx context.Context, p api.Principal, s Site, r LedgerRange) (out Ledger, err error) {
	err = e.admit(ctx, p, func(ctx context.Context) error {
		out, err = e.ledger(ctx, s, r)
		return err
	})
	return out, err
}

func (e *Engine) ledger(ctx context.Context, s Site, r LedgerRange) (Ledger, error) {
	loc, err := zone(s.Timezone)
	if err != nil {
		return Ledger{}, err
	}
	now := e.cfg.Now()
	span, err := r.span(now, loc)
	if err != nil {
		return Ledger{}, err
	}
	stmt, err := execute("ledger.sql", r.Minutes)
	if err != nil {
		return Ledger{}, err
	}
	stmt.bind("site", s.Domain)
	from := span.From
	if from.Before(s.LedgerSince) {
		from = s.LedgerSince
	}
	stmt.bind("from", from.Unix())
	stmt.bind("to", span.To.Unix())
	out := Ledger{
		From: span.From.Truncate(time.Minute), To: span.To,
		Total: Outcomes{Dropped: map[string]uint64{}}, Minutes: []LedgerMinute{},
	}
	return out, e.db.run(ctx, stmt, func(rows driver.Rows) error {
		var at uint32
		var x Outcomes
		err := rows.Scan(&at, &x.Received, &x.Counted, &x.Late, &x.Stale, &x.Duplicate, &x.Dropped)
		if err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		maps.DeleteFunc(x.Dropped, func(_ string, n uint64) bool { return n == 0 })
		out.Total.add(x)
		if r.Minutes {
			minute := time.Unix(int64(at), 0).UTC()
			out.Minutes = append(out.Minutes, LedgerMinute{minute, x, !minute.Add(settlingTime).After(now)})
		}
		return nil
	})
}

func (o *Outcomes) add(x Outcomes) {
	o.Received += x.Received
	o.Counted += x.Counted
	o.Late += x.Late
	o.Stale += x.Stale
	o.Duplicate += x.Duplicate
	for reason, n := range x.Dropped {
		o.Dropped[reason] += n
	}
}

// span resolves the range.
func (r LedgerRange) span(now time.Time, zone *time.Location) (span, error) {
	switch {
	case r.From == "" && r.To == "":
		to := now.Truncate(time.Second).Add(time.Second)
		return span{From: to.Add(-time.Hour), To: to, Zone: zone}, nil
	case r.From == "":
		return span{}, invalid("from", "give it with to, or neither for the last hour")
	case r.To == "":
		return span{}, invalid("to", "give it with from, or neither for the last hour")
	}
	_, fromKind, err := instant("from", r.From)
	if err != nil {
		return span{}, err
	}
	_, toKind, err := instant("to", r.To)
	switch {
	case err != nil:
		return span{}, err
	case (fromKind == date) != (toKind == date):
		return span{}, invalid("to", "give from and to as two dates or as two times, not one of each")
	}
	s, err := (&DateRange{From: r.From, To: r.To}).between(zone)
	if err != nil {
		return span{}, invalid("to", "it is before from")
	}
	if r.Minutes && s.To.Sub(s.From) > maxLedgerMinutes {
		err = invalid("from", "minutes are given for at most 7 days; "+
			"ask for a shorter time, or for the total with by=total")
	}
	return s, err
}
