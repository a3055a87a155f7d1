package streamer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
	"nowcast/streamer/query"
)

// refuse answers with one sentence that says what to do.
func refuse(c *gin.Context, status int, format string, args ...any) {
	c.Header("Cache-Control", "no-store")
	c.AbortWithStatusJSON(status, api.Error{Error: fmt.Sprintf(format, args...)})
}

func unavailable(c *gin.Context, format string, args ...any) {
	c.Header("Retry-After", "2")
	refuse(c, http.StatusServiceUnavailable, format, args...)
}

// fail maps an error to its status; this is the only place that does.
func (s *Service) fail(c *gin.Context, err error) {
	var invalid *query.Invalid
	var tooBig *query.TooBig
	var busy *query.Busy
	var away *query.Unavailable
	switch {
	case errors.As(err, &busy):
		c.Header("Retry-After", "2")
		refuse(c, http.StatusTooManyRequests, "%v", err)
	case errors.As(err, &invalid):
		refuse(c, http.StatusBadRequest, "%v", err)
	case errors.Is(err, site.ErrInvalid):
		refuse(c, http.StatusBadRequest, "%v", err)
	case errors.Is(err, site.ErrNotFound):
		refuse(c, http.StatusNotFound, "%v", err)
	case errors.As(err, &tooBig):
		refuse(c, http.StatusUnprocessableEntity, "%v", err)
	case errors.As(err, &away):
		s.log.Warn("history is away", "error", errors.Unwrap(err))
		unavailable(c, "%v", err)
	case c.Request.Context().Err() != nil: // nobody is there to read an answer
		c.Abort()
	default:
		s.log.Error("answer request", "path", c.Request.URL.Path, "error", err)
		unavailable(c, "that didn't work just now; try again, and if it stays so look into the log of the streamer")
	}
}

// hasNull says whether null is anywhere in valid JSON. To Go it is as if nothing was there, and a key for no site would be one for all.
func hasNull(b []byte) bool {
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		switch t, err := d.Token(); {
		case err != nil:
			return false
		case t == nil:
			return true
		}
	}
}

// maxBody is the most that a request's body may have.
const maxBody = 256 << 10

// decode reads a JSON body. What it can't read it refuses and returns false.
func decode(c *gin.Context, into any) bool {
	b, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if _, own := into.(json.Unmarshaler); err == nil && !own && hasNull(b) {
		err = errors.New("null is no value here; leave the field out")
	}
	var invalid *query.Invalid
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &invalid):
		refuse(c, http.StatusBadRequest, "%v", invalid)
	case errors.As(err, &large):
		refuse(c, http.StatusBadRequest, "the body is over %d KB; send less", maxBody>>10)
	default:
		refuse(c, http.StatusBadRequest, "the body has to be the JSON that the API describes (%v)", err)
	}
	return false
}
