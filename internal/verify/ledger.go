package verify

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

const (
	inEventsTopic = topic.Events
	inLedgerTable = "ClickHouse ledger"
)

// minuteKey is a site and a minute of receipt, since 1970 UTC.
type minuteKey struct {
	site   string
	minute int64
}

// outcomes counts the fate of beacons. Each is in received and in exactly one other count.
type outcomes struct {
	received, counted, late, stale, duplicate uint64
	dropped                                   map[string]uint64 // by reason
	// offset of the last envelope that counted here
	last int64
}

func (o *outcomes) addEvent(c class) {
	switch c {
	case inWindow:
		o.counted++
	case late:
		o.late++
	case stale:
		o.stale++
	case duplicate:
		o.duplicate++
	}
}

func (o *outcomes) add(x *outcomes) {
	o.received += x.received
	o.counted += x.counted
	o.late += x.late
	o.stale += x.stale
	o.duplicate += x.duplicate
	o.last = max(o.last, x.last)
	for reason, n := range x.dropped {
		o.drop(reason, n)
	}
}

func (o *outcomes) drop(reason string, n uint64) {
	if n == 0 {
		return
	}
	if o.dropped == nil {
		o.dropped = map[string]uint64{}
	}
	o.dropped[reason] += n
}

func (o *outcomes) events() uint64 { return o.counted + o.late + o.stale + o.duplicate }

func (o *outcomes) allDropped() (n uint64) {
	for _, d := range o.dropped {
		n += d
	}
	return n
}

func (o *outcomes) balanced() bool { return o.received == o.events()+o.allDropped() }

func (o *outcomes) String() string {
	return fmt.Sprintf("%d received, %d counted, %d late, %d stale, %d duplicate, %d dropped",
		o.received, o.counted, o.late, o.stale, o.duplicate, o.allDropped())
}

// differs describes the counts in which got isn't o, and an imbalance of got.
func (o *outcomes) differs(got *outcomes) string {
	var all differences
	all.compare("received", got.received, o.received)
	all.compare("counted", got.counted, o.counted)
	all.compare("late", got.late, o.late)
	all.compare("stale", got.stale, o.stale)
	all.compare("duplicate", got.duplicate, o.duplicate)
	reasons := slices.AppendSeq(slices.Collect(maps.Keys(o.dropped)), maps.Keys(got.dropped))
	slices.Sort(reasons)
	for _, reason := range slices.Compact(reasons) {
		all.compare("dropped as "+reason, got.dropped[reason], o.dropped[reason])
	}
	if !got.balanced() {
		all = append(all, got.imbalance())
	}
	return strings.Join(all, ", ")
}

func (o *outcomes) imbalance() string {
	return fmt.Sprintf("it doesn't add up: %d received, but %d counted, late, stale, duplicate or dropped",
		o.received, o.events()+o.allDropped())
}

// minutes returns the whole minutes that the span touches, [from, to).
func (c *Config) minutes() (from, to int64) { return c.From.Unix() / 60, (c.To.Unix() + 59) / 60 }

// addToLedger counts an envelope in the ledger. It reports an envelope whose tallies don't fit its events.
func (r *recount) addToLedger(x broker.Record, events []event.Event, classes []class, tallies []event.Tally,
	report *Report) {
	here := map[minuteKey]*outcomes{}
	at := func(site string, minute int64) *outcomes {
		k := minuteKey{r.sites[r.site(site)], minute}
		if here[k] == nil {
			here[k] = &outcomes{last: x.Offset}
		}
		return here[k]
	}
	for i := range events {
		o := at(events[i].Site, events[i].Time/60_000)
		o.addEvent(classes[i])
		if len(tallies) == 0 { // from a version of ingest that sent no tallies
			o.received++
		}
	}
	for _, t := range tallies {
		o := at(t.Site, max(0, min(t.Minute, x.Time/60_000)))
		if t.Reason == "" {
			o.received += t.Count
		} else {
			o.drop(strings.Clone(t.Reason), t.Count)
		}
	}
	from, to := r.cfg.minutes()
	for k, o := range here {
		if k.minute < from || k.minute >= to || !r.cfg.includes(k.site) {
			continue
		}
		if !o.balanced() {
			report.differ(Difference{In: inEventsTopic, Site: k.site, Second: k.minute * 60,
				Partition: r.partition, Position: position(inEventsTopic, r.partition, x.Offset),
				What: fmt.Sprintf("the envelope's tallies and events don't fit: "+
					"%d received, %d dropped, %d events",
					o.received, o.allDropped(), o.events())})
		}
		if r.ledger[k] == nil {
			r.ledger[k] = &outcomes{}
		}
		r.ledger[k].add(o)
		r.ledgerEnd = x.Offset + 1
	}
}

