package access

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/internal/httpserver"
	"nowcast/streamer/api"
)

// hstsAge is for how long a browser asks by https only, once it has seen an answer: a year.
const hstsAge = "max-age=31536000"

// SecureHeaders is the middleware that sets what every answer has. Handlers whose answers may be cached set
// their own Cache-Control.
func (a *Control) SecureHeaders(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
	if a.secure() {
		c.Header("Strict-Transport-Security", hstsAge)
	}
}

// secure reports whether browsers reach this cluster by https.
func (a *Control) secure() bool { return a.origins.public.Scheme == "https" }

// RequireHost is the middleware that refuses requests for a host name that isn't this cluster's: by DNS
// rebinding, a page of any site could read what only this machine or network may ask for.
func (a *Control) RequireHost(c *gin.Context) {
	if !a.hosts.Allow(c.Request.Host) {
		api.Refuse(c, http.StatusMisdirectedRequest, "%s", httpserver.UnknownHost(c.Request.Host))
	}
}

// BasePath is the path of the public URL, as /stats; "" for none.
func (a *Control) BasePath() string { return a.base }
