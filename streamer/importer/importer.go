// Package importer stores what other tools counted, and takes it back.
//
// An import is a batch: a partition of the table `imported`. It counts from the moment at which a row of the
// table `imports` names its batch, so an import that was cut off counts nowhere; a later import or removal
// drops what it has left. Its id is a hash of the site and of what was sent, so the same file counts once.
package importer

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gin-gonic/gin"
	openapi "github.com/oapi-codegen/runtime/types"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

//go:embed sql/*.sql
var files embed.FS

// sql returns a statement by the name of its file.
func sql(name string) string {
	b, err := files.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // the name is a constant, and the files are embedded
	}
	return string(b)
}

// database is the part of ClickHouse's client that is used here. It is implemented by warehouse.DB.
type database interface {
	Exec(ctx context.Context, query string, args ...any) error
	Query(ctx context.Context, query string, args ...any) (driver.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) driver.Row
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// authorizer decides who may change what. Its errors say what to do.
type authorizer interface {
	RequireAdmin(c *gin.Context, fail func(*gin.Context, error)) bool
}

// sites is the registry of sites. It is implemented by site.Registry.
type sites interface {
	Lookup(domain string) (site.Site, bool)
}

// Handlers are the HTTP handlers of imports.
type Handlers struct {
	store  *store // nil: there is no ClickHouse
	sites  sites
	access authorizer
	fail   func(*gin.Context, error)
	slot   chan struct{} // has room for the import that runs
}

// NewHandlers makes the handlers; fail answers with an error. Without a database nothing can be imported.
func NewHandlers(db database, sites sites, access authorizer, fail func(*gin.Context, error)) *Handlers {
	h := &Handlers{sites: sites, access: access, fail: fail, slot: make(chan struct{}, 1)}
	if db != nil {
		h.store = &store{db: db, now: time.Now}
	}
	return h
}

// begin answers with an error unless the request may change the site, the site exists and so does ClickHouse.
func (h *Handlers) begin(c *gin.Context, domain string) (st site.Site, ok bool) {
	if !h.access.RequireAdmin(c, h.fail) {
		return st, false
	}
	domain, err := site.Domain(domain)
	if err != nil {
		h.fail(c, err)
		return st, false
	}
	if st, ok = h.sites.Lookup(domain); !ok {
		h.fail(c, fmt.Errorf("site %s: %w", domain, site.ErrNotFound))
		return st, false
	}
	if h.store == nil {
		api.RefuseUnavailable(c, "this streamer has no ClickHouse; start it with --clickhouse")
		return st, false
	}
	return st, true
}

// ListImports is GET /api/v1/sites/{domain}/imports.
func (h *Handlers) ListImports(c *gin.Context, domain string) {
	st, ok := h.begin(c, domain)
	if !ok {
		return
	}
	all, err := h.store.list(c.Request.Context(), st)
	if err != nil {
		h.fail(c, err)
		return
	}
	out := api.ImportList{Imports: []api.Import{}}
	for _, x := range all {
		out.Imports = append(out.Imports, x.api())
	}
	c.JSON(http.StatusOK, out)
}

// DeleteImport is DELETE /api/v1/sites/{domain}/imports/{id}.
func (h *Handlers) DeleteImport(c *gin.Context, domain, id string) {
	st, ok := h.begin(c, domain)
	if !ok {
		return
	}
	switch removed, err := h.store.remove(c.Request.Context(), st, id); {
	case err != nil:
		h.fail(c, err)
	case !removed:
		api.Refuse(c, http.StatusNotFound, "the site has no such import; "+
			"GET /api/v1/sites/%s/imports lists them", st.Domain)
	default:
		c.Status(http.StatusNoContent)
	}
}

// CreateImport is POST /api/v1/sites/{domain}/imports.
func (h *Handlers) CreateImport(c *gin.Context, domain string, p api.CreateImportParams) {
	st, ok := h.begin(c, domain)
	if !ok {
		return
	}
	a := attempt{site: st, format: string(api.Other)}
	switch {
	case p.Format != nil && !p.Format.Valid():
		api.Refuse(c, http.StatusBadRequest, "format is none of those that there are")
		return
	case p.Name != nil && len(*p.Name) > maxName:
		api.Refuse(c, http.StatusBadRequest, "name is over %d bytes", maxName)
		return
	}
	if p.Format != nil {
		a.format = string(*p.Format)
	}
	if p.Name != nil {
		a.name = *p.Name
	}
	a.overlap, a.dryRun = p.Overlap != nil && *p.Overlap, p.DryRun != nil && *p.DryRun
	select {
	case h.slot <- struct{}{}:
	default:
		api.RefuseTemporarily(c, http.StatusTooManyRequests, "another import runs; try again when it is done")
		return
	}
	defer func() { <-h.slot }()
	ctx, cancel := context.WithTimeout(c.Request.Context(), maxDuration)
	defer cancel()
	body := &patientBody{body: c.Request.Body, conn: http.NewResponseController(c.Writer)}
	result, err := h.store.create(ctx, &a, body, h.current)
	h.answer(c, result, err)
}

// current reports whether the site is still the same.
func (h *Handlers) current(st site.Site) bool {
	now, ok := h.sites.Lookup(st.Domain)
	return ok && now.Generation == st.Generation
}

func (h *Handlers) answer(c *gin.Context, result outcome, err error) {
	var wrong *invalidError
	switch {
	case errors.As(err, &wrong):
		api.Refuse(c, http.StatusBadRequest, "%v", wrong)
	case errors.Is(err, errNothing), errors.Is(err, errSiteChanged):
		api.Refuse(c, http.StatusConflict, "%v", err)
	case err != nil:
		h.fail(c, err)
	default:
		out := result.api()
		status := http.StatusCreated
		if result.repeated {
			out.Repeated, status = &result.repeated, http.StatusOK
		}
		if result.dryRun {
			out.DryRun, status = &result.dryRun, http.StatusOK
		}
		c.JSON(status, out)
	}
}

// stored is an import, a row of `imports`.
type stored struct {
	id, format, name string
	batch            uint64
	at               time.Time
	first, last      time.Time
	days             uint32
	sums             uint64
	skipped          map[string]uint64
}

func (s *stored) api() api.Import {
	out := api.Import{Id: s.id, Format: s.format, Name: s.name, At: s.at.UTC(), Days: int(s.days),
		First: openapi.Date{Time: s.first}, Last: openapi.Date{Time: s.last},
		Sums: int64(s.sums), Skipped: []api.ImportSkipped{}} //nolint:gosec // at most maxSums
	for reason, n := range s.skipped {
		out.Skipped = append(out.Skipped, api.ImportSkipped{Reason: reason,
			Sums: int64(n)}) //nolint:gosec // at most maxSums
	}
	slices.SortFunc(out.Skipped, func(a, b api.ImportSkipped) int { return int(b.Sums - a.Sums) })
	return out
}