//go:embed sql/ledger.sql
var selectLedger string

// ledgerRetention is how many months ClickHouse keeps the ledger.
const ledgerRetention = 13

// compareLedger compares the sums of the ledger by site and minute. How many rows add up to a sum isn't
// compared. A minute with envelopes from offset to on, which the recount hasn't read, only has to balance.
// The minutes that are rolled up are compared when all partitions are recounted.
func (r *run) compareLedger(ctx context.Context, p int, rc *recount, to int64) error {
	r.rollup.take(rc, r.committed[topic.Events][p])
	got, newer, err := r.readLedger(ctx, p, to)
	if err != nil {
		return err
	}
	differ := func(k minuteKey, offset int64, what string) {
		r.report.differ(Difference{In: inLedgerTable, Site: k.site, Second: k.minute * 60, Partition: p,
			Position: position(inEventsTopic, p, offset), What: what})
	}
	for k, g := range got {
		switch {
		case r.erased.Site(k.site, k.minute*60_000) && !r.erased.Done(k.site, 0, k.minute*60_000):
			r.leftOver++
		case r.erased.Site(k.site, k.minute*60_000):
			differ(k, g.last, stillStored)
		case k.minute <= rc.lostThrough:
		case newer[k] && !g.balanced():
			differ(k, g.last, g.imbalance())
		case rc.ledger[k] == nil && !newer[k]:
			differ(k, g.last, "no event of the log explains it: "+g.String())
		}
	}
	kept := time.Now().AddDate(0, -ledgerRetention, 0).Unix()
	for k, w := range rc.ledger {
		if k.minute <= rc.lostThrough || newer[k] || w.last >= r.committed[topic.Events][p] ||
			k.minute*60 < kept || r.erased.Site(k.site, k.minute*60_000) ||
			r.hasExpired(k.site, k.minute*60_000) {
			continue
		}
		r.report.addLedger(w)
		g := got[k]
		if g == nil {
			differ(k, w.last, "missing: "+w.String())
			continue
		}
		if what := w.differs(g); what != "" {
			differ(k, w.last, what)
		}
	}
	return nil
}

// readLedger sums the table by site and minute, for segments that begin before offset to. newer are the
// minutes with counts of later envelopes.
func (r *run) readLedger(ctx context.Context, p int, to int64) (got map[minuteKey]*outcomes,
	newer map[minuteKey]bool,
	err error) {
	first, last := r.minutes()
	first = max(first, r.rollup.before)
	rows, err := r.query(ctx, "the ledger", selectLedger, "partition", p, first*60, last*60)
	if err != nil {
		return nil, nil, err
	}
	_, end, err := r.log.Bounds(ctx, topic.Events, p) // after the query, so that the log has all of its rows
	if err != nil {
		rows.Close() //nolint:errcheck // nothing was read
		return nil, nil, err
	}
	got, newer = map[minuteKey]*outcomes{}, map[minuteKey]bool{}
	err = each("the ledger", rows, func() error {
		var k minuteKey
		var o outcomes
		var segment, version uint64
		var dropped map[string]uint64
		if err := rows.Scan(&k.site, &k.minute, &segment, &o.received, &o.counted, &o.late, &o.stale,
			&o.duplicate, &dropped, &version); err != nil {
			return err
		}
		if int64(segment) >= to && int64(segment) < end {
			return nil
		}
		if int64(version) >= to && int64(version) < end {
			newer[k] = true
		}
		o.dropped, o.last = dropped, int64(version)
		if got[k] == nil {
			got[k] = &outcomes{}
		}
		got[k].add(&o)
		return nil
	})
	return got, newer, err
}
