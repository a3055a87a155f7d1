package aggregator

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/dchest/siphash"

	"nowcast/aggregator/fold"
	"nowcast/internal/event"
	"nowcast/internal/window"
)

var (
	//go:embed sql/insert_events.sql
	insertEvents string
	//go:embed sql/insert_windows.sql
	insertWindows string
)

// inserter is the part of ClickHouse's client that the store lane needs.
type inserter interface {
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// insert sends columns, all of the same length, as one block. A repeat with the same token adds nothing to the table, as long as the
// table remembers the token. Rows of one key within it are left to merges and FINAL: they are few, and looking for them costs a fifth of an
// insert (optimize_on_insert).
func insert(ctx context.Context, db inserter, query, token string, columns []any, rows int) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token, "async_insert": 0, "optimize_on_insert": 0}))
	b, err := db.PrepareBatch(ctx, query)
	if err != nil {
		return fmt.Errorf("prepare insert: %w", err)
	}
	defer func() { _ = b.Close() }() // after Send it has nothing to say
	for i, c := range columns {
		if err := b.Column(i).Append(c); err != nil {
			return fmt.Errorf("append column %d: %w", i, err)
		}
	}
	// The client would send columns of different lengths as nothing at all, and say that it went well.
	for i, c := range b.Columns() {
		if c.Rows() != rows {
			return fmt.Errorf("column %s has %d rows, want %d", c.Name(), c.Rows(), rows)
		}
		if i >= len(columns) {
			return fmt.Errorf("column %s has no values", c.Name())
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("send rows: %w", err)
	}
	return nil
}

// eventRows are rows of the table `events`, by column in the order of insert_events.sql.
type eventRows struct {
	site                                                   []string
	ts                                                     []int64 // ms
	visitor                                                []uint64
	id                                                     []string
	kpart                                                  []uint16
	koff                                                   []uint64
	kidx                                                   []uint16
	kind, name                                             []string
	hostname, path, referrer, source                       []string
	utmSource, utmMedium, utmCampaign, utmContent, utmTerm []string
	country, region, device, browser, browserVersion       []string
	os, osVersion, language                                []string
	props                                                  []map[string]string
	revenueMicros                                          []int64
	currency                                               []string
	scrollDepth                                            []uint8
	engagedMS                                              []uint32
	interactive, late, fresh                               []bool

	names map[string]string // strings that come again and again
}

func (r *eventRows) columns() []any {
	return []any{r.site, r.ts, r.visitor, r.id, r.kpart, r.koff, r.kidx, r.kind, r.name, r.hostname, r.path, r.referrer, r.source,
		r.utmSource, r.utmMedium, r.utmCampaign, r.utmContent, r.utmTerm, r.country, r.region, r.device, r.browser, r.browserVersion,
		r.os, r.osVersion, r.language, r.props, r.revenueMicros, r.currency, r.scrollDepth, r.engagedMS, r.interactive, r.late, r.fresh}
}

func (r *eventRows) rows() int { return len(r.ts) }

func (r *eventRows) insert(ctx context.Context, db inserter, token string) error {
	return insert(ctx, db, insertEvents, token, r.columns(), r.rows())
}

