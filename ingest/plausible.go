package ingest

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/ingest/dialect"
)

// plausibleHandler takes beacons of the Plausible Events API.
type plausibleHandler struct {
	intake  *intake
	limiter *senderLimiter
}

// post takes one beacon. With X-Debug-Request: true it answers the address of the sender instead, as the
// API does.
func (h *plausibleHandler) post(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	allowAnyOrigin(c)
	buf := h.intake.getBuffers()
	defer h.intake.putBuffers(buf)
	body, errs := buf.read(c.Request.Body)
	var b *dialect.Beacon
	if errs == nil {
		b, errs = dialect.ParsePlausible(body)
	}
	if errs != nil {
		h.intake.metrics.invalid.Inc()
		c.JSON(http.StatusBadRequest, gin.H{"errors": errs})
		return
	}
	facts := h.intake.enricher.Facts(c.Request.Header, addr)
	if c.GetHeader("X-Debug-Request") == "true" {
		c.String(http.StatusOK, addr.String())
		return
	}
	if !h.limiter.allow(c, addr, len(b.Domains)-1) {
		return
	}
	dropped, err := h.intake.publish(buf, b, &facts, start)
	if err != nil {
		answerUnacknowledged(c, err, "id", func(message string) any { return gin.H{"error": message} })
		return
	}
	setDropped(c, dropped)
	c.Writer.Header()["Content-Type"] = plainText
	c.Status(http.StatusAccepted)
	_, _ = c.Writer.Write(accepted) // a client that doesn't get the answer sends the beacon again
}
