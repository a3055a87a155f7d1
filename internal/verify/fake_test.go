package verify

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"

	"nowcast/internal/broker"
	"nowcast/internal/erasure"
	"nowcast/internal/event"
	"nowcast/internal/topic"
	"nowcast/internal/window"
	"nowcast/streamer/streamertest"
)

func TestMain(m *testing.M) { streamertest.Main(m, func() error { return goleak.Find() }) }

const site = "example.com"

// pipeline is a log of one partition, and a windows topic and tables that agree with it. Its span has three
// seconds with events, of which one is late, one stale and one a duplicate. Tests change a part and see what
// a run reports.
type pipeline struct {
	start     int64 // unix s of the first second with events
	log       []broker.Record
	topic     []broker.Record
	first     int64 // offset of the first record of log that retention has left
	committed map[string]func() int64

	events, windows, ledger, rollup [][]any // rows, in the order of the columns of the queries
	fail                            error   // of queries
	erased                          *erasure.Set
}

// Indexes of columns in sql/events.sql, sql/windows.sql and sql/ledger.sql.
const (
	eventPath, eventProps, eventLate      = 8, 24, 30
	windowSite, windowSecond, windowFirst = 0, 1, 2
	ledgerMinute, ledgerFirst, ledgerLate = 1, 3, 5
	ledgerDropped                         = 8
)

// unknownPartition is a partition that the log doesn't have.
const unknownPartition uint16 = 7

// newPipeline must run in a synctest bubble: its times are relative to the clock.
func newPipeline() *pipeline {
	p := &pipeline{start: time.Now().Unix()/60*60 - 590}
	p.committed = map[string]func() int64{
		topic.Events:  func() int64 { return int64(len(p.log)) },
		topic.Windows: func() int64 { return int64(len(p.topic)) },
	}
	b := p.start * 1000
	id := [16]byte{7}
	view := func(at int64, visitor uint64, path string) event.Event {
		return event.Event{Site: site, Time: b + at, Visitor: visitor, Kind: event.Pageview,
			Name: "pageview", Path: path}
	}
	one, two, three := view(50, 1, "/"), view(60, 2, "/"), view(1050, 1, "/b")
	three.HasID, three.ID, three.Props = true, id, event.AppendProp(nil, "plan", "pro")
	again, custom, late := view(2060, 1, "/b"), view(2070, 2, "/"), view(500, 3, "/late")
	again.HasID, again.ID = true, id
	custom.Kind, custom.Name = event.Custom, "buy"
	stale := view(-700_000, 4, "/stale")
	minute := b / 60_000
	tally := func(reason string, n uint64) event.Tally {
		return event.Tally{Site: site, Minute: minute, Reason: reason, Count: n}
	}
	p.envelope(1, 1, b+100, b-1, []event.Event{one, two}, tally("", 3), tally("bot", 1))
	p.envelope(1, 2, b+1100, b+1000, []event.Event{three}, tally("", 1))
	p.envelope(1, 3, b+2100, b+2050, []event.Event{again, custom, late}, tally("", 3))
	p.envelope(1, 3, b+2100, b+2050, []event.Event{again, custom, late}, tally("", 3)) // a retry
	p.envelope(2, 1, b-700_000, b-700_001, []event.Event{stale})
	p.envelope(1, 4, b+5100, b+5050, nil)

	first := window.Second{Site: site, At: p.start, Pageviews: 2, Visitors: 2, Events: 2, Active: 2,
		Revision: 2,
		Version:  window.RowVersion(window.Epoch, false, 0)}
	p.emit(b-1, first)
	first.Final, first.Revision, first.Version = true, 3, window.RowVersion(window.Epoch, true, 1)
	p.emit(b+1000, first)
	p.emit(b+5050,
		window.Second{Site: site, At: p.start + 1, Pageviews: 1, Visitors: 1, Events: 1, Active: 2,
			Final:    true,
			Revision: 2, Version: window.RowVersion(window.Epoch, true, 2)},
		window.Second{Site: site, At: p.start + 2, Visitors: 1, Events: 1, Active: 2, Final: true,
			Revision: 2, Version: window.RowVersion(window.Epoch, true, 5)})

	p.events = [][]any{eventRow(one, 0, 0, false, true), eventRow(two, 0, 1, false, true),
		eventRow(three, 1, 0, false, true), eventRow(custom, 2, 1, false, true),
		eventRow(late, 2, 2, true, true),
		eventRow(stale, 4, 0, false, false)}
	p.windows = [][]any{
		{site, p.start, uint32(2), uint32(2), uint32(2), uint32(2), uint64(1)},
		{site, p.start + 1, uint32(1), uint32(1), uint32(1), uint32(2), uint64(2)},
		{site, p.start + 2, uint32(0), uint32(1), uint32(1), uint32(2), uint64(5)}}
	n := func(v uint64) any { return v }
	p.ledger = [][]any{
		{site, minute, n(0), n(7), n(4), n(1), n(0), n(1), map[string]uint64{"bot": 1}, n(2)},
		{site, (b - 700_000) / 60_000, n(0), n(1), n(0), n(0), n(1), n(0), map[string]uint64{}, n(4)}}
	return p
}

