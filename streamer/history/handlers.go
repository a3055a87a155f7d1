package history

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// authorizer decides who may read a site. Its errors say what to do.
type authorizer interface {
	Authorize(c *gin.Context, domain string) (site.Site, api.Principal, error)
	AuthorizeKey(c *gin.Context, domain string) (site.Site, error) // also of a public site only with a key
	// the key that a request presents, else Public with the client's address
	Principal(c *gin.Context) api.Principal
}

// realtime knows how many visitors a site has now.
type realtime interface {
	Visitors(ctx context.Context, domain string) (uint32, error)
}

// Handlers are the HTTP handlers that answer with numbers.
type Handlers struct {
	engine *Engine // nil: there is no ClickHouse
	live   realtime
	access authorizer
	goals  func(domain string) []site.Goal
	fail   func(*gin.Context, error)
}

// NewHandlers makes the handlers. goals returns those of a site; fail answers with an error.
func NewHandlers(engine *Engine, live realtime, access authorizer, goals func(domain string) []site.Goal,
	fail func(*gin.Context, error)) *Handlers {
	return &Handlers{engine: engine, live: live, access: access, goals: goals, fail: fail}
}

// GetRealtimeVisitors is GET /api/v1/stats/realtime/visitors.
func (h *Handlers) GetRealtimeVisitors(c *gin.Context, p api.GetRealtimeVisitorsParams) {
	st, _, err := h.access.Authorize(c, p.SiteId)
	if err != nil {
		h.fail(c, err)
		return
	}
	n, err := h.live.Visitors(c.Request.Context(), st.Domain)
	if err != nil {
		h.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, n)
}

// PostQuery is POST /api/v2/query.
func (h *Handlers) PostQuery(c *gin.Context, _ api.PostQueryParams) {
	var q Query
	if !api.Decode(c, &q) {
		return
	}
	if q.SiteID == "" {
		api.Refuse(c, http.StatusBadRequest, "site_id is missing; name a site")
		return
	}
	st, _, err := h.access.Authorize(c, q.SiteID)
	h.answer(c, err, func() (any, error) {
		return h.engine.Run(c.Request.Context(), h.access.Principal(c), h.siteFor(c, st, q.namesGoals()), q)
	})
}

// PostDashboard is POST /api/v2/dashboard.
func (h *Handlers) PostDashboard(c *gin.Context, _ api.PostDashboardParams) {
	var q DashboardQuery
	if !api.Decode(c, &q) {
		return
	}
	if q.SiteID == "" {
		api.Refuse(c, http.StatusBadRequest, "site_id is missing; name a site")
		return
	}
	st, _, err := h.access.Authorize(c, q.SiteID)
	h.answer(c, err, func() (any, error) {
		s := h.siteFor(c, st, q.namesGoals())
		return h.engine.Dashboard(c.Request.Context(), h.access.Principal(c), s, q)
	})
}

// GetLedger is GET /api/v1/sites/{domain}/ledger. It needs a key: what became of a site's beacons is not
// public.
func (h *Handlers) GetLedger(c *gin.Context, domain string, p api.GetLedgerParams) {
	st, err := h.access.AuthorizeKey(c, domain)
	if err == nil && p.By != nil && !p.By.Valid() {
		err = invalid("by", "want minute or total")
	}
	r := LedgerRange{Minutes: p.By == nil || *p.By == api.Minute}
	if p.From != nil {
		r.From = *p.From
	}
	if p.To != nil {
		r.To = *p.To
	}
	h.answer(c, err, func() (any, error) {
		return h.engine.Ledger(c.Request.Context(), h.access.Principal(c), h.siteOf(st), r)
	})
}

// siteOf returns the site of a query, with the begin of its history.
func (h *Handlers) siteOf(st site.Site) Site { return h.engine.keeping(siteOf(st), st.Retention()) }

// siteFor returns the site of a query, with its goals if the query names some and the request has a key,
// which their list needs too.
func (h *Handlers) siteFor(c *gin.Context, st site.Site, namesGoals bool) Site {
	s := h.siteOf(st)
	if !namesGoals {
		return s
	}
	if _, err := h.access.AuthorizeKey(c, st.Domain); err == nil {
		s.Goals = h.goals(st.Domain)
	}
	return s
}

func siteOf(st site.Site) Site {
	since := st.Created.Truncate(time.Second) // events of its first second are of this site
	ledger := since.Truncate(time.Minute)
	if ledger.Before(st.Previous) { // the former site was removed in the same minute
		ledger = ledger.Add(time.Minute)
	}
	s := Site{Domain: st.Domain, Timezone: st.Timezone, Since: since, LedgerSince: ledger}
	if !st.Previous.IsZero() {
		s.ImportsSince = since
	}
	return s
}

// answer runs a query unless err is set, and answers with the result or the error.
func (h *Handlers) answer(c *gin.Context, err error, run func() (any, error)) {
	if err == nil && h.engine == nil {
		err = errNoClickHouse
	}
	var result any
	if err == nil {
		result, err = run()
	}
	if err != nil {
		h.fail(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, result)
}