// name copies a string that many rows share.
func (r *eventRows) nameOf(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := r.names[s]; ok {
		return known
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	s = strings.Clone(s)
	r.names[s] = s
	return s
}

// add appends the event at index i of e, which was read from partition.
func (r *eventRows) add(partition int, e *fold.Envelope, i int, class fold.Class) {
	x := &e.Events[i]
	id := x.ID
	if !x.HasID {
		id = idOf(e.Header, i)
	}
	r.site = append(r.site, r.nameOf(x.Site))
	r.ts = append(r.ts, x.Time)
	r.visitor = append(r.visitor, x.Visitor)
	r.id = append(r.id, string(id[:]))
	r.kpart = append(r.kpart, uint16(partition))
	r.koff = append(r.koff, uint64(e.Offset))
	r.kidx = append(r.kidx, uint16(i))
	r.kind = append(r.kind, x.Kind.String())
	r.name = append(r.name, r.nameOf(x.Name))
	r.hostname = append(r.hostname, r.nameOf(x.Hostname))
	r.path = append(r.path, r.nameOf(x.Path))
	r.referrer = append(r.referrer, r.nameOf(x.Referrer))
	r.source = append(r.source, r.nameOf(x.Source))
	r.utmSource = append(r.utmSource, r.nameOf(x.UTMSource))
	r.utmMedium = append(r.utmMedium, r.nameOf(x.UTMMedium))
	r.utmCampaign = append(r.utmCampaign, r.nameOf(x.UTMCampaign))
	r.utmContent = append(r.utmContent, r.nameOf(x.UTMContent))
	r.utmTerm = append(r.utmTerm, r.nameOf(x.UTMTerm))
	r.country = append(r.country, r.nameOf(x.Country))
	r.region = append(r.region, r.nameOf(x.Region))
	r.device = append(r.device, r.nameOf(x.Device))
	r.browser = append(r.browser, r.nameOf(x.Browser))
	r.browserVersion = append(r.browserVersion, r.nameOf(x.BrowserVersion))
	r.os = append(r.os, r.nameOf(x.OS))
	r.osVersion = append(r.osVersion, r.nameOf(x.OSVersion))
	r.language = append(r.language, r.nameOf(x.Language))
	r.props = append(r.props, r.propsOf(x))
	r.revenueMicros = append(r.revenueMicros, x.RevenueMicros)
	r.currency = append(r.currency, r.nameOf(x.Currency))
	r.scrollDepth = append(r.scrollDepth, uint8(min(x.ScrollDepth, 255)))
	r.engagedMS = append(r.engagedMS, x.EngagedMS)
	r.interactive = append(r.interactive, x.Interactive)
	r.late = append(r.late, class == fold.Late)
	r.fresh = append(r.fresh, class != fold.Stale)
}

var noProps = map[string]string{}

func (r *eventRows) propsOf(x *event.Event) map[string]string {
	if len(x.Props) == 0 {
		return noProps
	}
	props := map[string]string{}
	// What can't be read of them is as good as not sent: the event itself counts.
	_ = event.EachProp(x.Props, func(key, value string) bool {
		props[r.nameOf(key)] = r.nameOf(value)
		return true
	})
	return props
}

// idOf names an event whose client gave it no id. It is the same in every copy of its envelope.
func idOf(h event.Header, i int) (id [16]byte) {
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], h.Node)
	binary.LittleEndian.PutUint64(b[8:], h.Sequence)
	binary.LittleEndian.PutUint32(b[16:], uint32(i))
	lo, hi := siphash.Hash128(0, 0, b[:])
	binary.LittleEndian.PutUint64(id[:], lo)
	binary.LittleEndian.PutUint64(id[8:], hi)
	return id
}

// windowRows are rows of the table `windows`, by column in the order of insert_windows.sql.
type windowRows struct {
	site                                []string
	second                              []int64 // unix seconds
	part                                []uint16
	pageviews, visitors, events, active []uint32
	version                             []uint64
}

func (r *windowRows) columns() []any {
	return []any{r.site, r.second, r.part, r.pageviews, r.visitors, r.events, r.active, r.version}
}

func (r *windowRows) rows() int { return len(r.second) }

func (r *windowRows) insert(ctx context.Context, db inserter, token string) error {
	return insert(ctx, db, insertWindows, token, r.columns(), r.rows())
}

// add appends a row that partition has said.
func (r *windowRows) add(partition uint32, s *window.Second) {
	if s.At < 0 || s.At > math.MaxUint32 {
		return // no such second in ClickHouse's DateTime, nor in any log that has clocks
	}
	r.site = append(r.site, strings.Clone(s.Site))
	r.second = append(r.second, s.At)
	r.part = append(r.part, uint16(partition))
	r.pageviews = append(r.pageviews, s.Pageviews)
	r.visitors = append(r.visitors, s.Visitors)
	r.events = append(r.events, s.Events)
	r.active = append(r.active, s.Active)
	r.version = append(r.version, s.Version)
}
