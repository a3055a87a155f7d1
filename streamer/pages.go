package streamer

import (
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"
)

// policy lets the dashboard load from its own address only, and no inline script run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "

// pages serves the dashboard: its files by name, and its one page for every other path, since the paths are sites.
func (s *Service) pages(c *gin.Context) {
	p := path.Clean(c.Request.URL.Path)
	if strings.HasPrefix(p, "/api/") || c.Request.Method != http.MethodGet && c.Request.Method != http.MethodHead {
		refuse(c, http.StatusNotFound, "there is no %s %s; the contract is at /api/openapi.yaml", c.Request.Method, c.Request.URL.Path)
		return
	}
	if s.cfg.Dashboard == nil {
		c.String(http.StatusOK, "This nowcast was built without its dashboard. `make build` builds one with it; the API works as it is.\n")
		return
	}
	name := strings.TrimPrefix(p, "/")
	if info, err := fs.Stat(s.cfg.Dashboard, name); name != "" && name != "index.html" && err == nil && !info.IsDir() {
		if strings.HasPrefix(name, "assets/") { // named by their content
			c.Header("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(c.Writer, c.Request, s.cfg.Dashboard, name)
		return
	}
	if strings.HasPrefix(name, "assets/") {
		refuse(c, http.StatusNotFound, "there is no such file; reload the page")
		return
	}
	page, err := fs.ReadFile(s.cfg.Dashboard, "index.html")
	if err != nil {
		s.fail(c, err)
		return
	}
	frame := "frame-ancestors 'none'"
	if c.Query("embed") == "1" {
		frame = "frame-ancestors *"
	} else {
		c.Header("X-Frame-Options", "DENY")
	}
	c.Header("Content-Security-Policy", policy+frame)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "same-origin")
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, "text/html; charset=utf-8", page)
}
