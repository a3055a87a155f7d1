package eraser

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/erasure"
	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// authorizer decides who may change what. The errors say what to do.
type authorizer interface {
	RequireAdmin(c *gin.Context, fail func(*gin.Context, error)) bool
	Principal(c *gin.Context) api.Principal
}

// Handlers are the HTTP handlers of erasures.
type Handlers struct {
	erasures *erasure.Log
	db       database // nil: there is no ClickHouse
	sites    sites
	access   authorizer
	fail     func(*gin.Context, error)
}

// NewHandlers makes the handlers; fail answers with an error. Without a database nothing can be erased.
func NewHandlers(e *erasure.Log, db database, sites sites, access authorizer,
	fail func(*gin.Context, error)) *Handlers {
	return &Handlers{erasures: e, db: db, sites: sites, access: access, fail: fail}
}

// ListErasures is GET /api/v1/erasures.
func (h *Handlers) ListErasures(c *gin.Context) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	out := api.ErasureList{Erasures: []api.Erasure{}}
	for _, e := range h.erasures.All() {
		out.Erasures = append(out.Erasures, apiErasure(e))
	}
	c.JSON(http.StatusOK, out)
}

// GetErasure is GET /api/v1/erasures/{id}.
func (h *Handlers) GetErasure(c *gin.Context, id string) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	e, ok := h.erasures.Get(id)
	if !ok {
		api.Refuse(c, http.StatusNotFound,
			"there is no such erasure; GET /api/v1/erasures lists them for 45 days")
		return
	}
	c.JSON(http.StatusOK, apiErasure(e))
}

// CreateErasure is POST /api/v1/sites/{domain}/erasures: it erases a visitor's events of a site.
func (h *Handlers) CreateErasure(c *gin.Context, domain string) {
	var in api.ErasureCreate
	if !h.access.RequireAdmin(c, h.fail) || !api.Decode(c, &in) {
		return
	}
	id, err := erasure.ParseVisitorID(in.Visitor)
	if err == nil {
		domain, err = site.Domain(domain)
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	h.ask(c, erasure.Request{Kind: erasure.Visitor, Site: domain, Visitor: id})
}

// EraseSite is DELETE /api/v1/sites/{domain}?with_data=true: it removes a site and erases what the site has
// received. The tombstone comes first: whatever fails then, the worker removes the site.
func (h *Handlers) EraseSite(c *gin.Context, domain string) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	domain, err := site.Domain(domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	ctx := c.Request.Context()
	if _, exists := h.sites.Lookup(domain); !exists {
		stored, err := h.stored(ctx, domain)
		if err != nil {
			h.fail(c, err)
			return
		}
		if !stored {
			h.fail(c, fmt.Errorf("site %s, or any data of it: %w", domain, site.ErrNotFound))
			return
		}
	}
	h.ask(c, erasure.Request{Kind: erasure.Site, Site: domain})
}

// Erasing reports whether what a site receives now is erased, and until when.
func (h *Handlers) Erasing(domain string) (until time.Time, erasing bool) {
	return h.erasures.Pending(domain, time.Now())
}

// GetVisitorEvents is GET /api/v1/sites/{domain}/visitors/{visitor}.
func (h *Handlers) GetVisitorEvents(c *gin.Context, domain, visitor string) {
	if !h.access.RequireAdmin(c, h.fail) {
		return
	}
	id, err := erasure.ParseVisitorID(visitor)
	if err == nil {
		domain, err = site.Domain(domain)
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	if h.db == nil {
		api.RefuseUnavailable(c, "this streamer has no ClickHouse; start it with --clickhouse")
		return
	}
	st, _ := h.sites.Lookup(domain)
	since := time.Now().UTC().AddDate(0, 0, -st.Retention())
	events, err := eventsOf(c.Request.Context(), h.db, domain, id, since)
	if err != nil {
		h.fail(c, err)
		return
	}
	if events == nil {
		events = []json.RawMessage{}
	}
	c.JSON(http.StatusOK, gin.H{"site": domain, "visitor": id.String(), "events": events})
}

// stored reports whether ClickHouse has rows of a site, which may have been removed without its data.
func (h *Handlers) stored(ctx context.Context, domain string) (bool, error) {
	if h.db == nil {
		return true, nil // ask refuses
	}
	r := &erasure.Request{Kind: erasure.Site, Site: domain, Before: time.Now().Add(erasure.Grace)}
	for _, t := range tables {
		if n, err := t.count(ctx, h.db, r); err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
}

// ask writes the tombstone, removes the site where the request is about one, and answers.
func (h *Handlers) ask(c *gin.Context, r erasure.Request) {
	if h.db == nil {
		api.RefuseUnavailable(c, "this streamer has no ClickHouse to erase from; start it with --clickhouse")
		return
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	r.ID, r.Requested, r.Before = "era_"+rand.Text(), now, now.Add(erasure.Grace)
	r.By = h.access.Principal(c).ID
	ctx := c.Request.Context()
	e, err := h.erasures.Ask(ctx, r)
	if err != nil {
		h.fail(c, err)
		return
	}
	if r.Kind == erasure.Site {
		if err := h.sites.Delete(ctx, r.Site); err != nil && !errors.Is(err, site.ErrNotFound) {
			h.fail(c, err)
			return
		}
	}
	c.Header("Location", "/api/v1/erasures/"+r.ID)
	c.JSON(http.StatusAccepted, apiErasure(e))
}

func apiErasure(e *erasure.Erasure) api.Erasure {
	out := api.Erasure{Id: e.ID, Kind: api.ErasureKind(e.Kind), Site: e.Site, Before: e.Before,
		Requested: e.Requested, State: api.ErasureState(e.State), Updated: e.At,
		Tables: []api.ErasureTable{}, Copies: []api.ErasureCopy{}}
	if e.Visitor != 0 {
		id := e.Visitor.String()
		out.Visitor = &id
	}
	if e.By != "" {
		out.By = &e.By
	}
	if e.Reason != "" {
		out.Reason = &e.Reason
	}
	for _, t := range e.Tables {
		out.Tables = append(out.Tables, api.ErasureTable{Table: t.Table, Found: int64(t.Found),
			//nolint:gosec // rows
			Left: int64(t.Left)}) //nolint:gosec // rows
	}
	for _, x := range e.Copies {
		out.Copies = append(out.Copies, api.ErasureCopy{Where: x.Where, Note: x.Note, Expires: x.Expires})
	}
	return out
}
