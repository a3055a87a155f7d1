package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListGoals is GET /api/v1/sites/{domain}/goals.
func (h *Handlers) ListGoals(c *gin.Context, domain string) {
	st, err := h.access.AuthorizeKey(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.GoalList{Goals: []api.Goal{}}
	for _, g := range h.sites.Goals(st.Domain) {
		out.Goals = append(out.Goals, apiGoal(g))
	}
	c.JSON(http.StatusOK, out)
}

// CreateGoal is POST /api/v1/sites/{domain}/goals.
func (h *Handlers) CreateGoal(c *gin.Context, domain string) {
	var in api.GoalInput
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) || !h.isNew(c, in.Revision) {
		return
	}
	g, err := goalOf(in)
	if err == nil {
		g, err = h.sites.CreateGoal(c.Request.Context(), strings.ToLower(domain), g)
	}
	writePart(h, c, http.StatusCreated, apiGoal(g), g.Revision, err)
}

// UpdateGoal is PUT /api/v1/sites/{domain}/goals/{id}.
func (h *Handlers) UpdateGoal(c *gin.Context, domain, id string, params api.UpdateGoalParams) {
	var in api.GoalInput
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	domain = strings.ToLower(domain)
	next, err := goalOf(in)
	if err != nil {
		h.fail(c, err)
		return
	}
	revision, err := h.baseRevision(c, params.IfMatch, in.Revision, func() (int64, bool) {
		g, ok := h.sites.Goal(domain, id)
		return g.Revision, ok
	})
	if err != nil {
		h.fail(c, err)
		return
	}
	g, err := h.sites.ChangeGoal(c.Request.Context(), domain, id, func(g *site.Goal) error {
		if g.Revision != revision {
			return changedMeanwhile("goal", id)
		}
		*g = next
		return nil
	})
	writePart(h, c, http.StatusOK, apiGoal(g), g.Revision, err)
}

// DeleteGoal is DELETE /api/v1/sites/{domain}/goals/{id}.
func (h *Handlers) DeleteGoal(c *gin.Context, domain, id string) {
	h.remove(c, func() error { return h.sites.DeleteGoal(c.Request.Context(), strings.ToLower(domain), id) })
}

// isNew refuses the creation of something that names a revision. It reports whether it didn't.
func (h *Handlers) isNew(c *gin.Context, revision *int) bool {
	if revision != nil {
		h.fail(c, fmt.Errorf("%w: what is new has no revision; leave it out", site.ErrInvalid))
	}
	return revision == nil
}

// baseRevision returns the revision on which a change is based: the one that the request names, or the newest
// of now. It is 0 where nothing is to be changed.
func (h *Handlers) baseRevision(
	c *gin.Context, ifMatch *string, named *int, newest func() (int64, bool),
) (int64, error) {
	if err := h.sites.Sync(c.Request.Context()); err != nil {
		return 0, err
	}
	revision, err := expectedRevision(ifMatch, named)
	if err != nil {
		return 0, err
	}
	if revision != nil {
		return *revision, nil
	}
	now, _ := newest()
	return now, nil
}

func changedMeanwhile(kind, id string) error {
	return fmt.Errorf("%s %s was %w", kind, id, site.ErrConflict)
}

// writePart answers with something of a site that was written, with its revision as the ETag, or with the
// error of writing it.
func writePart(h *Handlers, c *gin.Context, status int, body any, revision int64, err error) {
	if err != nil {
		h.fail(c, err)
		return
	}
	c.Header("ETag", fmt.Sprintf(`"%d"`, revision))
	c.JSON(status, body)
}

func goalOf(in api.GoalInput) (g site.Goal, err error) {
	g.Name = in.Name
	if g.Currency, err = given("currency", in.Currency); err != nil {
		return g, err
	}
	g.Condition, err = conditionOf(in.Event, in.Page, in.ScrollDepth, in.EngagedSeconds, in.Properties)
	return g, err
}

func conditionOf(
	event, page *string, depth, seconds *int, properties *[]api.PropertyCondition,
) (out site.Condition, err error) {
	eventPattern, err := given("event", event)
	if err != nil {
		return out, err
	}
	pagePattern, err := given("page", page)
	if err != nil {
		return out, err
	}
	out.Event, out.Page = site.Pattern(eventPattern), site.Pattern(pagePattern)
	if out.ScrollDepth, err = given("scroll_depth", depth); err != nil {
		return out, err
	}
	if out.EngagedSeconds, err = given("engaged_seconds", seconds); err != nil {
		return out, err
	}
	if properties == nil {
		return out, nil
	}
	for _, p := range *properties {
		out.Properties = append(out.Properties, site.PropertyCondition{Key: p.Key,
			Operator: site.PropertyOperator(p.Operator), Values: p.Values})
	}
	if len(out.Properties) == 0 {
		return out, fmt.Errorf("%w: properties is empty; leave it out", site.ErrInvalid)
	}
	return out, nil
}

// given returns the value of a field, the zero value where it is left out. It fails with ErrInvalid for a
// field that is there with the zero value, which could be meant as anything.
func given[T comparable](field string, value *T) (v T, err error) {
	if value == nil {
		return v, nil
	}
	if *value == v {
		return v, fmt.Errorf("%w: %s is empty; leave it out", site.ErrInvalid, field)
	}
	return *value, nil
}

// optional returns a pointer to a value, nil for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func apiGoal(g site.Goal) api.Goal {
	return api.Goal{
		Id: g.ID, Name: g.Name, Event: optional(string(g.Event)), Page: optional(string(g.Page)),
		ScrollDepth: optional(g.ScrollDepth), EngagedSeconds: optional(g.EngagedSeconds),
		Properties: apiProperties(g.Properties), Currency: optional(g.Currency), Created: g.Created,
		Revision: int(g.Revision),
	}
}

func apiProperties(all []site.PropertyCondition) *[]api.PropertyCondition {
	if len(all) == 0 {
		return nil
	}
	var out []api.PropertyCondition
	for _, p := range all {
		out = append(out, api.PropertyCondition{Key: p.Key,
			Operator: api.PropertyConditionOperator(p.Operator), Values: p.Values})
	}
	return &out
}