func eventRow(e event.Event, offset uint64, index uint16, late, fresh bool) []any {
	props := map[string]string{}
	_ = event.EachProp(e.Props, func(k, v string) bool { props[k] = v; return true })
	return []any{e.Site, e.Time, e.Visitor, offset, index, e.Kind.String(), e.Name, e.Hostname, e.Path,
		e.Referrer,
		e.Source, e.UTMSource, e.UTMMedium, e.UTMCampaign, e.UTMContent, e.UTMTerm, e.Country, e.Region,
		e.Device,
		e.Browser, e.BrowserVersion, e.OS, e.OSVersion, e.Language, props, e.RevenueMicros, e.Currency,
		uint8(e.ScrollDepth), e.EngagedMS, e.Interactive, late, fresh, e.Channel, e.City, e.Screen}
}

// envelope appends an envelope to the log.
func (p *pipeline) envelope(node, sequence uint64, at, low int64, events []event.Event,
	tallies ...event.Tally) {
	b := event.AppendHeader(nil, event.Header{Version: event.Version, Node: node, Sequence: sequence,
		Low: low})
	for i := range events {
		b = event.AppendEvent(b, &events[i])
	}
	for _, t := range tallies {
		b = event.AppendTally(b, t)
	}
	p.log = append(p.log, broker.Record{Offset: int64(len(p.log)), Time: at, Value: b})
}

// emit appends an emission to the windows topic.
func (p *pipeline) emit(watermark int64, seconds ...window.Second) {
	e := window.Emission{Version: window.Version, Epoch: window.Epoch, Watermark: watermark, Seconds: seconds}
	p.produce(watermark, e.Append(nil))
}

func (p *pipeline) produce(at int64, value []byte) {
	p.topic = append(p.topic, broker.Record{Offset: int64(len(p.topic)), Time: at, Value: value})
}

// change replaces the record of the windows topic at an offset by one with other seconds.
func (p *pipeline) change(offset int, change func(*window.Emission)) {
	var e window.Emission
	if err := e.Decode(slices.Clone(p.topic[offset].Value)); err != nil {
		panic(err)
	}
	change(&e)
	p.topic[offset].Value = e.Append(nil)
}

// verify runs over the span of the pipeline, or of those sites.
func (p *pipeline) verify(ctx context.Context, wait time.Duration, sites ...string) (*Report, error) {
	c := Config{Sites: sites, From: time.Unix(p.start-720, 0), To: time.Unix(p.start+4, 0), Wait: wait}
	return newRun(c, p, p, p).run(ctx)
}

func (p *pipeline) records(name string) ([]broker.Record, error) {
	switch name {
	case topic.Events:
		return p.log[p.first:], nil
	case topic.Windows:
		return p.topic, nil
	}
	return nil, fmt.Errorf("no topic %s", name)
}

func (p *pipeline) Partitions(context.Context, string) (int, error) { return 1, nil }

func (p *pipeline) Bounds(_ context.Context, name string, _ int) (first, end int64, err error) {
	records, err := p.records(name)
	if err != nil || len(records) == 0 {
		return 0, 0, err
	}
	return records[0].Offset, records[len(records)-1].Offset + 1, nil
}

