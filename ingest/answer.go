package ingest

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// Parts of the answers to beacons. They are shared and never changed.
var (
	accepted       = []byte("ok")
	plainText      = []string{"text/plain; charset=utf-8"}
	anyOrigin      = []string{"*"}
	exposedHeaders = []string{"x-plausible-dropped, Retry-After"}
	noSniffing     = []string{"nosniff"}
	noStore        = []string{"no-store"}
)

// nosniff keeps browsers from guessing the type of an answer, and from keeping it unless its handler says so.
func nosniff(c *gin.Context) {
	h := c.Writer.Header()
	h["X-Content-Type-Options"], h["Cache-Control"] = noSniffing, noStore
}

// allowAnyOrigin lets pages of any origin read the answer. A tracker runs on pages of any site, and no
// answer depends on a cookie or key.
func allowAnyOrigin(c *gin.Context) {
	h := c.Writer.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Expose-Headers"] = exposedHeaders
}

// preflight lets pages of any origin post with some headers, for a day.
func preflight(headers string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Access-Control-Allow-Origin", "*")
		c.Header("Access-Control-Allow-Methods", "POST, OPTIONS")
		c.Header("Access-Control-Allow-Headers", headers)
		c.Header("Access-Control-Max-Age", "86400")
		c.Status(http.StatusNoContent)
	}
}

// setDropped tells for how many sites a beacon doesn't count.
func setDropped(c *gin.Context, n int) {
	if n > 0 {
		c.Header("x-plausible-dropped", strconv.Itoa(n))
	}
}

// answerUnacknowledged answers why a beacon isn't in the log: 429 over the rate of a site, else 503 with
// a body that body makes of a sentence. id is the field of the client's event id.
func answerUnacknowledged(c *gin.Context, err error, id string, body func(message string) any) {
	var overRate *overRateError
	if errors.As(err, &overRate) {
		answerTooMany(c, overRate.wait, err.Error())
		return
	}
	c.Header("Retry-After", "1")
	message := "not counted yet: " + err.Error() + "; send it again, with the same " + id
	c.JSON(http.StatusServiceUnavailable, body(message))
}

// answerTooMany answers 429.
func answerTooMany(c *gin.Context, wait time.Duration, reason string) {
	allowAnyOrigin(c)
	setRetryAfter(c, wait)
	c.JSON(http.StatusTooManyRequests, gin.H{
		"error": reason + "; send it again after the seconds in Retry-After, with the same id",
	})
}

func setRetryAfter(c *gin.Context, wait time.Duration) {
	c.Header("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
}
