package admin

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListSegments is GET /api/v1/sites/{domain}/segments.
func (h *Handlers) ListSegments(c *gin.Context, domain string) {
	st, err := h.access.AuthorizeKey(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.SegmentList{Segments: []api.Segment{}}
	for _, s := range h.sites.Segments(st.Domain, h.access.Principal(c).ID) {
		out.Segments = append(out.Segments, apiSegment(s))
	}
	c.JSON(http.StatusOK, out)
}

// CreateSegment is POST /api/v1/sites/{domain}/segments.
func (h *Handlers) CreateSegment(c *gin.Context, domain string) {
	var in api.SegmentInput
	st, key, ok := h.authorizeWrite(c, domain)
	if !ok || !api.Decode(c, &in) || !h.isNew(c, in.Revision) {
		return
	}
	s, err := segmentOf(in)
	if err == nil {
		s, err = h.sites.CreateSegment(c.Request.Context(), st.Domain, key, s, h.validFilters)
	}
	writePart(h, c, http.StatusCreated, apiSegment(s), s.Revision, err)
}

// UpdateSegment is PUT /api/v1/sites/{domain}/segments/{id}.
func (h *Handlers) UpdateSegment(c *gin.Context, domain, id string, params api.UpdateSegmentParams) {
	var in api.SegmentInput
	st, key, ok := h.authorizeWrite(c, domain)
	if !ok || !api.Decode(c, &in) {
		return
	}
	next, err := segmentOf(in)
	if err != nil {
		h.fail(c, err)
		return
	}
	revision, err := h.baseRevision(c, params.IfMatch, in.Revision, func() (int64, bool) {
		s, ok := h.sites.Segment(st.Domain, id, key)
		return s.Revision, ok
	})
	if err != nil {
		h.fail(c, err)
		return
	}
	change := func(s *site.Segment) error {
		if s.Revision != revision {
			return changedMeanwhile("segment", id)
		}
		s.Name, s.Filters, s.Shared = next.Name, next.Filters, next.Shared
		return nil
	}
	s, err := h.sites.ChangeSegment(c.Request.Context(), st.Domain, id, key, h.validFilters, change)
	writePart(h, c, http.StatusOK, apiSegment(s), s.Revision, err)
}

// DeleteSegment is DELETE /api/v1/sites/{domain}/segments/{id}.
func (h *Handlers) DeleteSegment(c *gin.Context, domain, id string) {
	st, key, ok := h.authorizeWrite(c, domain)
	if !ok {
		return
	}
	if err := h.sites.DeleteSegment(c.Request.Context(), st.Domain, id, key); err != nil {
		h.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// authorizeWrite returns a site and the ID of the key that may change its segments and annotations. It
// reports whether there is one; otherwise it has refused the request.
func (h *Handlers) authorizeWrite(c *gin.Context, domain string) (st site.Site, key string, ok bool) {
	st, err := h.access.AuthorizeWrite(c, domain)
	if err != nil {
		h.fail(c, err)
		return st, "", false
	}
	return st, h.access.Principal(c).ID, true
}

func segmentOf(in api.SegmentInput) (s site.Segment, err error) {
	s.Name = in.Name
	setIfPresent(&s.Shared, in.Shared)
	if s.Filters, err = json.Marshal(in.Filters); err != nil {
		return s, fmt.Errorf("encode filters: %w", err)
	}
	return s, nil
}

func apiSegment(s site.Segment) api.Segment {
	filters := []any{}
	_ = json.Unmarshal(s.Filters, &filters) // the registry has checked that it is a list
	return api.Segment{Id: s.ID, Name: s.Name, Filters: filters, Shared: s.Shared, By: s.By,
		Created: s.Created, Revision: int(s.Revision)}
}
