package streamer

import (
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

// contentPolicy lets the dashboard load from its own address only, and runs no inline script.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "

// dashboard serves the built frontend.
type dashboard struct {
	files fs.FS // nil: it was not built
	fail  func(*gin.Context, error)
}

// serve answers with a file by its name, and with the single page for every other path, because the paths
// are sites.
func (d dashboard) serve(c *gin.Context) {
	p := path.Clean(c.Request.URL.Path)
	method := c.Request.Method
	if strings.HasPrefix(p, "/api/") || method != http.MethodGet && method != http.MethodHead {
		api.Refuse(c, http.StatusNotFound, "there is no %s %s; the contract is at /api/openapi.yaml",
			method, c.Request.URL.Path)
		return
	}
	if d.files == nil {
		c.String(http.StatusOK, "This nowcast was built without its dashboard. "+
			"`make build` builds one with it; the API works as it is.\n")
		return
	}
	name := strings.TrimPrefix(p, "/")
	asset := strings.HasPrefix(name, "assets/")
	info, err := fs.Stat(d.files, name)
	switch {
	case name != "" && name != "index.html" && err == nil && !info.IsDir():
		if asset { // its name has a hash of its content
			c.Header("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(c.Writer, c.Request, d.files, name)
	case asset:
		api.Refuse(c, http.StatusNotFound, "there is no such file; reload the page")
	default:
		d.page(c)
	}
}

// page answers with the single page. Other sites may show it in a frame only with ?embed=1.
func (d dashboard) page(c *gin.Context) {
	page, err := fs.ReadFile(d.files, "index.html")
	if err != nil {
		d.fail(c, err)
		return
	}
	frame := "frame-ancestors 'none'"
	if c.Query("embed") == "1" {
		frame = "frame-ancestors *"
	} else {
		c.Header("X-Frame-Options", "DENY")
	}
	c.Header("Content-Security-Policy", contentPolicy+frame)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "same-origin")
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, "text/html; charset=utf-8", page)
}
