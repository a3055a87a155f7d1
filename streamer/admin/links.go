package admin

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

// ListLinks is GET /api/v1/sites/{domain}/links.
func (h *Handlers) ListLinks(c *gin.Context, domain string) {
	domain = strings.ToLower(domain)
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	if _, ok := h.sites.Lookup(domain); !ok {
		api.Refuse(c, http.StatusNotFound, "there is no such site; add it with `nowcast site add`")
		return
	}
	out := api.LinkList{Links: []api.Link{}}
	for _, l := range h.sites.Links(domain) {
		out.Links = append(out.Links, api.Link{Id: l.ID, Name: l.Name, Created: l.Created})
	}
	c.JSON(http.StatusOK, out)
}

// CreateLink is POST /api/v1/sites/{domain}/links.
func (h *Handlers) CreateLink(c *gin.Context, domain string) {
	var in api.LinkCreate
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	l, secret, err := h.sites.NewLink(c.Request.Context(), strings.ToLower(domain), in.Name)
	if err != nil {
		h.fail(c, err)
		return
	}
	c.JSON(http.StatusCreated, api.LinkCreated{
		Id: l.ID, Name: l.Name, Created: l.Created, Secret: secret, Path: "/share/" + secret,
	})
}

// DeleteLink is DELETE /api/v1/sites/{domain}/links/{id}.
func (h *Handlers) DeleteLink(c *gin.Context, domain, id string) {
	h.remove(c, func() error { return h.sites.DeleteLink(c.Request.Context(), strings.ToLower(domain), id) })
}
