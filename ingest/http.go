package ingest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

// work is what a request needs and the next one can use again.
type work struct {
	body  bytes.Buffer
	draft draft
}

// keepBody bounds the buffer that a large beacon leaves behind.
const keepBody = 64 << 10

// What every beacon's answer says, made once: an answer's header is a map of slices that nobody changes.
var (
	accepted   = []byte("ok")
	plainText  = []string{"text/plain; charset=utf-8"}
	anyOrigin  = []string{"*"}
	exposed    = []string{"x-plausible-dropped, Retry-After"}
	noSniffing = []string{"nosniff"}
)

func (s *Service) postEvent(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	allowAny(c)
	w := s.work.Get().(*work)
	defer s.putBack(w)
	body, errs := w.read(c.Request.Body)
	var b *beacon
	if errs == nil {
		b, errs = parseBeacon(body)
	}
	if errs != nil {
		s.meter.invalid.Inc()
		c.JSON(http.StatusBadRequest, gin.H{"errors": errs})
		return
	}
	from := s.sender(c.Request, addr)
	if c.GetHeader("X-Debug-Request") == "true" {
		c.String(http.StatusOK, from.addr.String())
		return
	}
	if !s.alsoFrom(c, from.addr, len(b.domains)-1) {
		return
	}
	dropped, err := s.publish(&w.draft, b, &from, start)
	if err != nil {
		notCounted(c, err)
		return
	}
	if dropped > 0 {
		c.Header("x-plausible-dropped", strconv.Itoa(dropped))
	}
	c.Writer.Header()["Content-Type"] = plainText
	c.Status(http.StatusAccepted)
	_, _ = c.Writer.Write(accepted) // who doesn't hear it sends the beacon again
}

// notCounted answers why a beacon isn't in the log.
func notCounted(c *gin.Context, err error) {
	var over *overRate
	if errors.As(err, &over) {
		tooMany(c, over.wait, err.Error())
		return
	}
	c.Header("Retry-After", "1")
	c.JSON(http.StatusServiceUnavailable, gin.H{"error": "not counted yet: " + err.Error() + "; send it again, with the same id"})
}

func (s *Service) putBack(w *work) {
	if w.body.Cap() <= keepBody {
		s.work.Put(w)
	}
}

// allowAny lets pages of any origin send and read the answer: a tracker is on other people's pages, and no cookie or key is looked at.
func allowAny(c *gin.Context) {
	h := c.Writer.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Expose-Headers"] = exposed
}

// read returns the whole body. A connection that breaks is no JSON either.
func (w *work) read(r io.Reader) (string, problems) {
	w.body.Reset()
	n, err := w.body.ReadFrom(io.LimitReader(r, maxBody+1))
	switch {
	case n > maxBody:
		return "", problems{"request": {"should be at most " + strconv.Itoa(maxBody) + " bytes"}}
	case err != nil:
		return "", problems{"request": {"Unable to read request body"}}
	}
	return w.body.String(), nil
}

// overRate says that none of a beacon's sites may have more events now.
type overRate struct{ wait time.Duration }

func (*overRate) Error() string { return "too many events for this site" }

// publish puts a beacon into the log once for each of its sites and returns when all of them are acknowledged, with the number
// of those that don't count. A site over its rate is left out; where that leaves none, the error is *overRate.
func (s *Service) publish(d *draft, b *beacon, from *sender, start time.Time) (dropped int, err error) {
	var few [4]*envelope
	pending, dropped, err := s.enqueue(few[:0], s.publisher, d, b, from, start)
	if err != nil {
		return dropped, err
	}
	return dropped, s.acknowledged(pending, start)
}

// enqueue gives a beacon to the publisher once for each of its sites, and adds to pending what has to be acknowledged.
func (s *Service) enqueue(pending []*envelope, to adder, d *draft, b *beacon, from *sender, start time.Time) (_ []*envelope, dropped int, err error) {
	ids := s.identity.Load()
	if ids == nil {
		s.meter.refused.Inc()
		return pending, 0, errStarting // what it waits for is for operators, in Ready
	}
	var over *overRate
	taken, always := len(pending), s.uncounted(b, from)
	for _, domain := range b.domains {
		found, ok := s.lookup(domain)
		if !ok {
			s.meter.unknown.Inc()
			dropped++
			continue
		}
		reason := always
		if reason == "" {
			s.fill(d, b, from, found.Domain)
			reason = ruled(&found, b, d, from)
		}
		if reason != "" {
			s.drop(found.Domain, reason)
			dropped++
			continue
		}
		if wait, ok := s.limits.to(found.Domain, start); !ok {
			s.meter.limitedSite.Inc()
			over = &overRate{wait}
			dropped++
			continue
		}
		s.guard.bound(&d.Event, start)
		if b.id != "" {
			d.ID, d.HasID = ids.eventID(d.who, b.id), true
		}
		e, err := to.add(ids.partitionOf(d.who), d)
		if err != nil {
			s.meter.refused.Inc()
			return pending, dropped, err
		}
		pending = append(pending, e)
	}
	if over != nil && len(pending) == taken {
		return pending, dropped, over
	}
	return pending, dropped, nil
}

