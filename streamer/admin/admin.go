// Package admin holds the handlers that show and change sites, keys and share links. They validate nothing
// themselves: the registry of internal/site does, and its writes are durable and visible to every instance
// within a second.
package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// authorizer decides who may read a site and who may change what. The errors say what to do.
type authorizer interface {
	Authorize(c *gin.Context, domain string) (site.Site, api.Principal, error)
	AuthorizeAdmin(c *gin.Context) error
	ReadableSites(r *http.Request) []site.Site
}

// eraser removes a site together with its data, and answers.
type eraser interface {
	EraseSite(c *gin.Context, domain string)
}

// Handlers are the HTTP handlers of the administration.
type Handlers struct {
	sites  *site.Registry
	access authorizer
	eraser eraser
	fail   func(*gin.Context, error)
}

// New makes the handlers; fail answers with an error.
func New(sites *site.Registry, access authorizer, eraser eraser, fail func(*gin.Context, error)) *Handlers {
	return &Handlers{sites: sites, access: access, eraser: eraser, fail: fail}
}

// requireAdmin refuses the request and returns false unless it has an admin key or session.
func (h *Handlers) requireAdmin(c *gin.Context) bool {
	err := h.access.AuthorizeAdmin(c)
	if err != nil {
		h.fail(c, err)
	}
	return err == nil
}

// writeUncached writes JSON that must not be cached.
func writeUncached(c *gin.Context, status int, body any) {
	c.Header("Cache-Control", "no-store")
	c.JSON(status, body)
}

// ListSites is GET /api/v1/sites: the sites that the request may read.
func (h *Handlers) ListSites(c *gin.Context) {
	show := h.view(c)
	out := api.SiteList{Sites: []api.Site{}}
	for _, st := range h.access.ReadableSites(c.Request) {
		out.Sites = append(out.Sites, show(st))
	}
	writeUncached(c, http.StatusOK, out)
}

// GetSite is GET /api/v1/sites/{domain}.
func (h *Handlers) GetSite(c *gin.Context, domain string) {
	st, _, err := h.access.Authorize(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	writeUncached(c, http.StatusOK, h.view(c)(st))
}

// CreateSite is POST /api/v1/sites.
func (h *Handlers) CreateSite(c *gin.Context) {
	var in api.SiteCreate
	if !h.requireAdmin(c) || !api.Decode(c, &in) {
		return
	}
	domain, err := site.Domain(in.Domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	if _, ok := h.sites.Lookup(domain); ok {
		api.Refuse(c, http.StatusConflict,
			"%s exists already; change it with PATCH /api/v1/sites/%s", domain, domain)
		return
	}
	st := site.Site{Domain: domain}
	applyUpdate(&st, api.SiteUpdate{
		Public: in.Public, Timezone: in.Timezone, Rules: in.Rules, Origins: in.Origins,
	})
	h.put(c, st, http.StatusCreated)
}

// UpdateSite is PATCH /api/v1/sites/{domain}.
func (h *Handlers) UpdateSite(c *gin.Context, domain string) {
	var in api.SiteUpdate
	if !h.requireAdmin(c) || !api.Decode(c, &in) {
		return
	}
	st, _, err := h.access.Authorize(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	applyUpdate(&st, in)
	h.put(c, st, http.StatusOK)
}

func (h *Handlers) put(c *gin.Context, st site.Site, status int) {
	if err := h.sites.Put(c.Request.Context(), st); err != nil {
		h.fail(c, err)
		return
	}
	st, _ = h.sites.Lookup(st.Domain)
	writeUncached(c, status, adminSite(st))
}

// DeleteSite is DELETE /api/v1/sites/{domain}.
func (h *Handlers) DeleteSite(c *gin.Context, domain string, p api.DeleteSiteParams) {
	if p.WithData != nil && *p.WithData {
		h.eraser.EraseSite(c, domain)
		return
	}
	h.remove(c, func() error { return h.sites.Delete(c.Request.Context(), strings.ToLower(domain)) })
}

// remove answers a DELETE.
func (h *Handlers) remove(c *gin.Context, do func() error) {
	if !h.requireAdmin(c) {
		return
	}
	if err := do(); err != nil {
		h.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

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

// ListLinks is GET /api/v1/sites/{domain}/links.
func (h *Handlers) ListLinks(c *gin.Context, domain string) {
	domain = strings.ToLower(domain)
	if !h.requireAdmin(c) {
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
	writeUncached(c, http.StatusOK, out)
}

// CreateLink is POST /api/v1/sites/{domain}/links.
func (h *Handlers) CreateLink(c *gin.Context, domain string) {
	var in api.LinkCreate
	if !h.requireAdmin(c) || !api.Decode(c, &in) {
		return
	}
	l, secret, err := h.sites.NewLink(c.Request.Context(), strings.ToLower(domain), in.Name)
	if err != nil {
		h.fail(c, err)
		return
	}
	writeUncached(c, http.StatusCreated, api.LinkCreated{
		Id: l.ID, Name: l.Name, Created: l.Created, Secret: secret, Path: "/share/" + secret,
	})
}

// DeleteLink is DELETE /api/v1/sites/{domain}/links/{id}.
func (h *Handlers) DeleteLink(c *gin.Context, domain, id string) {
	h.remove(c, func() error { return h.sites.DeleteLink(c.Request.Context(), strings.ToLower(domain), id) })
}

// view returns the representation of sites for a request: only admins see the rules and origins of a site.
func (h *Handlers) view(c *gin.Context) func(site.Site) api.Site {
	if h.access.AuthorizeAdmin(c) == nil {
		return adminSite
	}
	return publicSite
}

func publicSite(st site.Site) api.Site {
	return api.Site{Domain: st.Domain, Public: st.Public, Timezone: st.Timezone, Created: st.Created}
}

func adminSite(st site.Site) api.Site {
	list := func(s []string) *[]string { // in JSON a list, also when it is empty
		out := append([]string{}, s...)
		return &out
	}
	out := publicSite(st)
	out.Rules = &api.SiteRules{
		Hostnames: list(st.Rules.Hostnames), BlockedAddresses: list(st.Rules.BlockedAddresses),
		BlockedCountries: list(st.Rules.BlockedCountries), BlockedPaths: list(st.Rules.BlockedPaths),
	}
	out.Origins = list(st.Origins)
	return out
}

// applyUpdate applies the fields of a request. A list in the request replaces the site's; an empty one clears
// it.
func applyUpdate(st *site.Site, in api.SiteUpdate) {
	setIfPresent(&st.Public, in.Public)
	setIfPresent(&st.Timezone, in.Timezone)
	setIfPresent(&st.Origins, in.Origins)
	if in.Rules != nil {
		setIfPresent(&st.Rules.Hostnames, in.Rules.Hostnames)
		setIfPresent(&st.Rules.BlockedAddresses, in.Rules.BlockedAddresses)
		setIfPresent(&st.Rules.BlockedCountries, in.Rules.BlockedCountries)
		setIfPresent(&st.Rules.BlockedPaths, in.Rules.BlockedPaths)
	}
}

func setIfPresent[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func apiKey(k site.Key) api.Key {
	out := api.Key{Id: k.ID, Name: k.Name, Admin: k.Admin, Created: k.Created}
	if len(k.Sites) > 0 {
		sites := slices.Clone(k.Sites)
		out.Sites = &sites
	}
	return out
}
