package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListSites is GET /api/v1/sites: the sites that the request may read.
func (h *Handlers) ListSites(c *gin.Context) {
	show := h.view(c)
	out := api.SiteList{Sites: []api.Site{}}
	for _, st := range h.access.ReadableSites(c.Request) {
		out.Sites = append(out.Sites, show(st))
	}
	c.JSON(http.StatusOK, out)
}

// GetSite is GET /api/v1/sites/{domain}.
func (h *Handlers) GetSite(c *gin.Context, domain string) {
	st, _, err := h.access.Authorize(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	writeSite(c, http.StatusOK, h.view(c)(st))
}

// CreateSite is POST /api/v1/sites.
func (h *Handlers) CreateSite(c *gin.Context) {
	var in api.SiteCreate
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	domain, err := site.Domain(in.Domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	if until, erasing := h.eraser.Erasing(domain); erasing {
		c.Header("Retry-After", strconv.Itoa(1+int(time.Until(until).Seconds())))
		api.Refuse(c, http.StatusConflict, "%s is being erased until %s; make it then", domain,
			until.UTC().Format(time.RFC3339))
		return
	}
	st := site.Site{Domain: domain}
	applyUpdate(&st, api.SiteUpdate{
		Public: in.Public, Timezone: in.Timezone, Listed: in.Listed, RetentionDays: in.RetentionDays,
		Rules: in.Rules, Origins: in.Origins, SearchParameter: in.SearchParameter,
	})
	made, err := h.sites.Create(c.Request.Context(), st)
	if errors.Is(err, site.ErrExists) {
		err = fmt.Errorf("%w; change it with PATCH /api/v1/sites/%s", err, domain)
	}
	h.answerSite(c, http.StatusCreated, made, err)
}

// UpdateSite is PATCH /api/v1/sites/{domain}. It changes the newest state of the site. A field that another
// request has changed since this one began is a conflict, and so is any change since the revision that the
// request names.
func (h *Handlers) UpdateSite(c *gin.Context, domain string, params api.UpdateSiteParams) {
	var in api.SiteUpdate
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	ctx := c.Request.Context()
	if err := h.sites.Sync(ctx); err != nil {
		h.fail(c, err)
		return
	}
	base, _, err := h.access.Authorize(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	revision, err := expectedRevision(params.IfMatch, in.Revision)
	if err != nil {
		h.fail(c, err)
		return
	}
	st, err := h.sites.Change(ctx, base.Domain, func(st *site.Site) error {
		if revision != nil && *revision != st.Revision || collides(base, *st, in) {
			return fmt.Errorf("%s was %w", st.Domain, site.ErrConflict)
		}
		applyUpdate(st, in)
		return nil
	})
	h.answerSite(c, http.StatusOK, st, err)
}

// expectedRevision returns the revision that a change is based on, nil if neither If-Match nor the body names
// one.
func expectedRevision(ifMatch *string, inBody *int) (*int64, error) {
	switch {
	case ifMatch != nil && *ifMatch != "*":
		tag := strings.TrimPrefix(*ifMatch, "W/")
		n, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
		if err != nil {
			return nil, fmt.Errorf(`%w: If-Match has to be the ETag of what is changed, as "7"`,
				site.ErrInvalid)
		}
		return &n, nil
	case inBody != nil:
		n := int64(*inBody)
		return &n, nil
	}
	return nil, nil
}

// collides reports whether a field that a request sets has another value now than at the request's begin.
func collides(base, now site.Site, in api.SiteUpdate) bool {
	differ := func(set *[]string, a, b []string) bool { return set != nil && !slices.Equal(a, b) }
	rules := in.Rules
	if rules == nil {
		rules = &api.SiteRules{}
	}
	return base.Generation != now.Generation ||
		in.Public != nil && base.Public != now.Public ||
		in.Timezone != nil && base.Timezone != now.Timezone ||
		in.Listed != nil && base.Listed != now.Listed ||
		in.RetentionDays != nil && base.RetentionDays != now.RetentionDays ||
		in.SearchParameter != nil && base.SearchParameter != now.SearchParameter ||
		differ(in.Origins, base.Origins, now.Origins) ||
		differ(rules.Hostnames, base.Rules.Hostnames, now.Rules.Hostnames) ||
		differ(rules.BlockedAddresses, base.Rules.BlockedAddresses, now.Rules.BlockedAddresses) ||
		differ(rules.BlockedCountries, base.Rules.BlockedCountries, now.Rules.BlockedCountries) ||
		differ(rules.BlockedPaths, base.Rules.BlockedPaths, now.Rules.BlockedPaths)
}

// answerSite answers with a site that was written, or with the error of writing it.
func (h *Handlers) answerSite(c *gin.Context, status int, st site.Site, err error) {
	if err != nil {
		h.fail(c, err)
		return
	}
	writeSite(c, status, adminSite(st))
}

// writeSite writes a site, with its revision as the ETag.
func writeSite(c *gin.Context, status int, st api.Site) {
	if st.Revision != nil {
		c.Header("ETag", fmt.Sprintf("%q", strconv.Itoa(*st.Revision)))
	}
	c.JSON(status, st)
}

// DeleteSite is DELETE /api/v1/sites/{domain}.
func (h *Handlers) DeleteSite(c *gin.Context, domain string, p api.DeleteSiteParams) {
	if p.WithData != nil && *p.WithData {
		h.eraser.EraseSite(c, domain)
		return
	}
	h.remove(c, func() error { return h.sites.Delete(c.Request.Context(), strings.ToLower(domain)) })
}

// view returns the representation of sites for a request: only admins see the rules and origins of a site.
func (h *Handlers) view(c *gin.Context) func(site.Site) api.Site {
	if h.access.AuthorizeAdmin(c) == nil {
		return adminSite
	}
	return publicSite
}

func publicSite(st site.Site) api.Site {
	retention := st.Retention()
	return api.Site{
		Domain: st.Domain, Public: st.Public, Timezone: st.Timezone, Created: st.Created,
		RetentionDays: &retention,
	}
}

func adminSite(st site.Site) api.Site {
	list := func(s []string) *[]string { // in JSON a list, also when it is empty
		out := append([]string{}, s...)
		return &out
	}
	out := publicSite(st)
	revision := int(st.Revision)
	out.Listed, out.Revision = &st.Listed, &revision
	out.Rules = &api.SiteRules{
		Hostnames: list(st.Rules.Hostnames), BlockedAddresses: list(st.Rules.BlockedAddresses),
		BlockedCountries: list(st.Rules.BlockedCountries), BlockedPaths: list(st.Rules.BlockedPaths),
	}
	out.Origins = list(st.Origins)
	out.SearchParameter = &st.SearchParameter
	return out
}

// applyUpdate applies the fields of a request. A list in the request replaces the site's; an empty one clears
// it.
func applyUpdate(st *site.Site, in api.SiteUpdate) {
	setIfPresent(&st.Public, in.Public)
	setIfPresent(&st.Timezone, in.Timezone)
	setIfPresent(&st.Listed, in.Listed)
	setIfPresent(&st.RetentionDays, in.RetentionDays)
	setIfPresent(&st.Origins, in.Origins)
	setIfPresent(&st.SearchParameter, in.SearchParameter)
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
