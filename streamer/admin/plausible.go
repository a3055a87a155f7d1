package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListPlausibleGoals is GET /api/v1/sites/goals.
func (h *Handlers) ListPlausibleGoals(c *gin.Context, params api.ListPlausibleGoalsParams) {
	st, err := h.access.AuthorizeKey(c, params.SiteId)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.PlausibleGoalList{Goals: []api.PlausibleGoal{}}
	for _, g := range h.sites.Goals(st.Domain) {
		if p, ok := plausibleGoal(g); ok {
			out.Goals = append(out.Goals, p)
		}
	}
	out.Meta.Limit = len(out.Goals)
	c.JSON(http.StatusOK, out)
}

// PutPlausibleGoal is PUT /api/v1/sites/goals.
func (h *Handlers) PutPlausibleGoal(c *gin.Context) {
	var in api.PlausibleGoalInput
	if !h.access.RequireAdmin(c, h.fail) || !api.DecodeForm(c, &in) {
		return
	}
	domain := strings.ToLower(in.SiteId)
	next, err := goalOfPlausible(in)
	if err == nil {
		next, err = h.findOrCreate(c, domain, next)
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	out, _ := plausibleGoal(next)
	out.Domain = &domain
	c.JSON(http.StatusOK, out)
}

// findOrCreate returns the goal of a site with the event or page of another one, and with no further
// conditions. It makes one where there is none.
func (h *Handlers) findOrCreate(c *gin.Context, domain string, g site.Goal) (site.Goal, error) {
	same := func(o site.Goal) bool {
		return o.Event == g.Event && o.Page == g.Page && o.ScrollDepth == 0 && o.EngagedSeconds == 0 &&
			len(o.Properties) == 0
	}
	find := func() (site.Goal, bool) {
		all := h.sites.Goals(domain)
		if i := slices.IndexFunc(all, same); i >= 0 {
			return all[i], true
		}
		return site.Goal{}, false
	}
	if err := h.sites.Sync(c.Request.Context()); err != nil {
		return site.Goal{}, err
	}
	if found, ok := find(); ok {
		return found, nil
	}
	made, err := h.sites.CreateGoal(c.Request.Context(), domain, g)
	if errors.Is(err, site.ErrExists) { // the same request at the same time, perhaps
		if found, ok := find(); ok {
			return found, nil
		}
	}
	return made, err
}

// DeletePlausibleGoal is DELETE /api/v1/sites/goals/{id}.
func (h *Handlers) DeletePlausibleGoal(c *gin.Context, id string) {
	var in api.PlausibleSite
	if !h.access.RequireAdmin(c, h.fail) || !api.DecodeForm(c, &in) {
		return
	}
	if err := h.sites.DeleteGoal(c.Request.Context(), strings.ToLower(in.SiteId), id); err != nil {
		h.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, api.PlausibleDeleted{Deleted: "true"})
}

// goalOfPlausible reads a goal. The name of an event has no wildcards there, and a page no escapes.
func goalOfPlausible(in api.PlausibleGoalInput) (g site.Goal, err error) {
	event, err := given("event_name", in.EventName)
	if err != nil {
		return g, err
	}
	page, err := given("page_path", in.PagePath)
	if err != nil {
		return g, err
	}
	event, page = strings.TrimSpace(event), strings.TrimSpace(page)
	name, err := given("display_name", in.DisplayName)
	switch {
	case err != nil:
		return g, err
	case in.GoalType == "event" && event != "" && page == "":
		g.Event, g.Name = site.ExactPattern(event), event
	case in.GoalType == "page" && page != "" && event == "":
		g.Page, g.Name = site.Pattern(strings.ReplaceAll(page, `\`, `\\`)), "Visit "+page
	default:
		return g, fmt.Errorf("%w: give goal_type event with an event_name, "+
			"or goal_type page with a page_path", site.ErrInvalid)
	}
	if name != "" {
		g.Name = name
	}
	return g, nil
}

// plausibleGoal writes a goal. ok is false for one of a kind that Plausible's API doesn't have.
func plausibleGoal(g site.Goal) (out api.PlausibleGoal, ok bool) {
	out = api.PlausibleGoal{Id: g.ID, DisplayName: g.Name, GoalType: "event"}
	if g.ScrollDepth != 0 || g.EngagedSeconds != 0 {
		return out, false
	}
	if g.Page != "" {
		page := strings.ReplaceAll(string(g.Page), `\\`, `\`)
		out.GoalType, out.PagePath = "page", &page
		return out, true
	}
	event, exact := g.Event.Exact()
	if !exact {
		event = string(g.Event)
	}
	out.EventName = &event
	return out, true
}
