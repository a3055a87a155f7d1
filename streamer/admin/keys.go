package admin

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListKeys is GET /api/v1/keys.
func (h *Handlers) ListKeys(c *gin.Context) {
	if !h.requireAdmin(c) {
		return
	}
	out := api.KeyList{Keys: []api.Key{}}
	for _, k := range h.sites.Keys() {
		out.Keys = append(out.Keys, apiKey(k))
	}
	writeUncached(c, http.StatusOK, out)
}

// CreateKey is POST /api/v1/keys.
func (h *Handlers) CreateKey(c *gin.Context) {
	var in api.KeyCreate
	if !h.requireAdmin(c) || !api.Decode(c, &in) {
		return
	}
	var sites []string
	if in.Sites != nil {
		sites = *in.Sites
	}
	made, secret, err := h.sites.NewKey(c.Request.Context(), in.Name, in.Admin != nil && *in.Admin, sites)
	if err != nil {
		h.fail(c, err)
		return
	}
	k := apiKey(made)
	writeUncached(c, http.StatusCreated, api.KeyCreated{
		Id: k.Id, Name: k.Name, Admin: k.Admin, Sites: k.Sites, Created: k.Created, Secret: secret,
	})
}

// DeleteKey is DELETE /api/v1/keys/{id}.
func (h *Handlers) DeleteKey(c *gin.Context, id string) {
	h.remove(c, func() error { return h.sites.DeleteKey(c.Request.Context(), id) })
}

func apiKey(k site.Key) api.Key {
	out := api.Key{Id: k.ID, Name: k.Name, Admin: k.Admin, Created: k.Created}
	if len(k.Sites) > 0 {
		sites := slices.Clone(k.Sites)
		out.Sites = &sites
	}
	return out
}
