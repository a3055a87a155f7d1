package ingest

import (
	"hash/maphash"
	"log/slog"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/event"
)

// other stands for the values of a site that are too many.
const other = "(other)"

// dimension is a field of events whose values a sender can make up.
type dimension uint8

const (
	dimHostname dimension = iota
	dimPath
	dimReferrer
	dimSource
	dimName
	dimProp
	dimUTMSource
	dimUTMMedium
	dimUTMCampaign
	dimUTMContent
	dimUTMTerm
	dimBrowser
	dimBrowserVersion
	dimOSVersion
	dimLanguage
	dimensions
)

// budgets are how many new values of a dimension a site may bring at once, and again in each minute. New is what it has had neither in this
// minute nor in the one before.
var budgets = [dimensions]struct {
	name   string
	values float64
}{
	dimHostname: {"hostname", 200}, dimPath: {"path", 5000}, dimReferrer: {"referrer", 1000}, dimSource: {"source", 1000},
	dimName: {"event_name", 200}, dimProp: {"property", 100},
	dimUTMSource: {"utm_source", 1000}, dimUTMMedium: {"utm_medium", 1000}, dimUTMCampaign: {"utm_campaign", 1000}, dimUTMContent: {"utm_content", 1000}, dimUTMTerm: {"utm_term", 1000},
	dimBrowser: {"browser", 200}, dimBrowserVersion: {"browser_version", 500}, dimOSVersion: {"os_version", 500}, dimLanguage: {"language", 500},
}

// The table of values that were seen has room for 524,288 in groups of 8, each of one cache line: 4 MB.
const seenGroups = 1 << 16

// guard keeps a site from having more different values than its budgets: what is beyond them counts as (other), of that site only. Its memory
// is fixed. A value is a hash in a table, with its minute; where a group is full, the one that was seen longest ago is forgotten, and has to be paid for
// again when it comes back. What is left of a budget is in a table of buckets, and the one that is nearest to full is forgotten there: a site that
// makes values up stays without budget however many others there are, and sites that are idle take no room.
type guard struct {
	seen   *[seenGroups][8]atomic.Uint64 // 56 bits of the hash, and the minute's last 8
	left   *buckets
	begin  time.Time
	seed   maphash.Seed
	salt   [dimensions]uint64
	allow  [dimensions]allowance
	meter  [dimensions]prometheus.Counter
	log    *slog.Logger
	warned atomic.Int64 // the minute of the last warning
}

const minute = int64(time.Minute)

func newGuard(log *slog.Logger, meter *prometheus.CounterVec) *guard {
	g := &guard{seen: new([seenGroups][8]atomic.Uint64), left: &buckets{}, begin: time.Now(), seed: maphash.MakeSeed(), log: log}
	for i, b := range budgets {
		g.allow[i] = Limit{Rate: b.values / 60, Burst: b.values}.allowance()
		g.salt[i] = maphash.String(g.seed, b.name)
		g.meter[i] = meter.WithLabelValues(b.name)
	}
	return g
}

// bound puts (other) in place of the values of an event that are beyond its site's budgets, and leaves such properties out.
func (g *guard) bound(e *event.Event, at time.Time) {
	now := int64(at.Sub(g.begin))
	site := maphash.String(g.seed, e.Site)
	g.field(&e.Hostname, site, dimHostname, now, e)
	g.field(&e.Path, site, dimPath, now, e)
	g.field(&e.Referrer, site, dimReferrer, now, e)
	g.field(&e.Source, site, dimSource, now, e)
	if e.Kind == event.Custom {
		g.field(&e.Name, site, dimName, now, e)
	}
	g.field(&e.UTMSource, site, dimUTMSource, now, e)
	g.field(&e.UTMMedium, site, dimUTMMedium, now, e)
	g.field(&e.UTMCampaign, site, dimUTMCampaign, now, e)
	g.field(&e.UTMContent, site, dimUTMContent, now, e)
	g.field(&e.UTMTerm, site, dimUTMTerm, now, e)
	g.field(&e.Browser, site, dimBrowser, now, e)
	g.field(&e.BrowserVersion, site, dimBrowserVersion, now, e)
	g.field(&e.OSVersion, site, dimOSVersion, now, e)
	g.field(&e.Language, site, dimLanguage, now, e)
	if len(e.Props) > 0 {
		g.props(e, site, now)
	}
}

func (g *guard) field(s *string, site uint64, d dimension, now int64, e *event.Event) {
	if *s != "" && !g.passes(*s, site, d, now) {
		*s = other
		g.refused(d, now, e)
	}
}

// props leaves out properties whose keys are too many. The bytes belong to the beacon, which may be for other sites too, so they are copied
// when something is left out.
func (g *guard) props(e *event.Event, site uint64, now int64) {
	var refused uint64 // by place; a beacon has at most maxProps
	n := 0
	_ = event.EachProp(e.Props, func(k, _ string) bool {
		if !g.passes(k, site, dimProp, now) {
			refused |= 1 << n
			g.refused(dimProp, now, e)
		}
		n++
		return true
	})
	if refused == 0 {
		return
	}
	var kept []byte
	n = 0
	_ = event.EachProp(e.Props, func(k, v string) bool {
		if refused&(1<<n) == 0 {
			kept = event.AppendProp(kept, k, v)
		}
		n++
		return true
	})
	e.Props = kept
}

// passes says whether a site has had a value lately, or may have a new one, which is then one that it has had.
func (g *guard) passes(value string, site uint64, d dimension, now int64) bool {
	hash := mix(maphash.String(g.seed, value)^g.salt[d], site)
	tag, at := hash&^0xff, uint8(now/minute) //nolint:gosec // its last 8 bits are what is meant
	group := &g.seen[hash>>48]
	for i := range group {
		if e := group[i].Load(); e&^0xff == tag {
			switch at - uint8(e) { //nolint:gosec // the same
			case 1:
				group[i].Store(tag | uint64(at))
				return true
			case 0, 255: // of a request that began in this minute, or in the next one
				return true
			}
		}
	}
	if _, ok := g.left.take(mix(site^g.salt[d], g.salt[d]), g.allow[d], 1, now); !ok {
		return false
	}
	oldest, age := 0, -1
	for i := range group {
		e := group[i].Load()
		old := int(at + 1 - uint8(e)) //nolint:gosec // the same
		if e == 0 {
			old = 256
		}
		if old > age {
			oldest, age = i, old
		}
	}
	group[oldest].Store(tag | uint64(at))
	return true
}

// mix makes one hash of two.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b|1)
	return high ^ low
}

// refused counts a value that became (other), and says once a minute whose it was.
func (g *guard) refused(d dimension, now int64, e *event.Event) {
	g.meter[d].Inc()
	if last, m := g.warned.Load(), now/minute+1; last != m && g.warned.CompareAndSwap(last, m) {
		g.log.Warn("a site has too many different values; what is new counts as (other)", "site", e.Site, "dimension", budgets[d].name, "a_minute", budgets[d].values)
	}
}
