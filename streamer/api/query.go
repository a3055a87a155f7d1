package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// credentialParameters may be in the query of every operation.
var credentialParameters = []string{"ticket", "share"}

// queryParameters are the further ones, by method and route. A test compares them with the contract.
var queryParameters = map[string][]string{
	"GET /api/v1/stats/realtime/visitors": {"site_id"},
	"GET /api/v1/sites/:domain/ledger":    {"from", "to", "by"},
	"DELETE /api/v1/sites/:domain":        {"with_data"},
	"GET /api/v1/sites/goals":             {"site_id"},
	"POST /api/v1/sites/:domain/imports":  {"format", "name", "overlap", "dry_run"},
	"GET /api/v1/sites/:domain/export":    {"from", "to", "format"},
}

// uncheckedRoutes take any query: clients of streams add parameters of their own against caches.
var uncheckedRoutes = []string{"/api/events"}

// CheckQuery is the middleware that refuses a query parameter that the contract doesn't have. A misspelt one
// would otherwise be a default in silence.
func CheckQuery(c *gin.Context) {
	route := c.FullPath()
	if c.Request.URL.RawQuery == "" || slices.Contains(uncheckedRoutes, route) {
		return
	}
	allowed := append(slices.Clone(queryParameters[c.Request.Method+" "+route]), credentialParameters...)
	for _, name := range slices.Sorted(maps.Keys(c.Request.URL.Query())) {
		if !slices.Contains(allowed, name) {
			Refuse(c, http.StatusBadRequest, "unknown query parameter %q; this takes %s",
				shortened(name), strings.Join(allowed, ", "))
			return
		}
	}
}
