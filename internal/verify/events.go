package verify

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"nowcast/internal/event"
	"nowcast/internal/topic"
)

const inEventsTable = "ClickHouse events"

// noOffset is the UTC offset of a row that is of UTC's day.
const noOffset = -1

var (
	//go:embed sql/events.sql
	selectEvents string
	//go:embed sql/unknown_partitions.sql
	selectUnknownPartitions string
)

// compareEvents compares the recounted events with the table `events`. The recount has read the log up to
// offset to.
func (r *run) compareEvents(ctx context.Context, p int, rc *recount, to int64) error {
	rows, err := r.query(ctx, "events", selectEvents, "partition", p, r.From.UnixMilli(), r.To.UnixMilli())
	if err != nil {
		return err
	}
	// after the query, so that the log has all of its rows
	first, end, err := r.log.Bounds(ctx, topic.Events, p)
	if err != nil {
		rows.Close() //nolint:errcheck // nothing was read
		return err
	}
	if err := each("events", rows, func() error {
		var e event.Event
		var offset uint64
		var index uint16
		var kind string
		var props map[string]string
		var scroll uint8
		var late, fresh bool
		if err := rows.Scan(&e.Site, &e.Time, &e.Visitor, &offset, &index, &kind, &e.Name, &e.Hostname,
			&e.Path,
			&e.Referrer, &e.Source, &e.UTMSource, &e.UTMMedium, &e.UTMCampaign, &e.UTMContent, &e.UTMTerm,
			&e.Country, &e.Region, &e.Device, &e.Browser, &e.BrowserVersion, &e.OS, &e.OSVersion, &e.Language,
			&props, &e.RevenueMicros, &e.Currency, &scroll, &e.EngagedMS, &e.Interactive, &late, &fresh,
			&e.Channel, &e.City, &e.Screen, &e.Day, &e.UTCOffset, &e.User); err != nil {
			return err
		}
		if int64(offset) >= to && int64(offset) < end || int64(offset) < first {
			return nil // newer than the recount, or deleted from the log
		}
		e.ScrollDepth, e.Kind = uint32(scroll), kindOf(kind)
		for _, k := range slices.Sorted(maps.Keys(props)) {
			e.Props = event.AppendProp(e.Props, k, props[k])
		}
		r.compareEvent(p, rc, &e, int64(offset), index, late, fresh)
		return nil
	}); err != nil {
		return err
	}
	r.findMissingEvents(p, rc)
	return nil
}

// compareEvent compares a row of the table with the log.
func (r *run) compareEvent(p int, rc *recount, e *event.Event, offset int64, index uint16,
	late, fresh bool) {
	r.report.EventRows++
	d := Difference{In: inEventsTable, Site: e.Site, Second: e.Time / 1000, Partition: p,
		Position: eventPosition(p, offset, index)}
	i, has := slices.BinarySearchFunc(rc.storedEvents, storedEvent{offset: offset, index: index},
		compareStored)
	if !has {
		if c := r.report.cutAt(p, offset); c != nil {
			c.StoredEvents++
			return
		}
		d.What = "no event of the log explains it"
		r.report.differ(d)
		return
	}
	x := &rc.storedEvents[i]
	x.rows = min(x.rows+1, 100)
	switch {
	case x.erased && !x.done:
		r.leftOver++
		return
	case x.erased:
		d.What = stillStored
	case x.rows > 1:
		d.What = "doubled"
	case !x.equals(e, late, fresh):
		d.What = "a column differs from the log"
	default:
		return
	}
	r.report.differ(d)
}

// equals reports whether a row has what the log has of the event. The row of an event without a day is of
// UTC's day, or of the site's once its offset from UTC is filled in.
func (x *storedEvent) equals(row *event.Event, late, fresh bool) bool {
	if x.undated {
		offset := row.UTCOffset
		if offset == noOffset {
			offset = 0
		}
		const dayMS = 86_400_000
		if int64(row.Day) != (row.Time+int64(offset)*1000)/dayMS {
			return false
		}
		row.Day, row.UTCOffset = 0, 0
	}
	return contentOf(row, late, fresh) == x.content
}

func eventPosition(p int, offset int64, index uint16) string {
	return fmt.Sprintf("%s[%d]", position(topic.Events, p, offset), index)
}

func compareStored(a, b storedEvent) int {
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

// findMissingEvents reports events that the table lacks. Several events may be one row: those of an envelope
// that was retried after nodes are forgotten. One of them is enough.
func (r *run) findMissingEvents(p int, rc *recount) {
	var found map[uint64]bool // keys of rows
	for _, x := range rc.storedEvents {
		if x.rows > 0 || x.erased || r.hasExpired(rc.sites[x.site], x.time) ||
			x.offset >= r.committed[topic.Events][p] {
			continue
		}
		if found == nil {
			found = map[uint64]bool{}
			for _, y := range rc.storedEvents {
				if y.rows > 0 {
					found[y.key] = true
				}
			}
		}
		if !found[x.key] {
			r.report.differ(Difference{In: inEventsTable, Site: rc.sites[x.site], Second: x.time / 1000,
				Partition: p,
				Position:  eventPosition(p, x.offset, x.index), What: "missing"})
		}
	}
}

// findUnknownPartitions reports rows of partitions that the log doesn't have.
func (r *run) findUnknownPartitions(ctx context.Context) error {
	const name = "other partitions' rows"
	rows, err := r.query(ctx, name, selectUnknownPartitions, "partitions", r.report.Partitions,
		r.From.UnixMilli(), r.To.UnixMilli())
	if err != nil {
		return err
	}
	return each(name, rows, func() error {
		var table string
		var d Difference
		var partition uint16
		var n uint64
		if err := rows.Scan(&table, &d.Site, &d.Second, &partition, &n); err != nil {
			return err
		}
		d.In, d.Partition = "ClickHouse "+table, int(partition)
		d.What = fmt.Sprintf("%d rows of a partition that the log doesn't have", n)
		r.report.differ(d)
		return nil
	})
}
