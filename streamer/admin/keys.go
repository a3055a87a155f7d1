package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListKeys is GET /api/v1/keys.
func (h *Handlers) ListKeys(c *gin.Context) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	out := api.KeyList{Keys: []api.Key{}}
	for _, k := range h.sites.Keys() {
		out.Keys = append(out.Keys, apiKey(k))
	}
	c.JSON(http.StatusOK, out)
}

// CreateKey is POST /api/v1/keys.
func (h *Handlers) CreateKey(c *gin.Context) {
	var in api.KeyCreate
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	made, secret, err := h.makeKey(c.Request.Context(), in)
	if err != nil {
		h.fail(c, err)
		return
	}
	k := apiKey(made)
	c.JSON(http.StatusCreated, api.KeyCreated{
		Id: k.Id, Name: k.Name, Admin: k.Admin, AllSites: k.AllSites, Sites: k.Sites, MayWrite: k.MayWrite,
		Created: k.Created, Secret: secret,
	})
}

// makeKey makes the key of a request, which has to say in exactly one way what the key reads.
func (h *Handlers) makeKey(ctx context.Context, in api.KeyCreate) (site.Key, string, error) {
	admin, allSites := in.Admin != nil && *in.Admin, in.AllSites != nil && *in.AllSites
	k := site.Key{Name: in.Name, Admin: admin, AllSites: allSites}
	setIfPresent(&k.Write, in.MayWrite)
	switch {
	case in.Sites != nil && (admin || allSites), admin && allSites:
		return site.Key{}, "", fmt.Errorf("%w: give only one of sites, all_sites and admin; "+
			"an admin key reads all sites", site.ErrInvalid)
	case allSites, admin:
		return h.sites.AddKey(ctx, k)
	case in.Sites == nil || len(*in.Sites) == 0:
		return site.Key{}, "", fmt.Errorf(`%w: name the sites that the key reads, `+
			`as "sites": ["example.com"], or say "all_sites": true`, site.ErrInvalid)
	}
	k.Sites = *in.Sites
	return h.sites.AddKey(ctx, k)
}

// DeleteKey is DELETE /api/v1/keys/{id}.
func (h *Handlers) DeleteKey(c *gin.Context, id string) {
	h.remove(c, func() error { return h.sites.DeleteKey(c.Request.Context(), id) })
}

func apiKey(k site.Key) api.Key {
	out := api.Key{Id: k.ID, Name: k.Name, Admin: k.Admin, Created: k.Created}
	if all := k.AllSites; all {
		out.AllSites = &all
	}
	if write := k.Write; write {
		out.MayWrite = &write
	}
	if len(k.Sites) > 0 {
		sites := slices.Clone(k.Sites)
		out.Sites = &sites
	}
	return out
}
