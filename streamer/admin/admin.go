// Package admin holds the handlers that show and change sites with all that is stored with them, keys and
// share links. The registry of internal/site validates, and its writes are durable and visible to every
// instance within a second.
package admin

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// authorizer decides who may read a site and who may change what. The errors say what to do.
type authorizer interface {
	Authorize(c *gin.Context, domain string) (site.Site, api.Principal, error)
	AuthorizeKey(c *gin.Context, domain string) (site.Site, error)
	AuthorizeWrite(c *gin.Context, domain string) (site.Site, error)
	AuthorizeAdmin(c *gin.Context) error
	Principal(c *gin.Context) api.Principal
	RequireAdmin(c *gin.Context, fail func(*gin.Context, error)) bool
	ReadableSites(r *http.Request) []site.Site
}

// eraser removes a site together with its data, and answers.
type eraser interface {
	EraseSite(c *gin.Context, domain string)
	// what a site receives before until is erased
	Erasing(domain string) (until time.Time, erasing bool)
}

// Handlers are the HTTP handlers of the administration.
type Handlers struct {
	sites  *site.Registry
	access authorizer
	eraser eraser

	validFilters func(filters []byte) error
	fail         func(*gin.Context, error)
}

// New makes the handlers. validFilters checks the filters of segments; fail answers with an error.
func New(
	sites *site.Registry, access authorizer, eraser eraser, validFilters func(filters []byte) error,
	fail func(*gin.Context, error),
) *Handlers {
	return &Handlers{sites: sites, access: access, eraser: eraser, validFilters: validFilters, fail: fail}
}

// remove answers a DELETE.
func (h *Handlers) remove(c *gin.Context, do func() error) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	if err := do(); err != nil {
		h.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}
