package ingest

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/ingest/dialect"
	"nowcast/ingest/enrich"
	"nowcast/ingest/publisher"
)

// umamiAnswer is the answer to an accepted beacon, the same for each client. Clients send the cache token
// back as X-Umami-Cache, which is ignored. The ids are the nil UUID: any page on the web could ask for a
// real one and use it to track the visitor.
const umamiAnswer = `{"cache":"nowcast","sessionId":"` + nilUUID + `","visitId":"` + nilUUID + `"}`

const nilUUID = "00000000-0000-0000-0000-000000000000"

const unknownWebsite = "Website not found. The website (data-website-id) is the site's domain here, " +
	"such as example.com, and the site has to exist"

// umamiError is the JSON of an error in Umami's dialect.
type umamiError struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Status  int    `json:"status"`
	} `json:"error"`
}

func newUmamiError(status int, message string) (e umamiError) {
	e.Error.Message, e.Error.Status = message, status
	e.Error.Code = strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
	return e
}

// batchError tells which beacon of a batch isn't valid, and why.
type batchError struct {
	Index    int        `json:"index"`
	Response umamiError `json:"response"`
}

// umamiHandler takes beacons of Umami's dialect.
type umamiHandler struct {
	intake  *intake
	limiter *senderLimiter
}

// postSend takes one beacon.
func (h *umamiHandler) postSend(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	buf := h.intake.getBuffers()
	defer h.intake.putBuffers(buf)
	body, ok := h.readBody(c, buf)
	if !ok {
		return
	}
	facts := h.intake.enricher.Facts(c.Request.Header, addr)
	pending, dropped, problem, err := h.enqueue(nil, buf, body, &facts, start)
	if err == nil {
		err = h.intake.acknowledged(pending, start)
	}
	switch {
	case err != nil:
		h.answerUnacknowledged(c, err)
	case problem != "":
		answerUmamiProblem(c, problem)
	case facts.Bot:
		setDropped(c, 1)
		c.JSON(http.StatusOK, gin.H{"beep": "boop"})
	default:
		if dropped {
			setDropped(c, 1)
		}
		c.Data(http.StatusOK, "application/json; charset=utf-8", []byte(umamiAnswer))
	}
}

// postBatch takes many beacons of one sender. The answer lists the invalid ones, and the others count. If
// one of the others isn't acknowledged, the answer is 503 for all.
func (h *umamiHandler) postBatch(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	buf := h.intake.getBuffers()
	defer h.intake.putBuffers(buf)
	body, ok := h.readBody(c, buf)
	if !ok {
		return
	}
	beacons, ok := dialect.UmamiBatch(body)
	if !ok {
		h.intake.metrics.invalid.Inc()
		limit := strconv.Itoa(dialect.MaxBatch)
		answerUmamiProblem(c, "the body must be a JSON array of at most "+limit+" objects")
		return
	}
	facts := h.intake.enricher.Facts(c.Request.Header, addr)
	if !h.limiter.allow(c, addr, len(beacons)-1) {
		return
	}
	var (
		pending  []*publisher.Envelope
		dropped  int
		problems = []batchError{}
		err      error
	)
	for i, beacon := range beacons {
		var (
			drop    bool
			problem string
		)
		if pending, drop, problem, err = h.enqueue(pending, buf, beacon, &facts, start); err != nil {
			break
		}
		if problem != "" {
			problems = append(problems, batchError{i, newUmamiError(http.StatusBadRequest, problem)})
		}
		if drop {
			dropped++
		}
	}
	if err == nil {
		err = h.intake.acknowledged(pending, start)
	}
	if err != nil {
		h.answerUnacknowledged(c, err)
		return
	}
	setDropped(c, dropped)
	c.JSON(http.StatusOK, gin.H{
		"size": len(beacons), "processed": len(beacons) - len(problems),
		"errors": len(problems), "details": problems,
	})
}

// readBody reads the body, or answers why it can't.
func (h *umamiHandler) readBody(c *gin.Context, buf *requestBuffers) (string, bool) {
	allowAnyOrigin(c)
	body, errs := buf.read(c.Request.Body)
	if errs != nil {
		h.intake.metrics.invalid.Inc()
		answerUmamiProblem(c, "request: "+errs["request"][0])
		return "", false
	}
	return body, true
}

func answerUmamiProblem(c *gin.Context, problem string) {
	c.JSON(http.StatusBadRequest, newUmamiError(http.StatusBadRequest, problem))
}

func (h *umamiHandler) answerUnacknowledged(c *gin.Context, err error) {
	answerUnacknowledged(c, err, "payload.eid", func(message string) any {
		return newUmamiError(http.StatusServiceUnavailable, message)
	})
}

// enqueue gives a beacon to the publisher and appends its envelope to pending. A problem is a mistake of
// the client's, an error means that the beacon can't be taken now.
func (h *umamiHandler) enqueue(
	pending []*publisher.Envelope, buf *requestBuffers, body string, facts *enrich.Facts, start time.Time,
) (_ []*publisher.Envelope, dropped bool, problem string, err error) {
	b, isEvent, problem := dialect.ParseUmami(body)
	if problem != "" {
		h.intake.metrics.invalid.Inc()
		return pending, false, problem, nil
	}
	if h.intake.identity.Load() == nil {
		h.intake.metrics.refused.Inc()
		return pending, false, "", errStarting
	}
	s, ok := h.intake.lookup(b.Domains[0])
	if !ok {
		h.intake.metrics.unknown.Inc()
		return pending, false, unknownWebsite, nil
	}
	if !isEvent && !facts.Bot {
		h.intake.drop(s.Domain, "not_kept")
		return pending, true, "", nil
	}
	pending, n, err := h.intake.enqueue(pending, buf, b, facts, start)
	return pending, n > 0, "", err
}