func (p *pipeline) OffsetAt(_ context.Context, name string, _ int, at time.Time) (int64, error) {
	records, err := p.records(name)
	for _, r := range records {
		if r.Time >= at.UnixMilli() {
			return r.Offset, nil
		}
	}
	if err != nil || len(records) == 0 {
		return 0, err
	}
	return records[len(records)-1].Offset + 1, nil
}

func (p *pipeline) Follow(_ context.Context, f broker.Follower) error {
	records, err := p.records(f.Topic)
	if err != nil {
		return err
	}
	next := f.From
	for _, r := range records {
		if r.Offset < next {
			continue
		}
		if err := f.Record(r); err != nil {
			return err
		}
		next = r.Offset + 1
	}
	if err := f.Batch(next, next); err != nil {
		return err
	}
	return errors.New("a run reads past the end of a topic")
}

func (p *pipeline) Committed(_ context.Context, group string, partitions []int, topics ...string) (
	all []broker.Position, err error) {
	if group != topic.Group("store") {
		return nil, fmt.Errorf("no group %s", group)
	}
	for _, name := range topics {
		for _, n := range partitions {
			all = append(all, broker.Position{Topic: name, Partition: n, Offset: p.committed[name]()})
		}
	}
	return all, nil
}

// Query filters the rows of a table as the query does.
func (p *pipeline) Query(_ context.Context, query string, args ...any) (driver.Rows, error) {
	if p.fail != nil {
		return nil, p.fail
	}
	params := map[string]any{}
	for _, a := range args {
		n, ok := a.(driver.NamedValue)
		if !ok {
			return nil, fmt.Errorf("parameter %v has no name", a)
		}
		params[n.Name] = n.Value
	}
	from, to, sites := params["from"].(int64), params["to"].(int64), params["sites"].([]string)
	var all [][]any
	unit := int64(1) // of the query's times
	switch query {
	case selectEvents:
		all = p.events
	case selectWindows:
		all = p.windows
	case selectLedger:
		all, unit = p.ledger, 60
	case selectRollup:
		all, unit = p.rollup, 60
	case selectUnknownPartitions:
		return p.unknown(params["partitions"].(uint16)), nil
	default:
		return nil, fmt.Errorf("unknown query: %s", query)
	}
	if params["partition"] != uint16(0) && query != selectRollup {
		return nil, fmt.Errorf("query of partition %v", params["partition"])
	}
	rows := &rows{}
	for _, row := range all {
		at := row[1].(int64) * unit
		if at >= from && at < to && (len(sites) == 0 || slices.Contains(sites, row[0].(string))) {
			rows.all = append(rows.all, row)
		}
	}
	return rows, nil
}

// unknown returns the row of an unknown partition if a test has added one.
func (p *pipeline) unknown(partitions uint16) *rows {
	r := &rows{}
	for table, all := range map[string][][]any{"events": p.events, "windows": p.windows, "ledger": p.ledger} {
		for _, row := range all {
			if part, ok := row[len(row)-1].(uint16); ok && part >= partitions {
				r.all = append(r.all, []any{table, row[0], row[1], part, uint64(1)})
			}
		}
	}
	return r
}

// rows implements the methods of driver.Rows that a run calls; others panic.
type rows struct {
	driver.Rows
	all [][]any
	row []any
}

func (r *rows) Next() bool {
	if len(r.all) == 0 {
		return false
	}
	r.row, r.all = r.all[0], r.all[1:]
	return true
}

func (r *rows) Scan(dest ...any) error {
	if len(dest) != len(r.row) {
		return fmt.Errorf("scan %d columns of %d", len(dest), len(r.row))
	}
	for i, d := range dest {
		to, from := reflect.ValueOf(d).Elem(), reflect.ValueOf(r.row[i])
		if !from.Type().AssignableTo(to.Type()) {
			return fmt.Errorf("column %d is of type %s, want %s", i, from.Type(), to.Type())
		}
		to.Set(from)
	}
	return nil
}

func (r *rows) Err() error   { return nil }
func (r *rows) Close() error { return nil }
