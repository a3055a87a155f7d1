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
	"nowcast/internal/window"
)

// What is compared with the recount.
const (
	inTopic   = topic.Windows
	inWindows = "ClickHouse windows"
	inEvents  = "ClickHouse events"
)

// said is what the windows topic says of a partition.
type said struct {
	rows      map[rowKey]saidRow
	watermark int64
	next      int64 // offset after the last record read
	since     int64 // rows of seconds that began before it may have been in records that are gone
	names     map[string]string
}

// name keeps a site's name, which is only valid as long as its record is.
func (s *said) name(site string) string {
	if known, has := s.names[site]; has {
		return known
	}
	site = strings.Clone(site)
	s.names[site] = site
	return site
}

type saidRow struct {
	row
	final   bool
	version uint64
	offset  int64 // of the first record with this version
}

// last is the offset of the last record that matters.
func (s *said) last() int64 {
	last := int64(-1)
	for _, x := range s.rows {
		last = max(last, x.offset)
	}
	return last
}

// said reads the windows topic up to its end, and on until it is final up to the watermark or that takes too long.
func (r *run) said(ctx context.Context, p int, watermark int64) (*said, error) {
	target := min(watermark, r.To.UnixMilli()) / 1000
	first, _, err := r.Broker.Bounds(ctx, topic.Windows, p)
	if err != nil {
		return nil, err
	}
	from, err := r.Broker.OffsetAt(ctx, topic.Windows, p, r.From.Add(-margin))
	if err != nil {
		return nil, err
	}
	s := &said{rows: map[rowKey]saidRow{}, watermark: never, next: from, since: never, names: map[string]string{}}
	headless := first > 0 && from <= first
	var e window.Emission
	for end := time.Now().Add(r.Wait); ; {
		_, to, err := r.Broker.Bounds(ctx, topic.Windows, p)
		if err != nil {
			return nil, err
		}
		err = r.read(ctx, topic.Windows, p, s.next, to, func(x broker.Record) error {
			if err := e.Decode(x.Value); err != nil {
				r.report.note("partition %d, offset %d of %s: the record can't be read: %v", p, x.Offset, topic.Windows, err)
				return nil
			}
			if headless {
				headless, s.since = false, e.Watermark
				r.report.note("partition %d: %s begins at offset %d, what it said of earlier seconds isn't there any more", p, topic.Windows, first)
			}
			if int(e.Partition) != p {
				r.report.differ(Difference{In: inTopic, Partition: p, Position: position(inTopic, p, x.Offset), What: fmt.Sprintf("the record is about partition %d", e.Partition)})
				return nil
			}
			r.take(s, &e, x.Offset)
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.next = max(s.next, to)
		if s.watermark/1000 >= target || time.Now().After(end) {
			return s, nil
		}
		r.Progress(Progress{Partition: p, Partitions: r.report.Partitions, Doing: "waiting for the windows lane", Done: 1, Events: r.report.Events})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// take keeps the newest version of each row, and finds versions with two contents.
func (r *run) take(s *said, e *window.Emission, offset int64) {
	s.watermark = max(s.watermark, e.Watermark)
	for i := range e.Seconds {
		x := &e.Seconds[i]
		if x.At < r.From.Unix() || x.At >= r.To.Unix() || !r.asked(x.Site) {
			continue
		}
		k := rowKey{s.name(x.Site), x.At}
		got := saidRow{row{x.Pageviews, x.Visitors, x.Events, x.Active}, x.Final, x.Version, offset}
		old, known := s.rows[k]
		switch {
		case known && old.version == got.version:
			if old.row != got.row || old.final != got.final {
				r.report.differ(Difference{In: inTopic, Site: k.site, Second: x.At, Partition: int(e.Partition), Position: position(inTopic, int(e.Partition), offset),
					What: fmt.Sprintf("one version has two contents: %s here and %s at offset %d", got.row, old.row, old.offset)})
			}
		case known && old.final && !got.final && got.version > old.version, known && old.final && got.final && got.version > old.version && old.row != got.row:
			r.report.differ(Difference{In: inTopic, Site: k.site, Second: x.At, Partition: int(e.Partition), Position: position(inTopic, int(e.Partition), offset),
				What: fmt.Sprintf("a final row changes from %s at offset %d to %s", old.row, old.offset, got.row)})
			s.rows[k] = got
		case !known, got.version > old.version:
			s.rows[k] = got
		}
	}
}

func position(name string, partition int, offset int64) string {
	return fmt.Sprintf("%s/%d@%d", name, partition, offset)
}

func (w row) String() string {
	return fmt.Sprintf("%d page views, %d visitors, %d events, %d active", w.pageviews, w.visitors, w.events, w.active)
}

// differs says in which columns b isn't w.
func (w row) differs(b row) string {
	var all []string
	for _, c := range []struct {
		name      string
		got, want uint32
	}{{"pageviews", b.pageviews, w.pageviews}, {"visitors", b.visitors, w.visitors}, {"events", b.events, w.events}, {"active", b.active, w.active}} {
		if c.got != c.want {
			all = append(all, fmt.Sprintf("%s is %d, recounted %d", c.name, c.got, c.want))
		}
	}
	return strings.Join(all, ", ")
}

func isFinal(second, watermark int64) bool { return (second+1)*1000 <= watermark }

func (r *run) compareWindows(p int, rc *recount, want map[rowKey]row, s *said, final int64) {
	for k, w := range want {
		if !isFinal(k.second, final) {
			continue
		}
		r.report.WindowRows++
		got, has := s.rows[k]
		d := Difference{In: inTopic, Site: k.site, Second: k.second, Partition: p, Position: position(topic.Events, p, rc.finalAt(k.second))}
		switch {
		case !has && k.second*1000 < s.since:
			continue
		case !has:
			d.What = "missing: " + w.String()
		case !got.final:
			d.What, d.Position = "the second is over and its row isn't final", position(inTopic, p, got.offset)
		case got.row != w:
			d.What, d.Position = w.differs(got.row), position(inTopic, p, got.offset)
		default:
			continue
		}
		r.report.differ(d)
	}
	for k, got := range s.rows {
		if _, has := want[k]; !has && isFinal(k.second, final) {
			r.report.differ(Difference{In: inTopic, Site: k.site, Second: k.second, Partition: p, Position: position(inTopic, p, got.offset), What: "nothing in the log is behind it: " + got.String()})
		}
	}
}

var (
	//go:embed sql/windows.sql
	selectWindows string
	//go:embed sql/events.sql
	selectEvents string
	//go:embed sql/strangers.sql
	selectStrangers string
)

// keep is how long ClickHouse keeps windows.
const keep = 7 * 24 * time.Hour

func (r *run) compareTable(ctx context.Context, p int, rc *recount, want map[rowKey]row, s *said, final int64) error {
	rows, err := r.Warehouse.Query(ctx, selectWindows, clickhouse.Named("partition", uint16(p)), clickhouse.Named("from", r.From.Unix()),
		clickhouse.Named("to", r.To.Unix()), clickhouse.Named("sites", r.sites()))
	if err != nil {
		return fmt.Errorf("read windows from ClickHouse: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what matters
	found := map[rowKey]bool{}
	for rows.Next() {
		var k rowKey
		var got row
		var version uint64
		if err := rows.Scan(&k.site, &k.second, &got.pageviews, &got.visitors, &got.events, &got.active, &version); err != nil {
			return fmt.Errorf("read windows from ClickHouse: %w", err)
		}
		if !isFinal(k.second, final) {
			continue
		}
		found[k] = true
		d := Difference{In: inWindows, Site: k.site, Second: k.second, Partition: p, Position: position(topic.Events, p, rc.finalAt(k.second))}
		w, has := want[k]
		switch {
		case !has:
			d.What = "nothing in the log is behind it: " + got.String()
		case got != w:
			d.What = w.differs(got)
		default:
			continue
		}
		r.report.differ(d)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read windows from ClickHouse: %w", err)
	}
	kept := time.Now().Add(-keep).Unix()
	if r.From.Unix() < kept {
		r.report.note("partition %d: ClickHouse keeps windows for %d days, earlier ones aren't compared there", p, int(keep.Hours()/24))
	}
	for k, w := range want {
		x, known := s.rows[k]
		if found[k] || !isFinal(k.second, final) || k.second < kept || known && x.offset >= r.stored[topic.Windows][p] {
			continue
		}
		r.report.differ(Difference{In: inWindows, Site: k.site, Second: k.second, Partition: p, Position: position(topic.Events, p, rc.finalAt(k.second)), What: "missing: " + w.String()})
	}
	return nil
}

func (r *run) sites() []string {
	if r.Sites == nil {
		return []string{}
	}
	return r.Sites
}

func (r *run) compareEvents(ctx context.Context, p int, rc *recount, to int64) error {
	rows, err := r.Warehouse.Query(ctx, selectEvents, clickhouse.Named("partition", uint16(p)), clickhouse.Named("from", r.From.UnixMilli()),
		clickhouse.Named("to", r.To.UnixMilli()), clickhouse.Named("sites", r.sites()))
	if err != nil {
		return fmt.Errorf("read events from ClickHouse: %w", err)
	}
	defer rows.Close()                                       //nolint:errcheck // rows.Err says what matters
	first, end, err := r.Broker.Bounds(ctx, topic.Events, p) // after the query: what it shows was in the log before
	if err != nil {
		return err
	}
	for rows.Next() {
		var e event.Event
		var offset uint64
		var index uint16
		var kind string
		var props map[string]string
		var scroll uint8
		var late, fresh bool
		if err := rows.Scan(&e.Site, &e.Time, &e.Visitor, &offset, &index, &kind, &e.Name, &e.Hostname, &e.Path, &e.Referrer, &e.Source, &e.UTMSource, &e.UTMMedium,
			&e.UTMCampaign, &e.UTMContent, &e.UTMTerm, &e.Country, &e.Region, &e.Device, &e.Browser, &e.BrowserVersion, &e.OS, &e.OSVersion, &e.Language,
			&props, &e.RevenueMicros, &e.Currency, &scroll, &e.EngagedMS, &e.Interactive, &late, &fresh, &e.Channel, &e.City, &e.Screen); err != nil {
			return fmt.Errorf("read events from ClickHouse: %w", err)
		}
		if int64(offset) >= to && int64(offset) < end || int64(offset) < first {
			continue // newer than the recount, or the log has lost it
		}
		r.report.EventRows++
		d := Difference{In: inEvents, Site: e.Site, Second: e.Time / 1000, Partition: p, Position: fmt.Sprintf("%s[%d]", position(topic.Events, p, int64(offset)), index)}
		i, has := slices.BinarySearchFunc(rc.stored, stored{offset: int64(offset), index: index}, before)
		if !has {
			d.What = "nothing in the log is behind it"
			r.report.differ(d)
			continue
		}
		x := &rc.stored[i]
		x.seen = min(x.seen+1, 100)
		if x.seen > 1 {
			d.What = "doubled"
			r.report.differ(d)
			continue
		}
		e.ScrollDepth, e.Kind = uint32(scroll), kindOf(kind)
		for _, k := range slices.Sorted(maps.Keys(props)) {
			e.Props = event.AppendProp(e.Props, k, props[k])
		}
		if contentOf(&e, late, fresh) != x.content {
			d.What = "a column differs from the log"
			r.report.differ(d)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read events from ClickHouse: %w", err)
	}
	r.missingEvents(p, rc)
	return nil
}

func before(a, b stored) int {
	if a.offset != b.offset {
		return int(a.offset - b.offset)
	}
	return int(a.index) - int(b.index)
}

func kindOf(name string) event.Kind {
	for _, k := range []event.Kind{event.Pageview, event.Engagement} {
		if k.String() == name {
			return k
		}
	}
	return event.Custom
}

// missingEvents finds those that the table lacks. Of several that are one row to its readers (an envelope that came again after a quarter of an
// hour), one is enough.
func (r *run) missingEvents(p int, rc *recount) {
	var there map[uint64]bool
	for _, x := range rc.stored {
		if x.seen > 0 || x.offset >= r.stored[topic.Events][p] {
			continue
		}
		if there == nil {
			there = map[uint64]bool{}
			for _, y := range rc.stored {
				if y.seen > 0 {
					there[y.key] = true
				}
			}
		}
		if !there[x.key] {
			r.report.differ(Difference{In: inEvents, Site: rc.sites[x.site], Second: x.time / 1000, Partition: p,
				Position: fmt.Sprintf("%s[%d]", position(topic.Events, p, x.offset), x.index), What: "missing"})
		}
	}
}

// strangers finds rows of partitions that the log doesn't have.
func (r *run) strangers(ctx context.Context, partitions int) error {
	rows, err := r.Warehouse.Query(ctx, selectStrangers, clickhouse.Named("partitions", uint16(partitions)), clickhouse.Named("from", r.From.UnixMilli()),
		clickhouse.Named("to", r.To.UnixMilli()), clickhouse.Named("sites", r.sites()))
	if err != nil {
		return fmt.Errorf("read other partitions' rows from ClickHouse: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what matters
	for rows.Next() {
		var table string
		var d Difference
		var part uint16
		var n uint64
		if err := rows.Scan(&table, &d.Site, &d.Second, &part, &n); err != nil {
			return fmt.Errorf("read other partitions' rows from ClickHouse: %w", err)
		}
		d.In, d.Partition, d.What = "ClickHouse "+table, int(part), fmt.Sprintf("%d rows of a partition that the log doesn't have", n)
		r.report.differ(d)
	}
	return rows.Err()
}
