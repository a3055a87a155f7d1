package verify

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"nowcast/internal/broker"
	"nowcast/internal/retry"
	"nowcast/internal/topic"
	"nowcast/internal/window"
)

// The values of Difference.In for windows.
const (
	inWindowsTopic = topic.Windows
	inWindowsTable = "ClickHouse windows"
)

// emitted is the content of a partition of the windows topic.
type emitted struct {
	rows        map[rowKey]emittedRow // newest version of each row of the span
	watermark   int64                 // ms
	next        int64                 // offset after the last record read
	lostThrough int64                 // earlier rows may have been in deleted records, ms
	names       map[string]string     // interned names of sites
}

// name returns a copy of a site's name, which is only valid as long as its record is.
func (e *emitted) name(site string) string {
	if name, has := e.names[site]; has {
		return name
	}
	site = strings.Clone(site)
	e.names[site] = site
	return site
}

type emittedRow struct {
	row
	final   bool
	version uint64
	offset  int64 // of the first record with this version
}

// last returns the offset of the last record with a row of the span, or -1.
func (e *emitted) last() int64 {
	last := int64(-1)
	for _, x := range e.rows {
		last = max(last, x.offset)
	}
	return last
}

// readWindows reads the windows topic up to its end, and further until it is final up to the watermark or
// Config.Wait is over.
func (r *run) readWindows(ctx context.Context, p int, rc *recount) (*emitted, error) {
	target := min(rc.watermark, r.To.UnixMilli()) / 1000
	first, _, err := r.log.Bounds(ctx, topic.Windows, p)
	if err != nil {
		return nil, err
	}
	from, err := r.log.OffsetAt(ctx, topic.Windows, p, r.From.Add(-leadIn))
	if err != nil {
		return nil, err
	}
	em := &emitted{rows: map[rowKey]emittedRow{}, watermark: never, next: from, lostThrough: never,
		names: map[string]string{}}
	headLost := first > 0 && from <= first
	var e window.Emission
	for end := time.Now().Add(r.Wait); ; {
		_, to, err := r.log.Bounds(ctx, topic.Windows, p)
		if err != nil {
			return nil, err
		}
		err = r.read(ctx, topic.Windows, p, em.next, to, func(x broker.Record) error {
			if err := e.Decode(x.Value); err != nil {
				r.report.note("partition %d, offset %d of %s: the record can't be read: %v", p, x.Offset,
					topic.Windows, err)
				return nil
			}
			if headLost {
				headLost, em.lostThrough = false, e.Watermark
				r.report.note("partition %d: %s begins at offset %d, "+
					"what it had of earlier seconds is deleted",
					p, topic.Windows, first)
			}
			if int(e.Partition) != p {
				r.report.differ(Difference{In: inWindowsTopic, Partition: p,
					Position: position(inWindowsTopic, p, x.Offset),
					What:     fmt.Sprintf("the record is about partition %d", e.Partition)})
				return nil
			}
			r.addEmission(em, &e, x.Offset, rc)
			return nil
		})
		if err != nil {
			return nil, err
		}
		em.next = max(em.next, to)
		if em.watermark/1000 >= target || !time.Now().Before(end) {
			return em, nil
		}
		r.progress(p, "waiting for the windows lane", 1)
		if err := retry.Sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// addEmission keeps the newest version of each row. It reports versions with two contents and final rows that
// change.
func (r *run) addEmission(em *emitted, e *window.Emission, offset int64, rc *recount) {
	em.watermark = max(em.watermark, e.Watermark)
	for i := range e.Seconds {
		x := &e.Seconds[i]
		if x.At < r.From.Unix() || x.At >= r.To.Unix() || !r.includes(x.Site) {
			continue
		}
		k := rowKey{em.name(x.Site), x.At}
		got := emittedRow{row{x.Pageviews, x.Visitors, x.Events, x.Active}, x.Final, x.Version, offset}
		d := Difference{In: inWindowsTopic, Site: k.site, Second: x.At, Partition: int(e.Partition),
			Position: position(inWindowsTopic, int(e.Partition), offset)}
		old, has := em.rows[k]
		newer := !has || got.version > old.version
		_, optional := rc.optional[k]
		switch {
		case optional: // what was published before an erasure is made once more after it, without its events
			if newer || got.version == old.version {
				em.rows[k] = got
			}
		case has && old.version == got.version:
			if old.row != got.row || old.final != got.final {
				d.What = fmt.Sprintf("one version has two contents: %s here and %s at offset %d", got.row,
					old.row, old.offset)
				r.report.differ(d)
			}
		case has && old.final && newer && (!got.final || old.row != got.row):
			d.What = fmt.Sprintf("a final row changes from %s at offset %d to %s", old.row, old.offset,
				got.row)
			r.report.differ(d)
			em.rows[k] = got
		case newer:
			em.rows[k] = got
		}
	}
}

func position(name string, partition int, offset int64) string {
	return fmt.Sprintf("%s/%d@%d", name, partition, offset)
}

func (w row) String() string {
	return fmt.Sprintf("%d page views, %d visitors, %d events, %d active",
		w.pageviews, w.visitors, w.events, w.active)
}

// stillStored describes a row that an erasure should have removed.
const stillStored = "it is erased, and still stored"

// differs describes the columns in which got isn't w.
func (w row) differs(got row) string {
	var all differences
	all.compare("pageviews", uint64(got.pageviews), uint64(w.pageviews))
	all.compare("visitors", uint64(got.visitors), uint64(w.visitors))
	all.compare("events", uint64(got.events), uint64(w.events))
	all.compare("active", uint64(got.active), uint64(w.active))
	return strings.Join(all, ", ")
}

// differences describes numbers that differ.
type differences []string

func (d *differences) compare(name string, got, want uint64) {
	if got != want {
		*d = append(*d, fmt.Sprintf("%s is %d, recounted %d", name, got, want))
	}
}

func isFinal(second, watermark int64) bool { return (second+1)*1000 <= watermark }

// compareTopic compares the recounted rows with the windows topic, up to the watermark final.
func (r *run) compareTopic(p int, rc *recount, want map[rowKey]row, em *emitted, final int64) {
	for k, w := range want {
		if !isFinal(k.second, final) {
			continue
		}
		r.report.WindowRows++
		got, has := em.rows[k]
		d := Difference{In: inWindowsTopic, Site: k.site, Second: k.second, Partition: p,
			Position: position(topic.Events, p, rc.finalAt(k.second))}
		switch {
		case !has && (k.second*1000 < em.lostThrough || rc.optional[k].absent):
			continue
		case !has:
			d.What = "missing: " + w.String()
		case !got.final && rc.optional[k].absent: // the lane ended before the second did, then it was erased
			continue
		case !got.final:
			d.What, d.Position = "the second is over and its row isn't final",
				position(inWindowsTopic, p, got.offset)
		case got.row != w && !rc.allows(k, w, got.row):
			d.What, d.Position = w.differs(got.row), position(inWindowsTopic, p, got.offset)
		default:
			continue
		}
		r.report.differ(d)
	}
	for k, got := range em.rows {
		if _, has := want[k]; !has && isFinal(k.second, final) {
			r.report.differ(Difference{In: inWindowsTopic, Site: k.site, Second: k.second, Partition: p,
				Position: position(inWindowsTopic, p, got.offset), What: "no event of the log explains it: " +
					got.String()})
		}
	}
}

//go:embed sql/windows.sql
var selectWindows string

// windowsRetention is how long ClickHouse keeps windows.
const windowsRetention = 7 * 24 * time.Hour

// compareWindows compares the recounted rows with the table `windows`, up to the watermark final.
func (r *run) compareWindows(ctx context.Context, p int, rc *recount, want map[rowKey]row, em *emitted,
	final int64) error {
	rows, err := r.query(ctx, "windows", selectWindows, "partition", p, r.From.Unix(), r.To.Unix())
	if err != nil {
		return err
	}
	differ := func(k rowKey, what string) {
		r.report.differ(Difference{In: inWindowsTable, Site: k.site, Second: k.second, Partition: p,
			Position: position(topic.Events, p, rc.finalAt(k.second)), What: what})
	}
	found := map[rowKey]bool{}
	if err := each("windows", rows, func() error {
		var k rowKey
		var got row
		var version uint64
		if err := rows.Scan(&k.site, &k.second, &got.pageviews, &got.visitors, &got.events, &got.active,
			&version); err != nil {
			return err
		}
		if !isFinal(k.second, final) {
			return nil
		}
		found[k] = true
		w, has := want[k]
		if r.erased.Site(k.site, k.second*1000) {
			if r.erased.Done(k.site, 0, k.second*1000) {
				differ(k, stillStored)
			} else {
				r.leftOver++
			}
		} else if !has {
			differ(k, "no event of the log explains it: "+got.String())
		} else if got != w && !rc.allows(k, w, got) {
			differ(k, w.differs(got))
		}
		return nil
	}); err != nil {
		return err
	}
	kept := time.Now().Add(-windowsRetention).Unix()
	if r.From.Unix() < kept {
		r.report.note("partition %d: ClickHouse keeps windows for %d days, "+
			"earlier ones aren't compared there",
			p, int(windowsRetention.Hours()/24))
	}
	for k, w := range want {
		erased := rc.optional[k].absent || r.erased.Site(k.site, k.second*1000)
		if found[k] || erased || r.hasExpired(k.site, k.second*1000) ||
			!isFinal(k.second, final) || k.second < kept {
			continue
		}
		if x, has := em.rows[k]; has && x.offset >= r.committed[topic.Windows][p] {
			continue // not stored yet
		}
		differ(k, "missing: "+w.String())
	}
	return nil
}
