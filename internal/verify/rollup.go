package verify

import (
	"context"
	_ "embed"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/topic"
)

const inRollupTable = "ClickHouse ledger_rollup"

// rollup is what the recounts of all partitions say about the minutes that ClickHouse has summed over
// partitions. The log reaches back to them only in its oldest segments.
type rollup struct {
	before int64 // minutes before this one are rolled up
	want   map[minuteKey]*outcomes
	// unsure are minutes with records that the store lane hadn't committed
	unsure      map[minuteKey]bool
	lostThrough int64 // minutes up to this one may have been in deleted records of a partition
}

// readRolledUp returns before which minute the ledger is rolled up.
func readRolledUp(ctx context.Context, db tables) (before int64, err error) {
	exists, err := hasTable(ctx, db, "rolled_up")
	if err != nil || !exists {
		return 0, err
	}
	return before, scan(ctx, db, "the roll-up",
		"SELECT intDiv(toInt64(toUnixTimestamp(max(before))), 60) FROM rolled_up",
		func(r driver.Rows) error { return r.Scan(&before) })
}

// take moves the minutes that are rolled up from a partition's recount.
func (x *rollup) take(rc *recount, committed int64) {
	x.lostThrough = max(x.lostThrough, rc.lostThrough)
	for k, o := range rc.ledger {
		if k.minute >= x.before {
			continue
		}
		if x.want == nil {
			x.want, x.unsure = map[minuteKey]*outcomes{}, map[minuteKey]bool{}
		}
		if x.want[k] == nil {
			x.want[k] = &outcomes{}
		}
		x.want[k].add(o)
		x.unsure[k] = x.unsure[k] || o.last >= committed
		delete(rc.ledger, k)
	}
}

//go:embed sql/rollup.sql
var selectRollup string

// compareRollup compares the sums with the recounts of all partitions.
func (r *run) compareRollup(ctx context.Context) error {
	x := &r.rollup
	from, to := r.minutes()
	if to = min(to, x.before); from >= to {
		return nil
	}
	got, err := r.readRollup(ctx, from*60, to*60)
	if err != nil {
		return err
	}
	r.report.note("the minutes before %s are compared as sums over all partitions, as ClickHouse has them",
		time.Unix(x.before*60, 0).UTC().Format(time.RFC3339))
	for k, g := range got {
		switch {
		case r.erased.Site(k.site, k.minute*60_000) && !r.erased.Done(k.site, 0, k.minute*60_000):
			r.leftOver++
		case r.erased.Site(k.site, k.minute*60_000):
			r.differInRollup(k, stillStored)
		case k.minute <= x.lostThrough:
		case x.want[k] == nil && r.readsToEnd:
			r.differInRollup(k, "no event of the log explains it: "+g.String())
		}
	}
	kept := time.Now().AddDate(0, -ledgerRetention, 0).Unix()
	for k, w := range x.want {
		if k.minute <= x.lostThrough || x.unsure[k] || k.minute*60 < kept ||
			r.erased.Site(k.site, k.minute*60_000) || r.hasExpired(k.site, k.minute*60_000) {
			continue
		}
		r.report.addLedger(w)
		g := got[k]
		switch {
		case g == nil:
			r.differInRollup(k, "missing: "+w.String())
		case !r.readsToEnd && g.covers(w): // it may count records after those that were read
			if !g.balanced() {
				r.differInRollup(k, g.imbalance())
			}
		default:
			if what := w.differs(g); what != "" {
				r.differInRollup(k, what)
			}
		}
	}
	return nil
}

// differInRollup reports a difference, unless a cut of a partition's log explains it.
func (r *run) differInRollup(k minuteKey, what string) {
	d := Difference{In: inRollupTable, Site: k.site, Second: k.minute * 60, Partition: allPartitions,
		Position: topic.Events, What: what}
	for _, c := range r.report.Cuts {
		cut := d
		cut.Partition = c.Partition
		if r.report.explainedByCut(cut) {
			return
		}
	}
	r.report.differ(d)
}

// readRollup reads the sums of [from, to), unix times.
func (r *run) readRollup(ctx context.Context, from, to int64) (map[minuteKey]*outcomes, error) {
	got := map[minuteKey]*outcomes{}
	return got, scan(ctx, r.tables, "the roll-up", selectRollup, func(rows driver.Rows) error {
		var k minuteKey
		var o outcomes
		err := rows.Scan(&k.site, &k.minute, &o.received, &o.counted, &o.late, &o.stale, &o.duplicate,
			&o.dropped)
		got[k] = &o
		return err
	}, r.parameters(from, to)...)
}

// covers reports whether each count of o is at least that of x.
func (o *outcomes) covers(x *outcomes) bool {
	for reason, n := range x.dropped {
		if o.dropped[reason] < n {
			return false
		}
	}
	return o.received >= x.received && o.counted >= x.counted && o.late >= x.late && o.stale >= x.stale &&
		o.duplicate >= x.duplicate
}
