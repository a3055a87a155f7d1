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

// otherValue replaces the values of a site that are over its cardinality limit.
const otherValue = "(other)"

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

// cardinalityLimits are how many new values of a dimension a site may have at once, and again in each
// minute. A value is new if the site had it neither in this minute nor in the one before.
var cardinalityLimits = [dimensions]struct {
	label  string
	values float64
}{
	dimHostname:       {"hostname", 200},
	dimPath:           {"path", 5000},
	dimReferrer:       {"referrer", 1000},
	dimSource:         {"source", 1000},
	dimName:           {"event_name", 200},
	dimProp:           {"property", 100},
	dimUTMSource:      {"utm_source", 1000},
	dimUTMMedium:      {"utm_medium", 1000},
	dimUTMCampaign:    {"utm_campaign", 1000},
	dimUTMContent:     {"utm_content", 1000},
	dimUTMTerm:        {"utm_term", 1000},
	dimBrowser:        {"browser", 200},
	dimBrowserVersion: {"browser_version", 500},
	dimOSVersion:      {"os_version", 500},
	dimLanguage:       {"language", 500},
}

// seenGroups is the number of groups in the table of values. It has room for 524,288 values in groups of
// 8, a cache line each: 4 MB.
const seenGroups = 1 << 16

// cardinalityLimiter bounds the different values of a site: values over its limits become (other), for
// that site only.
//
// Its memory is fixed. A hash table has the values of all sites, each with its minute. A new value in a
// full group evicts the value that was seen longest ago, which counts as new when it comes back. A table
// of rate limits (GCRA) has what sites may still bring. It evicts the sites that brought the fewest new
// values, so a site that makes values up stays limited, and idle sites take no room.
type cardinalityLimiter struct {
	seen        *[seenGroups][8]atomic.Uint64 // upper 56 bits: of the hash; lower 8: of the minute
	rates       *gcraTable
	startedAt   time.Time // 0 on the clock of the tables
	seed        maphash.Seed
	salts       [dimensions]uint64
	limits      [dimensions]gcra
	counters    [dimensions]prometheus.Counter
	log         *slog.Logger
	lastWarning atomic.Int64 // minute, from 1
}

const minuteNS = int64(time.Minute)

func newCardinalityLimiter(log *slog.Logger, others *prometheus.CounterVec) *cardinalityLimiter {
	l := &cardinalityLimiter{
		seen: new([seenGroups][8]atomic.Uint64), rates: &gcraTable{}, startedAt: time.Now(),
		seed: maphash.MakeSeed(), log: log,
	}
	for i, c := range cardinalityLimits {
		l.limits[i] = newGCRA(Limit{Rate: c.values / 60, Burst: c.values})
		l.salts[i] = maphash.String(l.seed, c.label)
		l.counters[i] = others.WithLabelValues(c.label)
	}
	return l
}

// limit replaces the values of an event that are over the limits of its site by (other), and removes such
// properties.
func (l *cardinalityLimiter) limit(e *event.Event, at time.Time) {
	now := int64(at.Sub(l.startedAt))
	site := maphash.String(l.seed, e.Site)
	l.field(&e.Hostname, site, dimHostname, now, e)
	l.field(&e.Path, site, dimPath, now, e)
	l.field(&e.Referrer, site, dimReferrer, now, e)
	l.field(&e.Source, site, dimSource, now, e)
	if e.Kind == event.Custom {
		l.field(&e.Name, site, dimName, now, e)
	}
	l.field(&e.UTMSource, site, dimUTMSource, now, e)
	l.field(&e.UTMMedium, site, dimUTMMedium, now, e)
	l.field(&e.UTMCampaign, site, dimUTMCampaign, now, e)
	l.field(&e.UTMContent, site, dimUTMContent, now, e)
	l.field(&e.UTMTerm, site, dimUTMTerm, now, e)
	l.field(&e.Browser, site, dimBrowser, now, e)
	l.field(&e.BrowserVersion, site, dimBrowserVersion, now, e)
	l.field(&e.OSVersion, site, dimOSVersion, now, e)
	l.field(&e.Language, site, dimLanguage, now, e)
	if len(e.Props) > 0 {
		l.props(e, site, now)
	}
}

func (l *cardinalityLimiter) field(s *string, site uint64, d dimension, now int64, e *event.Event) {
	if *s != "" && !l.allow(*s, site, d, now) {
		*s = otherValue
		l.count(d, now, e)
	}
}

// props removes the properties whose keys are over the limit. It copies the others: the bytes belong to
// the beacon, which may be for other sites too.
func (l *cardinalityLimiter) props(e *event.Event, site uint64, now int64) {
	var removed uint64 // a bit for each property; a beacon has at most 30
	n := 0
	_ = event.EachProp(e.Props, func(k, _ string) bool {
		if !l.allow(k, site, dimProp, now) {
			removed |= 1 << n
			l.count(dimProp, now, e)
		}
		n++
		return true
	})
	if removed == 0 {
		return
	}
	var kept []byte
	n = 0
	_ = event.EachProp(e.Props, func(k, v string) bool {
		if removed&(1<<n) == 0 {
			kept = event.AppendProp(kept, k, v)
		}
		n++
		return true
	})
	e.Props = kept
}

// allow reports whether a value isn't new for a site, or is new and within the limit.
func (l *cardinalityLimiter) allow(value string, site uint64, d dimension, now int64) bool {
	hash := mix(maphash.String(l.seed, value)^l.salts[d], site)
	tag, minute := hash&^0xff, uint8(now/minuteNS) //nolint:gosec // the last 8 bits
	group := &l.seen[hash>>48]
	for i := range group {
		if e := group[i].Load(); e&^0xff == tag {
			switch minute - uint8(e) { //nolint:gosec // the last 8 bits
			case 1:
				group[i].Store(tag | uint64(minute))
				return true
			case 0, 255: // 255: another request began in the next minute already
				return true
			}
		}
	}
	if _, ok := l.rates.take(mix(site^l.salts[d], l.salts[d]), l.limits[d], 1, now); !ok {
		return false
	}
	oldest, maxAge := 0, -1
	for i := range group {
		e := group[i].Load()
		age := int(minute + 1 - uint8(e)) //nolint:gosec // the last 8 bits
		if e == 0 {
			age = 256
		}
		if age > maxAge {
			oldest, maxAge = i, age
		}
	}
	group[oldest].Store(tag | uint64(minute))
	return true
}

// mix makes one hash of two.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b|1)
	return high ^ low
}

// count counts a value over the limit, and logs its site once a minute.
func (l *cardinalityLimiter) count(d dimension, now int64, e *event.Event) {
	l.counters[d].Inc()
	last, minute := l.lastWarning.Load(), now/minuteNS+1
	if last != minute && l.lastWarning.CompareAndSwap(last, minute) {
		l.log.Warn("a site has too many different values; what is new counts as (other)",
			"site", e.Site, "dimension", cardinalityLimits[d].label, "a_minute", cardinalityLimits[d].values)
	}
}
