package streamer

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/erasure"
	"nowcast/internal/site"
	"nowcast/streamer/access"
	"nowcast/streamer/api"
	"nowcast/streamer/history"
	"nowcast/streamer/live"
)

// fail answers with an error. It is the only place that maps errors to statuses.
func (s *Service) fail(c *gin.Context, err error) {
	var (
		denied      *access.Denied
		invalid     *history.Invalid
		tooBig      *history.TooBig
		busy        *history.Busy
		unavailable *history.Unavailable
	)
	switch {
	case errors.As(err, &denied):
		if denied.Challenge != "" {
			c.Header("WWW-Authenticate", denied.Challenge)
		}
		if denied.Wait > 0 {
			c.Header("Retry-After", strconv.Itoa(int(denied.Wait/time.Second)+1))
		}
		api.Refuse(c, deniedStatus[denied.Kind], "%v", denied)
	case errors.As(err, &busy):
		api.RefuseTemporarily(c, http.StatusTooManyRequests, "%v", err)
	case errors.As(err, &invalid), errors.Is(err, site.ErrInvalid), errors.Is(err, erasure.ErrInvalid):
		api.Refuse(c, http.StatusBadRequest, "%v", err)
	case errors.Is(err, site.ErrConflict), errors.Is(err, site.ErrExists), errors.Is(err, site.ErrInUse):
		api.Refuse(c, http.StatusConflict, "%v", err)
	case errors.Is(err, site.ErrNotFound):
		api.Refuse(c, http.StatusNotFound, "%v", err)
	case errors.Is(err, erasure.ErrTooMany):
		api.Refuse(c, http.StatusTooManyRequests, "%v", err)
	case errors.As(err, &tooBig):
		api.Refuse(c, http.StatusUnprocessableEntity, "%v", err)
	case errors.As(err, &unavailable):
		if cause := errors.Unwrap(unavailable); cause != nil {
			s.log.Warn("run history query", "error", cause)
		}
		api.RefuseUnavailable(c, "%v", err)
	case errors.Is(err, live.ErrNotReady):
		api.RefuseUnavailable(c, "%v; try again in a moment", err)
	case c.Request.Context().Err() != nil: // the client is gone
		c.Abort()
	default:
		s.log.Error("answer request", "path", c.Request.URL.Path, "error", err)
		api.RefuseUnavailable(c, "that didn't work just now; try again, "+
			"and if it stays so look into the log of the streamer")
	}
}

var deniedStatus = map[access.DeniedKind]int{
	access.Unauthenticated: http.StatusUnauthorized,
	access.Forbidden:       http.StatusForbidden,
	access.NotFound:        http.StatusNotFound,
	access.TooMany:         http.StatusTooManyRequests,
}
