package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nowcast/ingest/dialect"
	"nowcast/ingest/enrich"
	"nowcast/ingest/publisher"
	"nowcast/internal/event"
	"nowcast/internal/site"
)

var errStarting = errors.New("this instance is starting")

// overRateError says that no site of a beacon may have more events for the duration of wait.
type overRateError struct{ wait time.Duration }

func (*overRateError) Error() string { return "too many events for this site" }

// registry is what ingest needs of site.Registry.
type registry interface {
	Wait(ctx context.Context) error
	Lookup(domain string) (site.Site, bool)
	PartitionKey() [16]byte
}

// intake makes events of beacons and gives them to the publisher: it drops beacons that don't count,
// enriches the others, limits the rate and the cardinality of a site, and waits for the acknowledgement.
type intake struct {
	sites         registry
	clocks        *siteClocks
	enricher      *enrich.Enricher
	limits        *rateLimiter
	cardinality   *cardinalityLimiter
	publisher     *publisher.Publisher
	metrics       *metrics
	ackTimeout    time.Duration
	respectOptOut bool
	identity      atomic.Pointer[identity] // nil until beacons can be taken
	buffers       sync.Pool                // *requestBuffers
	timers        sync.Pool                // *time.Timer, of acknowledged
}

// requestBuffers is the memory of a request. It is pooled.
type requestBuffers struct {
	body    bytes.Buffer
	event   event.Event
	visitor visitor
}

// maxPooledBody bounds the body buffer that goes back into the pool, in bytes.
const maxPooledBody = 64 << 10

func (in *intake) getBuffers() *requestBuffers { return in.buffers.Get().(*requestBuffers) }

func (in *intake) putBuffers(b *requestBuffers) {
	if b.body.Cap() <= maxPooledBody {
		in.buffers.Put(b)
	}
}

// read returns the whole body of a request. An error tells why it can't be read.
func (b *requestBuffers) read(r io.Reader) (string, dialect.FieldErrors) {
	b.body.Reset()
	n, err := b.body.ReadFrom(io.LimitReader(r, dialect.MaxBody+1))
	switch {
	case n > dialect.MaxBody:
		limit := strconv.Itoa(dialect.MaxBody)
		return "", dialect.FieldErrors{"request": {"should be at most " + limit + " bytes"}}
	case err != nil:
		return "", dialect.FieldErrors{"request": {"Unable to read request body"}}
	}
	return b.body.String(), nil
}

// publish puts a beacon into the log once for each of its sites, and returns when all of these events are
// acknowledged, with the number of sites that it doesn't count for. start is when the request came.
func (in *intake) publish(
	buf *requestBuffers, b *dialect.Beacon, facts *enrich.Facts, start time.Time,
) (dropped int, err error) {
	var few [4]*publisher.Envelope
	pending, dropped, err := in.enqueue(few[:0], buf, b, facts, start)
	if err != nil {
		return dropped, err
	}
	return dropped, in.acknowledged(pending, start)
}

// enqueue gives a beacon to the publisher once for each of its sites, and appends the envelopes to
// pending. It returns the number of sites that the beacon doesn't count for. A site over its rate is one
// of them; if that leaves no event, the error is *overRateError.
func (in *intake) enqueue(
	pending []*publisher.Envelope, buf *requestBuffers, b *dialect.Beacon, facts *enrich.Facts,
	start time.Time,
) (_ []*publisher.Envelope, dropped int, err error) {
	ids := in.identity.Load()
	if ids == nil {
		in.metrics.refused.Inc()
		return pending, 0, errStarting // Service.Ready tells operators what it waits for
	}
	var overRate *overRateError
	before, senderReason := len(pending), in.dropReason(b, facts)
	for _, domain := range b.Domains {
		s, ok := in.lookup(domain)
		if !ok {
			in.metrics.unknown.Inc()
			dropped++
			continue
		}
		reason := senderReason
		if reason == "" {
			in.enricher.Fill(&buf.event, b, facts, s.Domain)
			reason = siteDropReason(&s, b, &buf.event, facts.Addr)
		}
		if reason != "" {
			in.drop(s.Domain, reason)
			dropped++
			continue
		}
		if wait, ok := in.limits.takeSite(s.Domain, start); !ok {
			in.metrics.limitedSite.Inc()
			overRate = &overRateError{wait}
			dropped++
			continue
		}
		in.cardinality.limit(&buf.event, start)
		key := appendVisitorKey(buf.visitor.key[:0], s.Domain, facts.Addr, facts.UserAgent)
		buf.visitor = visitor{key, in.clocks.of(s.Domain, s.Timezone)}
		if b.ID != "" { // the publisher's stamp makes of it what is stored
			buf.event.ID = clientID(key[len(key):], s.Domain, b.ID)
			buf.event.HasID = true
		}
		e, err := in.publisher.Add(ids.partition(key), &buf.event, &buf.visitor)
		if err != nil {
			in.metrics.refused.Inc()
			return pending, dropped, err
		}
		pending = append(pending, e)
	}
	if overRate != nil && len(pending) == before {
		return pending, dropped, overRate
	}
	return pending, dropped, nil
}

// dropReason returns why a beacon counts for no site, "" if it may count.
func (in *intake) dropReason(b *dialect.Beacon, facts *enrich.Facts) string {
	switch {
	case facts.Bot:
		return "bot"
	case facts.Prefetched:
		return "prefetch"
	case facts.OptOut && in.respectOptOut:
		return "opted_out"
	case in.enricher.FromSpammer(b):
		return "spam_referrer"
	}
	return ""
}

// siteDropReason returns why the rules of a site drop a beacon, "" if they don't.
func siteDropReason(s *site.Site, b *dialect.Beacon, e *event.Event, addr netip.Addr) string {
	host := b.Page.Host
	if host == "" {
		host = b.Hostname
	}
	switch s.RuleSet().DropReason(host, addr, e.Country, e.Path) {
	case site.HostnameNotListed:
		return "hostname"
	case site.AddressBlocked:
		return "address"
	case site.CountryBlocked:
		return "country"
	case site.PathBlocked:
		return "path"
	default:
		return ""
	}
}

// drop counts a beacon for a site that is dropped, in the metric and in the site's ledger. reason is one
// of dropReasons.
func (in *intake) drop(site, reason string) {
	in.metrics.dropped(reason).Inc()
	in.publisher.CountDropped(site, reason)
}

// lookup finds a site by its domain, or by its domain without "www.".
func (in *intake) lookup(domain string) (site.Site, bool) {
	s, ok := in.sites.Lookup(domain)
	if !ok {
		s, ok = in.sites.Lookup(dialect.TrimWWW(domain))
	}
	return s, ok
}

// acknowledged waits until all envelopes are acknowledged, for at most ackTimeout from start on. It waits
// also when the client disconnects, so that metrics count the events.
func (in *intake) acknowledged(pending []*publisher.Envelope, start time.Time) error {
	if len(pending) == 0 {
		return nil
	}
	timeout := in.timers.Get().(*time.Timer)
	timeout.Reset(time.Until(start.Add(in.ackTimeout)))
	defer func() { timeout.Stop(); in.timers.Put(timeout) }()
	for _, e := range pending {
		select {
		case <-e.Done():
			if err := e.Err(); err != nil {
				in.metrics.refused.Inc()
				return err
			}
		case <-timeout.C:
			in.metrics.timeouts.Inc()
			return fmt.Errorf("the log didn't acknowledge within %s", in.ackTimeout)
		}
	}
	in.metrics.accepted.Add(float64(len(pending)))
	in.metrics.ack.Observe(time.Since(start).Seconds())
	return nil
}
