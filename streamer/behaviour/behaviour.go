// Package behaviour answers what people do on a site: funnels, journeys, the details of a page, and how
// often they return.
//
// All of it counts visits that began in a date range, each whole and in the order of its hits: its page views
// and custom events. Filters choose visits: a visit passes when one of its hits passes all of them. A
// visitor's id is valid for one day of the site, so nothing here follows a visitor over a midnight; only a
// `user`, which the site itself sends, is known across days. Every number is exact. The limits, errors and
// warnings are those of package history.
package behaviour

import (
	"context"
	"embed"
	"fmt"
	"math"
	"net/http"
	"strings"
	"text/template"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
	"nowcast/streamer/history"
)

// The templates write only conditions and placeholders that history makes, and numbers; every value of a
// request is a bound parameter.
//
//go:embed sql/*.sql
var files embed.FS

var statements = template.Must(template.ParseFS(files, "sql/*.sql"))

// engine is the part of history.Engine that has the hits.
type engine interface {
	OfVisits(
		ctx context.Context, p api.Principal, s site.Site, r history.DateRange,
		ask func(context.Context, *history.Hits) error,
	) error
}

// authorizer decides who may read a site. Its errors say what to do.
type authorizer interface {
	Authorize(c *gin.Context, domain string) (site.Site, api.Principal, error)
	// the key that a request presents, else Public with the client's address
	Principal(c *gin.Context) api.Principal
}

// Handlers are the HTTP handlers.
type Handlers struct {
	engine engine
	access authorizer
	fail   func(*gin.Context, error)
}

// NewHandlers makes the handlers; fail answers with an error.
func NewHandlers(e engine, access authorizer, fail func(*gin.Context, error)) *Handlers {
	return &Handlers{e, access, fail}
}

// PostFunnel is POST /api/v2/funnel.
func (h *Handlers) PostFunnel(c *gin.Context, _ api.PostFunnelParams) { answer(h, c, new(funnel)) }

// PostJourneys is POST /api/v2/journeys.
func (h *Handlers) PostJourneys(c *gin.Context, _ api.PostJourneysParams) {
	answer(h, c, new(journeys))
}

// PostPage is POST /api/v2/page.
func (h *Handlers) PostPage(c *gin.Context, _ api.PostPageParams) { answer(h, c, new(page)) }

// PostRetention is POST /api/v2/retention.
func (h *Handlers) PostRetention(c *gin.Context, _ api.PostRetentionParams) {
	answer(h, c, new(retention))
}

// A question is the body of a request.
type question interface {
	common() *visits
	check() error // of what is the question's own; its errors are *history.Invalid
	answer(ctx context.Context, h *history.Hits) (any, error)
}

// answer decodes a question and answers it.
func answer(h *Handlers, c *gin.Context, q question) {
	if !api.Decode(c, q) {
		return
	}
	v := q.common()
	err := v.check()
	if err == nil {
		err = q.check()
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	st, _, err := h.access.Authorize(c, v.SiteID)
	var result any
	if err == nil {
		ask := func(ctx context.Context, source *history.Hits) (err error) {
			result, err = q.answer(ctx, source)
			return err
		}
		err = h.engine.OfVisits(c.Request.Context(), h.access.Principal(c), st, v.dates, ask)
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, result)
}

// about is what all answers have.
type about struct {
	Meta struct {
		Warnings []history.Warning `json:"warnings,omitempty"`
	} `json:"meta"`
	Query struct {
		SiteID    string    `json:"site_id"`
		DateRange [2]string `json:"date_range"`
	} `json:"query"`
}

func (v *visits) about(ctx context.Context, h *history.Hits) (a about, err error) {
	a.Query.SiteID, a.Query.DateRange = v.SiteID, h.Range()
	a.Meta.Warnings, err = h.Warnings(ctx)
	return a, err
}

// run runs the statement of a template and calls row for each of its rows.
func run(
	ctx context.Context, h *history.Hits, name string, data any, row func(scan func(...any) error) error,
) error {
	var sql strings.Builder
	if err := statements.ExecuteTemplate(&sql, name, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return h.Select(ctx, sql.String(), row)
}

// percent returns 100 * part / whole to a number of decimals; nil of nothing.
func percent(part, whole uint64, decimals int) *float64 {
	return mean(100*float64(part), float64(whole), decimals)
}

// mean returns sum / n to a number of decimals; nil of nothing.
func mean(sum, n float64, decimals int) *float64 {
	if n == 0 {
		return nil
	}
	scale := math.Pow10(decimals)
	x := math.Round(sum/n*scale) / scale
	return &x
}