// uncounted says why a beacon counts for no site, "" if it may.
func (s *Service) uncounted(b *beacon, from *sender) string {
	switch {
	case from.says.bot:
		return "bot"
	case from.early:
		return "prefetch"
	case from.optedOut:
		return "opted_out"
	case s.spammers.has(b.referrer.host):
		return "spam_referrer"
	}
	return ""
}

// ruled says why the site's own rules leave a beacon out, "" if they don't.
func ruled(of *site.Site, b *beacon, d *draft, from *sender) string {
	host := b.page.host
	if host == "" {
		host = b.hostname
	}
	switch of.RuleSet().Refuses(host, from.addr, d.Country, d.Path) {
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

// lookup finds a site by its domain, also with "www." in front.
func (s *Service) lookup(domain string) (site.Site, bool) {
	found, ok := s.sites.Lookup(domain)
	if !ok {
		found, ok = s.sites.Lookup(bare(domain))
	}
	return found, ok
}

// acknowledged waits for the log. A client that went away meanwhile changes nothing: its event is on its way.
func (s *Service) acknowledged(pending []*envelope, start time.Time) error {
	if len(pending) == 0 {
		return nil
	}
	timeout := s.timers.Get().(*time.Timer)
	timeout.Reset(time.Until(start.Add(s.cfg.AckTimeout)))
	defer func() { timeout.Stop(); s.timers.Put(timeout) }()
	for _, e := range pending {
		select {
		case <-e.done:
			if e.err != nil {
				s.meter.refused.Inc()
				return e.err
			}
		case <-timeout.C:
			s.meter.timeouts.Inc()
			return fmt.Errorf("the log didn't acknowledge within %s", s.cfg.AckTimeout)
		}
	}
	s.meter.accepted.Add(float64(len(pending)))
	s.meter.ack.Observe(time.Since(start).Seconds())
	return nil
}

// preflight lets pages of any origin post, with the headers that the dialect's clients set.
func preflight(headers string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Access-Control-Allow-Origin", "*")
		c.Header("Access-Control-Allow-Methods", "POST, OPTIONS")
		c.Header("Access-Control-Allow-Headers", headers)
		c.Header("Access-Control-Max-Age", "86400")
		c.Status(http.StatusNoContent)
	}
}

// nosniff keeps browsers from taking an answer for something else than its type says.
func nosniff(c *gin.Context) { c.Writer.Header()["X-Content-Type-Options"] = noSniffing }

// script is the tracker as it is sent.
type script struct {
	plain, zipped []byte
	etag          string
}

func newScript(b []byte) (*script, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress tracker: %w", err)
	}
	sum := sha256.Sum256(b)
	return &script{plain: b, zipped: z.Bytes(), etag: `W/"` + hex.EncodeToString(sum[:8]) + `"`}, nil
}

// getScript serves the tracker. Its address doesn't change with its content, so browsers keep it for a day and then ask by ETag.
func (s *Service) getScript(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if s.script == nil {
		c.JSON(http.StatusNotFound, gin.H{"error": "this program was built without the tracker: build it with make build"})
		return
	}
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=86400, stale-while-revalidate=604800")
	h.Set("ETag", s.script.etag)
	h.Set("Vary", "Accept-Encoding")
	b := s.script.plain
	if acceptsGzip(c.GetHeader("Accept-Encoding")) {
		b = s.script.zipped
		h.Set("Content-Encoding", "gzip")
	}
	http.ServeContent(c.Writer, c.Request, "script.js", time.Time{}, bytes.NewReader(b))
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, weighted := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			return !weighted || strings.Trim(weight, " q=0.") != ""
		}
	}
	return false
}
