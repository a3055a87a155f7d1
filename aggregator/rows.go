package aggregator

import (
	"context"
	_ "embed"
	"encoding/binary"
	"math"

	chproto "github.com/ClickHouse/ch-go/proto"
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

// eventRows are rows of the table `events`. The columns are in the order of insert_events.sql.
type eventRows struct {
	site                                                   lowCardinality
	ts                                                     milliseconds
	visitor                                                chproto.ColUInt64
	id                                                     chproto.ColFixedStr16
	kpart                                                  chproto.ColUInt16
	koff                                                   chproto.ColUInt64
	kidx                                                   chproto.ColUInt16
	kind, name, hostname                                   lowCardinality
	path, referrer                                         chproto.ColStr
	source                                                 lowCardinality
	utmSource, utmMedium, utmCampaign, utmContent, utmTerm lowCardinality
	country, region, device, browser, browserVersion       lowCardinality
	os, osVersion, language                                lowCardinality
	props                                                  properties
	revenueMicros                                          chproto.ColInt64
	currency                                               lowCardinality
	scrollDepth                                            chproto.ColUInt8
	engagedMS                                              chproto.ColUInt32
	interactive, late, fresh                               chproto.ColBool
	channel, city, screen                                  lowCardinality

	marks dayMarks
}

func (r *eventRows) columns() []vector {
	return []vector{&r.site, &r.ts, &r.visitor, &r.id, &r.kpart, &r.koff, &r.kidx, &r.kind, &r.name,
		&r.hostname, &r.path, &r.referrer, &r.source,
		&r.utmSource, &r.utmMedium, &r.utmCampaign, &r.utmContent, &r.utmTerm, &r.country, &r.region,
		&r.device, &r.browser, &r.browserVersion,
		&r.os, &r.osVersion, &r.language, &r.props, &r.revenueMicros, &r.currency, &r.scrollDepth,
		&r.engagedMS, &r.interactive, &r.late, &r.fresh,
		&r.channel, &r.city, &r.screen}
}

func (r *eventRows) rows() int { return r.ts.Rows() }

func (r *eventRows) reset() {
	reset(r.columns())
	r.marks.reset()
}

// insert inserts the rows and then marks their days. If it fails in between, the caller repeats both.
func (r *eventRows) insert(ctx context.Context, db inserter, token string) error {
	if err := insert(ctx, db, insertEvents, token, r.columns(), r.rows()); err != nil {
		return err
	}
	return r.marks.insert(ctx, db, token)
}

// add appends the event at index i of an envelope of a partition.
func (r *eventRows) add(partition int, e *fold.Envelope, i int, class fold.Class) {
	x := &e.Events[i]
	id := x.ID
	if !x.HasID {
		id = generatedID(e.Header, i)
	}
	r.site.add(x.Site)
	r.ts.Append(x.Time)
	r.visitor.Append(x.Visitor)
	r.id.Append(id)
	r.kpart.Append(uint16(partition))
	r.koff.Append(uint64(e.Offset))
	r.kidx.Append(uint16(i))
	r.kind.add(x.Kind.String())
	r.name.add(x.Name)
	r.hostname.add(x.Hostname)
	r.path.Append(x.Path)
	r.referrer.Append(x.Referrer)
	r.source.add(x.Source)
	r.utmSource.add(x.UTMSource)
	r.utmMedium.add(x.UTMMedium)
	r.utmCampaign.add(x.UTMCampaign)
	r.utmContent.add(x.UTMContent)
	r.utmTerm.add(x.UTMTerm)
	r.country.add(x.Country)
	r.region.add(x.Region)
	r.device.add(x.Device)
	r.browser.add(x.Browser)
	r.browserVersion.add(x.BrowserVersion)
	r.os.add(x.OS)
	r.osVersion.add(x.OSVersion)
	r.language.add(x.Language)
	r.props.add(x.Props)
	r.revenueMicros.Append(x.RevenueMicros)
	r.currency.add(x.Currency)
	r.scrollDepth.Append(uint8(min(x.ScrollDepth, 255)))
	r.engagedMS.Append(x.EngagedMS)
	r.interactive.Append(x.Interactive)
	r.late.Append(class == fold.Late)
	r.fresh.Append(class != fold.Stale)
	r.channel.add(x.Channel)
	r.city.add(x.City)
	r.screen.add(x.Screen)
	r.marks.add(x.Site, dayOf(x.Time))
}

// generatedID returns the id of an event whose client sent none. It is equal in all copies of its envelope.
func generatedID(h event.Header, i int) (id [16]byte) {
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], h.Node)
	binary.LittleEndian.PutUint64(b[8:], h.Sequence)
	binary.LittleEndian.PutUint32(b[16:], uint32(i))
	lo, hi := siphash.Hash128(0, 0, b[:])
	binary.LittleEndian.PutUint64(id[:], lo)
	binary.LittleEndian.PutUint64(id[8:], hi)
	return id
}

// windowRows are rows of the table `windows`. The columns are in the order of insert_windows.sql.
type windowRows struct {
	site                                lowCardinality
	second                              seconds
	part                                chproto.ColUInt16
	pageviews, visitors, events, active chproto.ColUInt32
	version                             chproto.ColUInt64
}

func (r *windowRows) columns() []vector {
	return []vector{&r.site, &r.second, &r.part, &r.pageviews, &r.visitors, &r.events, &r.active, &r.version}
}

func (r *windowRows) rows() int { return r.second.Rows() }
func (r *windowRows) reset()    { reset(r.columns()) }

func (r *windowRows) insert(ctx context.Context, db inserter, token string) error {
	return insert(ctx, db, insertWindows, token, r.columns(), r.rows())
}

// add appends a final row of a partition.
func (r *windowRows) add(partition uint32, s *window.Second) {
	if s.At < 0 || s.At > math.MaxUint32 {
		return // outside of ClickHouse's DateTime, from a broken clock
	}
	r.site.add(s.Site)
	r.second.Append(uint32(s.At))
	r.part.Append(uint16(partition))
	r.pageviews.Append(s.Pageviews)
	r.visitors.Append(s.Visitors)
	r.events.Append(s.Events)
	r.active.Append(s.Active)
	r.version.Append(s.Version)
}
