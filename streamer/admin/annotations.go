package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// ListAnnotations is GET /api/v1/sites/{domain}/annotations.
func (h *Handlers) ListAnnotations(c *gin.Context, domain string) {
	st, err := h.access.AuthorizeKey(c, domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.AnnotationList{Annotations: []api.Annotation{}}
	for _, a := range h.sites.Annotations(st.Domain) {
		out.Annotations = append(out.Annotations, apiAnnotation(a))
	}
	c.JSON(http.StatusOK, out)
}

// CreateAnnotation is POST /api/v1/sites/{domain}/annotations.
func (h *Handlers) CreateAnnotation(c *gin.Context, domain string) {
	var in api.AnnotationInput
	st, key, ok := h.authorizeWrite(c, domain)
	if !ok || !api.Decode(c, &in) || !h.isNew(c, in.Revision) {
		return
	}
	a := site.Annotation{At: in.At, Text: in.Text}
	a, err := h.sites.CreateAnnotation(c.Request.Context(), st.Domain, key, a)
	writePart(h, c, http.StatusCreated, apiAnnotation(a), a.Revision, err)
}

// UpdateAnnotation is PUT /api/v1/sites/{domain}/annotations/{id}.
func (h *Handlers) UpdateAnnotation(c *gin.Context, domain, id string, params api.UpdateAnnotationParams) {
	var in api.AnnotationInput
	st, _, ok := h.authorizeWrite(c, domain)
	if !ok || !api.Decode(c, &in) {
		return
	}
	revision, err := h.baseRevision(c, params.IfMatch, in.Revision, func() (int64, bool) {
		a, ok := h.sites.Annotation(st.Domain, id)
		return a.Revision, ok
	})
	if err != nil {
		h.fail(c, err)
		return
	}
	a, err := h.sites.ChangeAnnotation(c.Request.Context(), st.Domain, id, func(a *site.Annotation) error {
		if a.Revision != revision {
			return changedMeanwhile("annotation", id)
		}
		a.At, a.Text = in.At, in.Text
		return nil
	})
	writePart(h, c, http.StatusOK, apiAnnotation(a), a.Revision, err)
}

// DeleteAnnotation is DELETE /api/v1/sites/{domain}/annotations/{id}.
func (h *Handlers) DeleteAnnotation(c *gin.Context, domain, id string) {
	st, _, ok := h.authorizeWrite(c, domain)
	if !ok {
		return
	}
	if err := h.sites.DeleteAnnotation(c.Request.Context(), st.Domain, id); err != nil {
		h.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

func apiAnnotation(a site.Annotation) api.Annotation {
	return api.Annotation{Id: a.ID, At: a.At, Text: a.Text, By: a.By, Created: a.Created,
		Revision: int(a.Revision)}
}
