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
	"nowcast/internal/erasure"
)

//go:embed sql/insert_ledger.sql
var insertLedger string

// ledger counts the fate of a partition's beacons by site and minute of receipt. A row has the counts of one
// segment of the log, site and minute.
//
// A segment ends with the minute of the log's time, so that a busy minute has one row a site instead of one
// an envelope. The warm-up rebuilds the counts of a segment that contains the committed position. So a row is
// a function of the log, and its highest version is complete.
type ledger struct {
	minute  int64 // of the log's time, of the current segment
	segment int64 // offset of the segment's first envelope, which identifies it
	entries map[siteMinute]*entry
	touched []*entry // changed by the newest envelope
}

// maxEntries bounds memory: it ends a segment early, which is a function of the log as well.
const maxEntries = 100_000

type siteMinute struct {
	site   string
	minute int64
}

// entry is a row of the current segment. Each beacon is in received and in exactly one other count.
type entry struct {
	siteMinute
	segment, version                          int64
	received, counted, late, stale, duplicate uint64
	dropped                                   []reasonCount
}

type reasonCount struct {
	reason string
	n      uint64
}

// add counts an envelope that isn't a retry, with the classes of its events and the log's time in ms.
func (l *ledger) add(e *fold.Envelope, classes []fold.Class, logTime int64) {
	l.touched = l.touched[:0]
	if minute := logTime / 60_000; l.entries == nil || minute != l.minute || len(l.entries) >= maxEntries {
		l.minute, l.segment, l.entries = minute, e.Offset, map[siteMinute]*entry{}
	}
	var x *entry // of the previous event: consecutive events often share it
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
		case fold.Duplicate:
			x.duplicate++
		}
		if len(e.Tallies) == 0 { // from a version of ingest that sent no tallies
			x.received++
		}
	}
	for _, t := range e.Tallies {
		// As with events, no tally is later than its record.
		x := l.entry(t.Site, max(0, min(t.Minute, e.Time/60_000)), e.Offset)
		if t.Reason == "" {
			x.received += t.Count
			continue
		}
		x.drop(t.Reason, t.Count)
	}
}

// endSegment makes the next envelope begin a segment.
func (l *ledger) endSegment() { l.entries = nil }

// drop counts dropped beacons. The few reasons are kept sorted, since a row has to be a function of the log.
func (x *entry) drop(reason string, n uint64) {
	i, has := slices.BinarySearchFunc(x.dropped, reason,
		func(d reasonCount, reason string) int { return strings.Compare(d.reason, reason) })
	if !has {
		x.dropped = slices.Insert(x.dropped, i, reasonCount{reason: strings.Clone(reason)})
	}
	x.dropped[i].n += n
}

// entry returns the entry of a site and minute, and marks it as touched by the envelope at offset.
func (l *ledger) entry(site string, minute, offset int64) *entry {
	x := l.entries[siteMinute{site, minute}]
	if x == nil {
		k := siteMinute{strings.Clone(site), minute} // site points into the record
		x = &entry{siteMinute: k, segment: l.segment, version: -1}
		l.entries[k] = x
	}
	if x.version != offset {
		x.version = offset
		l.touched = append(l.touched, x)
	}
	return x
}

// ledgerRows are rows of the table `ledger`. A batch inserts only the newest version of a row.
type ledgerRows struct {
	index map[*entry]int // in list
	list  []ledgerRow

	site                                      lowCardinality
	minute                                    seconds
	kpart                                     chproto.ColUInt16
	koff                                      chproto.ColUInt64
	received, counted, late, stale, duplicate chproto.ColUInt64
	dropped                                   reasonCounts
	version                                   chproto.ColUInt64
}

type ledgerRow struct {
	entry
	partition int
}

func (r *ledgerRows) columns() []vector {
	return []vector{&r.site, &r.minute, &r.kpart, &r.koff, &r.received, &r.counted, &r.late, &r.stale,
		&r.duplicate, &r.dropped, &r.version}
}

func (r *ledgerRows) rows() int { return len(r.list) }

func (r *ledgerRows) reset() {
	clear(r.index)
	clear(r.list)
	r.list = r.list[:0]
	reset(r.columns())
}

// add copies the entries that an envelope has touched, without those of erased sites. The erasure of a
// visitor
// doesn't change the ledger, which counts beacons and knows no visitor.
func (r *ledgerRows) add(partition int, touched []*entry, erased *erasure.Set) {
	if r.index == nil {
		r.index = map[*entry]int{}
	}
	for _, x := range touched {
		if x.minute < 0 || x.minute > math.MaxUint32/60 {
			continue // outside of ClickHouse's DateTime, from a broken clock
		}
		if erased.Site(x.site, x.minute*60_000) {
			continue
		}
		i, has := r.index[x]
		if !has {
			i = len(r.list)
			r.index[x], r.list = i, append(r.list, ledgerRow{partition: partition})
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
		r.koff.Append(uint64(x.segment))
		r.received.Append(x.received)
		r.counted.Append(x.counted)
		r.late.Append(x.late)
		r.stale.Append(x.stale)
		r.duplicate.Append(x.duplicate)
		r.dropped.add(x.dropped)
		r.version.Append(uint64(x.version))
	}
	// The batch's token contains a hash of the records that added rows. Here a record may change a row
	// instead, so the token also contains a hash of the rows.
	var b chproto.Buffer
	for _, c := range columns {
		c.EncodeColumn(&b)
	}
	return insert(ctx, db, insertLedger, fmt.Sprintf("%s/%016x", token, xxhash.Sum64(b.Buf)), columns,
		r.rows())
}

// reasonCounts is a column of counts by reason.
type reasonCounts struct {
	ends   chproto.ColUInt64 // end of each row in keys and values
	keys   chproto.ColStr
	values chproto.ColUInt64
}

func (*reasonCounts) Type() chproto.ColumnType { return "Map(String, UInt64)" }
func (c *reasonCounts) Rows() int              { return c.ends.Rows() }

func (c *reasonCounts) Reset() {
	c.ends.Reset()
	c.keys.Reset()
	c.values.Reset()
}

func (c *reasonCounts) add(counts []reasonCount) {
	for _, x := range counts {
		c.keys.Append(x.reason)
		c.values.Append(x.n)
	}
	c.ends.Append(uint64(c.keys.Rows()))
}

func (c *reasonCounts) EncodeColumn(b *chproto.Buffer) {
	c.ends.EncodeColumn(b)
	c.keys.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

// lowerPositions returns the positions up to which both of two sinks have everything: of each partition the
// lower one.
func lowerPositions(a, b []group.Position) []group.Position {
	var lower []group.Position
	for _, p := range a {
		for _, q := range b {
			switch {
			case q.Topic != p.Topic || q.Partition != p.Partition:
			case q.Offset < p.Offset:
				lower = append(lower, q)
			default:
				lower = append(lower, p)
			}
		}
	}
	return lower
}
