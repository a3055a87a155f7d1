package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
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
// It refuses fields that dst does not have, and null; see checkFields. A type that implements
// json.Unmarshaler validates itself; its error is sent to the client.
func Decode(c *gin.Context, dst any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		Refuse(c, http.StatusBadRequest, "the body is over %d KB; send less", maxBody>>10)
		return false
	}
	if err == nil && json.Valid(body) {
		if err := checkFields(body, dst); err != nil {
			Refuse(c, http.StatusBadRequest, "%v", err)
			return false
		}
		if err = json.Unmarshal(body, dst); err == nil {
			return true
		}
		if _, ok := dst.(json.Unmarshaler); ok {
			Refuse(c, http.StatusBadRequest, "%v", err)
			return false
		}
	} else if err == nil {
		err = json.Unmarshal(body, dst) // says what is wrong
	}
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		err = wrongType(wrong)
	}
	Refuse(c, http.StatusBadRequest, "the body has to be the JSON that the API describes: %v", err)
	return false
}

// wrongType says in JSON's terms which field has the wrong type.
func wrongType(e *json.UnmarshalTypeError) error {
	want := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a string",
		reflect.Slice: "a list", reflect.Struct: "an object", reflect.Map: "an object"}[e.Type.Kind()]
	want = cmp.Or(want, "a number that fits")
	if e.Field == "" {
		return fmt.Errorf("it has to be %s, not of type %s", want, e.Value)
	}
	return fmt.Errorf("%q has to be %s, not of type %s", e.Field, want, e.Value)
}
