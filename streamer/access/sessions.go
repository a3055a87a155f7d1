package access

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

// ListSessions is GET /api/v1/sessions.
func (h *Handlers) ListSessions(c *gin.Context) {
	if !h.control.RequireAdmin(c, h.fail) {
		return
	}
	current, _, _ := h.control.session(c.Request)
	out := api.SessionList{Sessions: []api.SessionInfo{}}
	for _, s := range h.control.sites.Sessions() {
		key, ok := h.control.keyOf(s)
		if !ok { // its key was removed
			continue
		}
		out.Sessions = append(out.Sessions, api.SessionInfo{Id: s.ID, Key: s.Key, Name: key.Name,
			Created: s.Created, Expires: s.Expires, Current: s.ID == current.ID})
	}
	c.JSON(http.StatusOK, out)
}

// EndSession is DELETE /api/v1/sessions/{id}.
func (h *Handlers) EndSession(c *gin.Context, id string) {
	if !h.control.RequireAdmin(c, h.fail) {
		return
	}
	if err := h.control.sites.EndSession(c.Request.Context(), id); err != nil {
		h.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}
