package aggregator

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/cespare/xxhash/v2"

	"nowcast/aggregator/fold"
	"nowcast/aggregator/group"
)

//go:embed sql/insert_ledger.sql
var insertLedger string

// ledger counts what became of a partition's beacons, by site and minute of receipt. A row is what one segment of the log says of one site and
// minute. A segment ends when the minute of the log's time does, so a row of a busy minute is one and not one an envelope; and since that
// time is rebuilt with the rest of the reader's state, so are the counts of the segment that a position is in. Thus a row at an offset is a function of the log
// as all others are, and the highest version of it is the truth.
type ledger struct {
	minute  int64 // of the log's time, that the segment is of
	from    int64 // offset of its first envelope, which names it
	entries map[siteMinute]*entry
	touched []*entry // by the newest envelope
}

// maxEntries ends a segment early: a bound on memory, and a function of the log as well.
const maxEntries = 100_000

type siteMinute struct {
	site   string
	minute int64
}

// entry is a row in the making. Each beacon is in received and in one of the others.
type entry struct {
	siteMinute
	from, version                            int64
	received, counted, late, stale, repeated uint64
	dropped                                  []reasonCount
}

type reasonCount struct {
	reason string
	n      uint64
}

// take counts an envelope that isn't a retry, whose events have been judged, at the log's time now.
func (l *ledger) take(e *fold.Envelope, classes []fold.Class, now int64) {
	l.touched = l.touched[:0]
	if minute := now / 60_000; l.entries == nil || minute != l.minute || len(l.entries) >= maxEntries {
		l.minute, l.from, l.entries = minute, e.Offset, map[siteMinute]*entry{}
	}
	var x *entry // of the event before: most often it is the same
	for i, class := range classes {
		site, minute := e.Events[i].Site, e.Events[i].Time/60_000
		if x == nil || x.minute != minute || x.site != site {
			x = l.entry(site, minute, e.Offset)
		}
		switch class {
		case fold.Counted:
			x.counted++
		case fold.Late:
			x.late++
		case fold.Stale:
			x.stale++
		case fold.Repeated:
			x.repeated++
		}
		if len(e.Tallies) == 0 { // written by a program that didn't tally yet
			x.received++
		}
	}
	for _, t := range e.Tallies {
		// As with events, nothing is later than its record.
		x := l.entry(t.Site, max(0, min(t.Minute, e.Time/60_000)), e.Offset)
		if t.Reason == "" {
			x.received += t.Count
			continue
		}
		x.drop(t.Reason, t.Count)
	}
}

// drop keeps reasons, which are few, in their order: as all of a row, that has to be a function of the log.
func (x *entry) drop(reason string, n uint64) {
	i, has := slices.BinarySearchFunc(x.dropped, reason, func(d reasonCount, reason string) int { return strings.Compare(d.reason, reason) })
	if !has {
		x.dropped = slices.Insert(x.dropped, i, reasonCount{reason: strings.Clone(reason)})
	}
	x.dropped[i].n += n
}

// entry finds the one of a site and minute, and notes that the envelope at offset changes it.
func (l *ledger) entry(site string, minute, offset int64) *entry {
	x := l.entries[siteMinute{site, minute}]
	if x == nil {
		k := siteMinute{strings.Clone(site), minute} // the record, which site is a part of, will be gone
		x = &entry{siteMinute: k, from: l.from, version: -1}
		l.entries[k] = x
	}
	if x.version != offset {
		x.version = offset
		l.touched = append(l.touched, x)
	}
	return x
}

// ledgerRows are rows of the table `ledger`. Of a row that changes while its batch fills, the newest version alone is inserted.
type ledgerRows struct {
	at   map[*entry]int
	list []ledgerRow

	site                                     names
	minute                                   seconds
	kpart                                    chproto.ColUInt16
	koff                                     chproto.ColUInt64
	received, counted, late, stale, repeated chproto.ColUInt64
	dropped                                  numbers
	version                                  chproto.ColUInt64
}

type ledgerRow struct {
	entry
	partition int
}

func (r *ledgerRows) columns() []vector {
	return []vector{&r.site, &r.minute, &r.kpart, &r.koff, &r.received, &r.counted, &r.late, &r.stale, &r.repeated, &r.dropped, &r.version}
}

func (r *ledgerRows) rows() int { return len(r.list) }

func (r *ledgerRows) reset() {
	clear(r.at)
	clear(r.list)
	r.list = r.list[:0]
	reset(r.columns())
}

// add takes over what an envelope has changed.
func (r *ledgerRows) add(partition int, touched []*entry) {
	if r.at == nil {
		r.at = map[*entry]int{}
	}
	for _, x := range touched {
		if x.minute < 0 || x.minute > math.MaxUint32/60 {
			continue // no such minute in ClickHouse's DateTime, nor in any log that has clocks
		}
		i, has := r.at[x]
		if !has {
			i = len(r.list)
			r.at[x], r.list = i, append(r.list, ledgerRow{partition: partition})
		}
		r.list[i].entry = *x
		r.list[i].dropped = slices.Clone(x.dropped)
	}
}

func (r *ledgerRows) insert(ctx context.Context, db inserter, token string) error {
	columns := r.columns()
	reset(columns)
	for i := range r.list {
		x := &r.list[i]
		r.site.add(x.site)
		r.minute.Append(uint32(x.minute * 60))
		r.kpart.Append(uint16(x.partition))
		r.koff.Append(uint64(x.from))
		r.received.Append(x.received)
		r.counted.Append(x.counted)
		r.late.Append(x.late)
		r.stale.Append(x.stale)
		r.repeated.Append(x.repeated)
		r.dropped.add(x.dropped)
		r.version.Append(uint64(x.version))
	}
	// The batch's token stands for records that added rows, and here a record may change one: so this one stands for the rows themselves.
	var b chproto.Buffer
	for _, c := range columns {
		c.EncodeColumn(&b)
	}
	return insert(ctx, db, insertLedger, fmt.Sprintf("%s/%016x", token, xxhash.Sum64(b.Buf)), columns, r.rows())
}

// numbers are maps of names to counts.
type numbers struct {
	ends   chproto.ColUInt64 // of each row in keys and values
	keys   chproto.ColStr
	values chproto.ColUInt64
}

func (*numbers) Type() chproto.ColumnType { return "Map(String, UInt64)" }
func (n *numbers) Rows() int              { return n.ends.Rows() }

func (n *numbers) Reset() {
	n.ends.Reset()
	n.keys.Reset()
	n.values.Reset()
}

func (n *numbers) add(counts []reasonCount) {
	for _, c := range counts {
		n.keys.Append(c.reason)
		n.values.Append(c.n)
	}
	n.ends.Append(uint64(n.keys.Rows()))
}

func (n *numbers) EncodeColumn(b *chproto.Buffer) {
	n.ends.EncodeColumn(b)
	n.keys.EncodeColumn(b)
	n.values.EncodeColumn(b)
}

// both are the positions up to which two sinks of the same topic have everything: of each partition the lower one.
func both(a, b []group.Position) []group.Position {
	var out []group.Position
	for _, p := range a {
		for _, q := range b {
			switch {
			case q.Topic != p.Topic || q.Partition != p.Partition:
			case q.Offset < p.Offset:
				out = append(out, q)
			default:
				out = append(out, p)
			}
		}
	}
	return out
}
