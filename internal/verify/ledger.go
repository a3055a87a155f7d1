package verify

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/broker"
	"nowcast/internal/event"
	"nowcast/internal/topic"
)

const (
	inLog    = topic.Events
	inLedger = "ClickHouse ledger"
)

// minuteKey is what a reader of the ledger asks for: a site and a minute of receipt, since 1970 UTC.
type minuteKey struct {
	site   string
	minute int64
}

// outcomes is what became of beacons. Each is in received and in one of the others.
type outcomes struct {
	received, counted, late, stale, repeated uint64
	dropped                                  map[string]uint64
	last                                     int64 // offset of the last envelope that says something of them
}

func (o *outcomes) event(c class) {
	switch c {
	case inWindow:
		o.counted++
	case late:
		o.late++
	case stale:
		o.stale++
	case repeated:
		o.repeated++
	}
}

func (o *outcomes) add(x *outcomes) {
	o.received += x.received
	o.counted += x.counted
	o.late += x.late
	o.stale += x.stale
	o.repeated += x.repeated
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

func (o *outcomes) events() uint64 { return o.counted + o.late + o.stale + o.repeated }

func (o *outcomes) lost() (n uint64) {
	for _, d := range o.dropped {
		n += d
	}
	return n
}

func (o *outcomes) balanced() bool { return o.received == o.events()+o.lost() }

func (o *outcomes) String() string {
	return fmt.Sprintf("%d received, %d counted, %d late, %d stale, %d repeated, %d dropped", o.received, o.counted, o.late, o.stale, o.repeated, o.lost())
}

// differs says in which numbers b isn't o, and whether it adds up.
func (o *outcomes) differs(b *outcomes) string {
	var all []string
	say := func(name string, got, want uint64) {
		if got != want {
			all = append(all, fmt.Sprintf("%s is %d, recounted %d", name, got, want))
		}
	}
	say("received", b.received, o.received)
	say("counted", b.counted, o.counted)
	say("late", b.late, o.late)
	say("stale", b.stale, o.stale)
	say("repeated", b.repeated, o.repeated)
	reasons := slices.AppendSeq(slices.Collect(maps.Keys(o.dropped)), maps.Keys(b.dropped))
	slices.Sort(reasons)
	for _, reason := range slices.Compact(reasons) {
		say("dropped as "+reason, b.dropped[reason], o.dropped[reason])
	}
	if !b.balanced() {
		all = append(all, b.imbalance())
	}
	return strings.Join(all, ", ")
}

func (o *outcomes) imbalance() string {
	return fmt.Sprintf("it doesn't add up: %d received, but %d counted, late, stale, repeated or dropped", o.received, o.events()+o.lost())
}

// minutes are those that the span touches, whole: the ledger knows nothing shorter.
func (c *Config) minutes() (from, to int64) { return c.From.Unix() / 60, (c.To.Unix() + 59) / 60 }

// tallied adds an envelope to the ledger, and sees that its tallies and its events say the same.
func (r *recount) tallied(x broker.Record, events []event.Event, classes []class, tallies []event.Tally, report *Report) {
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
		o.event(classes[i])
		if len(tallies) == 0 { // of before there were any
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
		if k.minute < from || k.minute >= to || !r.cfg.asked(k.site) {
			continue
		}
		if !o.balanced() {
			report.differ(Difference{In: inLog, Site: k.site, Second: k.minute * 60, Partition: r.partition, Position: position(inLog, r.partition, x.Offset),
				What: fmt.Sprintf("the envelope's tallies and events don't fit: %d received, %d dropped, %d events", o.received, o.lost(), o.events())})
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

// compareLedger compares what the ledger adds up to, by site and minute: in how many rows it says so is the store lane's own affair. A minute of which
// the table knows more than what was recounted, up to the offset to, only has to add up.
func (r *run) compareLedger(ctx context.Context, p int, rc *recount, to int64) error {
	got, newer, err := r.ledgerOf(ctx, p, to)
	if err != nil {
		return err
	}
	differ := func(k minuteKey, offset int64, what string) {
		r.report.differ(Difference{In: inLedger, Site: k.site, Second: k.minute * 60, Partition: p, Position: position(inLog, p, offset), What: what})
	}
	for k, g := range got {
		switch {
		case k.minute <= rc.headless: // the log has lost some of it
		case newer[k] && !g.balanced():
			differ(k, g.last, g.imbalance())
		case rc.ledger[k] == nil && !newer[k]:
			differ(k, g.last, "nothing in the log is behind it: "+g.String())
		}
	}
	for k, w := range rc.ledger {
		if k.minute <= rc.headless || newer[k] || w.last >= r.stored[topic.Events][p] || k.minute*60 < time.Now().AddDate(0, -keepLedger, 0).Unix() {
			continue
		}
		r.report.ledger(w)
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

// keepLedger is for how many months ClickHouse keeps it.
const keepLedger = 13

// ledgerOf adds up the table by site and minute, as far as its rows are of envelopes before to, and says of which minutes a row is of later ones as well.
func (r *run) ledgerOf(ctx context.Context, p int, to int64) (got map[minuteKey]*outcomes, newer map[minuteKey]bool, err error) {
	first, last := r.minutes()
	rows, err := r.Warehouse.Query(ctx, selectLedger, clickhouse.Named("partition", uint16(p)), clickhouse.Named("from", first*60),
		clickhouse.Named("to", last*60), clickhouse.Named("sites", r.sites()))
	if err != nil {
		return nil, nil, fmt.Errorf("read the ledger from ClickHouse: %w", err)
	}
	defer rows.Close()                                   //nolint:errcheck // rows.Err says what matters
	_, end, err := r.Broker.Bounds(ctx, topic.Events, p) // after the query: what it shows was in the log before
	if err != nil {
		return nil, nil, err
	}
	got, newer = map[minuteKey]*outcomes{}, map[minuteKey]bool{}
	for rows.Next() {
		var k minuteKey
		var o outcomes
		var segment, version uint64
		var dropped map[string]uint64
		if err := rows.Scan(&k.site, &k.minute, &segment, &o.received, &o.counted, &o.late, &o.stale, &o.repeated, &dropped, &version); err != nil {
			return nil, nil, fmt.Errorf("read the ledger from ClickHouse: %w", err)
		}
		if int64(segment) >= to && int64(segment) < end {
			continue
		}
		if int64(version) >= to && int64(version) < end {
			newer[k] = true
		}
		o.dropped, o.last = dropped, int64(version)
		if got[k] == nil {
			got[k] = &outcomes{}
		}
		got[k].add(&o)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read the ledger from ClickHouse: %w", err)
	}
	return got, newer, nil
}
