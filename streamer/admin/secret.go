package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

// RotateSecret is POST /api/v1/secret/rotate.
func (h *Handlers) RotateSecret(c *gin.Context) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	version, err := h.sites.RotateSecret(c.Request.Context())
	if err != nil {
		h.fail(c, err)
		return
	}
	_, created := h.sites.SecretVersion()
	c.JSON(http.StatusOK, api.SecretRotated{Version: version, Created: created})
}
