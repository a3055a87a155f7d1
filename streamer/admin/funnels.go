package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListFunnels is GET /api/v1/sites/{domain}/funnels.
func (h *Handlers) ListFunnels(c *gin.Context, domain string) {
	st, err := h.access.AuthorizeKey(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.FunnelList{Funnels: []api.Funnel{}}
	for _, f := range h.sites.Funnels(st.Domain) {
		out.Funnels = append(out.Funnels, apiFunnel(f))
	}
	c.JSON(http.StatusOK, out)
}

// CreateFunnel is POST /api/v1/sites/{domain}/funnels.
func (h *Handlers) CreateFunnel(c *gin.Context, domain string) {
	var in api.FunnelInput
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) || !h.isNew(c, in.Revision) {
		return
	}
	f, err := funnelOf(in)
	if err == nil {
		f, err = h.sites.CreateFunnel(c.Request.Context(), strings.ToLower(domain), f)
	}
	writePart(h, c, http.StatusCreated, apiFunnel(f), f.Revision, err)
}

// UpdateFunnel is PUT /api/v1/sites/{domain}/funnels/{id}.
func (h *Handlers) UpdateFunnel(c *gin.Context, domain, id string, params api.UpdateFunnelParams) {
	var in api.FunnelInput
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	domain = strings.ToLower(domain)
	next, err := funnelOf(in)
	if err != nil {
		h.fail(c, err)
		return
	}
	revision, err := h.baseRevision(c, params.IfMatch, in.Revision, func() (int64, bool) {
		f, ok := h.sites.Funnel(domain, id)
		return f.Revision, ok
	})
	if err != nil {
		h.fail(c, err)
		return
	}
	f, err := h.sites.ChangeFunnel(c.Request.Context(), domain, id, func(f *site.Funnel) error {
		if f.Revision != revision {
			return changedMeanwhile("funnel", id)
		}
		*f = next
		return nil
	})
	writePart(h, c, http.StatusOK, apiFunnel(f), f.Revision, err)
}

// DeleteFunnel is DELETE /api/v1/sites/{domain}/funnels/{id}.
func (h *Handlers) DeleteFunnel(c *gin.Context, domain, id string) {
	h.remove(c, func() error {
		return h.sites.DeleteFunnel(c.Request.Context(), strings.ToLower(domain), id)
	})
}

func funnelOf(in api.FunnelInput) (f site.Funnel, err error) {
	f.Name = in.Name
	setIfPresent(&f.Strict, in.Strict)
	scope, err := given("scope", in.Scope)
	if err != nil {
		return f, err
	}
	f.Scope = site.FunnelScope(scope)
	for i, s := range in.Steps {
		step, err := stepOf(s)
		if err != nil {
			return f, fmt.Errorf("step %d: %w", i+1, err)
		}
		f.Steps = append(f.Steps, step)
	}
	return f, nil
}

func stepOf(in api.FunnelStep) (s site.Step, err error) {
	if s.Goal, err = given("goal", in.Goal); err != nil {
		return s, err
	}
	if s.Name, err = given("name", in.Name); err != nil {
		return s, err
	}
	s.Condition, err = conditionOf(in.Event, in.Page, in.ScrollDepth, in.EngagedSeconds, in.Properties)
	return s, err
}

func apiFunnel(f site.Funnel) api.Funnel {
	out := api.Funnel{Id: f.ID, Name: f.Name, Steps: []api.FunnelStep{}, Scope: api.FunnelScope(f.Scope),
		Strict: f.Strict, Created: f.Created, Revision: int(f.Revision)}
	for _, s := range f.Steps {
		out.Steps = append(out.Steps, api.FunnelStep{
			Goal: optional(s.Goal), Name: optional(s.Name), Event: optional(string(s.Event)),
			Page: optional(string(s.Page)), ScrollDepth: optional(s.ScrollDepth),
			EngagedSeconds: optional(s.EngagedSeconds), Properties: apiProperties(s.Properties),
		})
	}
	return out
}
