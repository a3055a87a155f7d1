package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// Refuse answers with an error of one sentence that says what to do, and ends the request.
func Refuse(c *gin.Context, status int, format string, args ...any) {
	c.Header("Cache-Control", "no-store")
	c.AbortWithStatusJSON(status, Error{Error: fmt.Sprintf(format, args...)})
}

// RefuseUnavailable refuses with 503 and tells the client to retry after 2 s.
func RefuseUnavailable(c *gin.Context, format string, args ...any) {
	RefuseTemporarily(c, http.StatusServiceUnavailable, format, args...)
}

// RefuseTemporarily refuses with a status that is temporary and tells the client to retry after 2 s.
func RefuseTemporarily(c *gin.Context, status int, format string, args ...any) {
	c.Header("Retry-After", "2")
	Refuse(c, status, format, args...)
}

// RefuseStream refuses a stream for the moment. An EventSource reconnects by itself only after a 200 (WHATWG
// HTML, section "Server-sent events"): a browser therefore receives 200 with a `retry` of 3 to 8 s and no
// event. Any other client receives 503.
func RefuseStream(c *gin.Context, format string, args ...any) {
	if !isBrowser(c.Request) {
		RefuseUnavailable(c, format+"; try again in a moment", args...)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Header("X-Accel-Buffering", "no")
	comment := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	retry := 3000 + rand.IntN(5000) //nolint:gosec // jitter, no secret
	c.Data(http.StatusOK, "text/event-stream", fmt.Appendf(nil, "retry: %d\n\n: %s\n\n", retry, comment))
	c.Abort()
}

func isBrowser(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// maxBody bounds a request's body, in bytes.
const maxBody = 256 << 10

// Decode reads a JSON body into dst. It reports whether it could; otherwise it has refused the request with
// 400.
//
// A type that implements json.Unmarshaler validates itself; its error is sent to the client. For any other
// type, null is refused everywhere: encoding/json reads null as an absent field, so a key's `sites: null`
// would mean all sites.
func Decode(c *gin.Context, dst any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		Refuse(c, http.StatusBadRequest, "the body is over %d KB; send less", maxBody>>10)
		return false
	}
	_, validatesItself := dst.(json.Unmarshaler)
	readable := err == nil && json.Valid(body)
	if err == nil {
		err = json.Unmarshal(body, dst)
	}
	switch {
	case err == nil && !validatesItself && hasNull(body):
		err = errors.New("null is not allowed; leave the field out")
	case err == nil:
		return true
	case validatesItself && readable:
		Refuse(c, http.StatusBadRequest, "%v", err)
		return false
	}
	Refuse(c, http.StatusBadRequest, "the body has to be the JSON that the API describes (%v)", err)
	return false
}

// hasNull reports whether a JSON text contains null. The text must be valid.
func hasNull(body []byte) bool {
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		switch token, err := d.Token(); {
		case err != nil:
			return false
		case token == nil:
			return true
		}
	}
}
