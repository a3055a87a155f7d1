package ingest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// work is what a request needs and the next one can use again.
type work struct {
	body  bytes.Buffer
	draft draft
}

// keepBody bounds the buffer that a large beacon leaves behind.
const keepBody = 64 << 10

func (s *Service) postEvent(c *gin.Context) {
	start := time.Now()
	c.Header("Access-Control-Allow-Origin", "*")
	c.Header("Access-Control-Expose-Headers", "x-plausible-dropped")
	w := s.work.Get().(*work)
	defer func() {
		if w.body.Cap() <= keepBody {
			s.work.Put(w)
		}
	}()
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
	from := s.sender(c.Request)
	if c.GetHeader("X-Debug-Request") == "true" {
		c.String(http.StatusOK, from.addr.String())
		return
	}
	dropped, err := s.publish(&w.draft, b, &from, start)
	if err != nil {
		c.Header("Retry-After", "1")
		c.JSON(http.StatusServiceUnavailable, gin.H{"error": "not counted yet: " + err.Error() + "; send it again, with the same id"})
		return
	}
	if dropped > 0 {
		c.Header("x-plausible-dropped", strconv.Itoa(dropped))
	}
	c.String(http.StatusAccepted, "ok")
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

// publish puts a beacon into the log once for each of its sites and returns when all of them are acknowledged, with the number
// of those that don't count.
func (s *Service) publish(d *draft, b *beacon, from *sender, start time.Time) (dropped int, err error) {
	ids := s.identity.Load()
	if ids == nil {
		s.meter.refused.Inc()
		return 0, fmt.Errorf("%s", *s.waits.Load())
	}
	var few [4]*envelope
	pending := few[:0]
	for _, domain := range b.domains {
		found, ok := s.sites.Lookup(domain)
		if !ok {
			found, ok = s.sites.Lookup(bare(domain))
		}
		if !ok {
			s.meter.unknown.Inc()
			dropped++
			continue
		}
		if from.says.bot {
			s.drop(found.Domain, "bot")
			dropped++
			continue
		}
		s.fill(d, b, from, found.Domain)
		if b.id != "" {
			d.ID, d.HasID = ids.eventID(d.who, b.id), true
		}
		e, err := s.publisher.add(ids.partitionOf(d.who), d)
		if err != nil {
			s.meter.refused.Inc()
			return dropped, err
		}
		pending = append(pending, e)
	}
	return dropped, s.acknowledged(pending, start)
}

// acknowledged waits for the log. A client that went away meanwhile changes nothing: its event is on its way.
func (s *Service) acknowledged(pending []*envelope, start time.Time) error {
	if len(pending) == 0 {
		return nil
	}
	timeout := time.NewTimer(time.Until(start.Add(s.cfg.AckTimeout)))
	defer timeout.Stop()
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

func preflight(c *gin.Context) {
	c.Header("Access-Control-Allow-Origin", "*")
	c.Header("Access-Control-Allow-Methods", "POST, OPTIONS")
	c.Header("Access-Control-Allow-Headers", "Content-Type, X-Debug-Request")
	c.Header("Access-Control-Max-Age", "86400")
	c.Status(http.StatusNoContent)
}

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
	h.Set("X-Content-Type-Options", "nosniff")
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
