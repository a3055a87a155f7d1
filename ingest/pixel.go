package ingest

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/ingest/dialect"
)

// pixel is a transparent GIF of one pixel.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" +
	"!\xf9\x04\x01\x00\x00\x00\x00" +
	",\x00\x00\x00\x00\x01\x00\x01\x00\x00" + "\x02\x02D\x01\x00;"

// pixelHandler counts page views of pages that run no script.
type pixelHandler struct{ intake *intake }

// get counts a page view. The answer is always the image, since the page shows it; status and headers
// tell the rest.
func (h *pixelHandler) get(c *gin.Context, addr netip.Addr) {
	start := time.Now()
	buf := h.intake.getBuffers()
	defer h.intake.putBuffers(buf)
	setPixelHeaders(c.Writer.Header())
	b, errs := dialect.ParsePixel(c.Request.URL.RawQuery, c.Request.Referer())
	if errs != nil {
		h.intake.metrics.invalid.Inc()
		c.Header("x-nowcast-error", joinErrors(errs))
		answerPixel(c, http.StatusBadRequest)
		return
	}
	facts := h.intake.enricher.Facts(c.Request.Header, addr)
	dropped, err := h.intake.publish(buf, b, &facts, start)
	var overRate *overRateError
	switch {
	case errors.As(err, &overRate):
		setRetryAfter(c, overRate.wait)
		answerPixel(c, http.StatusTooManyRequests)
	case err != nil:
		c.Header("Retry-After", "1")
		answerPixel(c, http.StatusServiceUnavailable)
	default:
		setDropped(c, dropped)
		answerPixel(c, http.StatusOK)
	}
}

func answerPixel(c *gin.Context, status int) { c.Data(status, "image/gif", []byte(pixel)) }

// joinErrors makes one line of the errors of a beacon.
func joinErrors(errs dialect.FieldErrors) string {
	var all []string
	for field, texts := range errs {
		all = append(all, field+" "+strings.Join(texts, ", "))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// headPixel counts nothing: no page shows the image.
func headPixel(c *gin.Context) {
	setPixelHeaders(c.Writer.Header())
	c.Header("Content-Type", "image/gif")
	c.Header("Content-Length", strconv.Itoa(len(pixel)))
	c.Status(http.StatusOK)
}

func setPixelHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "x-plausible-dropped, x-nowcast-error, Retry-After")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
}
