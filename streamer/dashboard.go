package streamer

import (
	"bytes"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// contentPolicy lets the dashboard load from its own address only, and runs no inline script.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'self'; " +
	"frame-ancestors "

// robots keeps crawlers out: a dashboard has nothing to index, and its pages are without end.
const robots = "User-agent: *\nDisallow: /\n"

// sitePages are the pages of a site besides its live view.
var sitePages = map[string]bool{"history": true}

// dashboard serves the built frontend.
type dashboard struct {
	files fs.FS  // nil: it was not built
	base  string // the path of the public URL, "" for none
	// the pages that may show the live view of a site in a frame, as CSP names them
	frameAncestors func(c *gin.Context, domain string) string
	fail           func(*gin.Context, error)
}

// serve answers with a file by its name, with the single page for the dashboard's own routes, and with 404
// for every other path.
func (d dashboard) serve(c *gin.Context) {
	p := path.Clean(c.Request.URL.Path)
	method := c.Request.Method
	domain, page, isPage := dashboardRoute(p)
	if strings.HasPrefix(p, "/api/") || method != http.MethodGet && method != http.MethodHead {
		d.notFound(c)
		return
	}
	if p == "/robots.txt" {
		c.Header("Cache-Control", "public, max-age=86400")
		c.String(http.StatusOK, robots)
		return
	}
	name := strings.TrimPrefix(p, "/")
	asset := strings.HasPrefix(name, "assets/")
	switch {
	case d.isFile(name):
		c.Header("Cache-Control", "public, max-age=3600")
		if asset { // its name has a hash of its content
			c.Header("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(c.Writer, c.Request, d.files, name)
	case asset:
		api.Refuse(c, http.StatusNotFound, "there is no such file; reload the page")
	case isPage:
		d.page(c, domain, page)
	default:
		d.notFound(c)
	}
}

// isFile reports whether the build has a file that is served as it is.
func (d dashboard) isFile(name string) bool {
	if d.files == nil || name == "" || name == "index.html" || name == "script.js" {
		return false
	}
	info, err := fs.Stat(d.files, name)
	return err == nil && !info.IsDir()
}

func (d dashboard) notFound(c *gin.Context) {
	api.Refuse(c, http.StatusNotFound, "there is no %s %s; the contract is at %s/api/openapi.yaml",
		c.Request.Method, c.Request.URL.Path, d.base)
}

// dashboardRoute reports whether a clean path is one of the dashboard's: the list of sites, a site, or a page
// of a site. A site is any name that a site may have, whether it exists or not.
func dashboardRoute(p string) (domain, page string, ok bool) {
	if p == "/" {
		return "", "", true
	}
	domain, page, hasPage := strings.Cut(p[1:], "/")
	name, err := site.Domain(domain)
	known := err == nil && name == strings.ToLower(domain)
	return domain, page, known && (!hasPage || sitePages[page])
}

// page answers with the single page. Other sites may show it in a frame only as the live view of a site, by
// ?embed=1, which has no controls.
func (d dashboard) page(c *gin.Context, domain, page string) {
	c.Header("X-Robots-Tag", "noindex")
	if d.files == nil {
		c.String(http.StatusOK, "This nowcast was built without its dashboard. "+
			"`make build` builds one with it; the API works as it is.\n")
		return
	}
	html, err := fs.ReadFile(d.files, "index.html")
	if err != nil {
		d.fail(c, err)
		return
	}
	frame := "'none'"
	if domain != "" && page == "" && c.Query("embed") == "1" {
		frame = d.frameAncestors(c, domain)
	}
	if frame == "'none'" {
		c.Header("X-Frame-Options", "DENY")
	}
	c.Header("Content-Security-Policy", contentPolicy+frame)
	c.Header("Referrer-Policy", "same-origin")
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, "text/html; charset=utf-8", withBase(html, d.base))
}

// withBase sets the page's base URL (HTML, the base element), by which it finds its files and the API.
func withBase(html []byte, base string) []byte {
	if base == "" {
		return html
	}
	return bytes.Replace(html, []byte(`<base href="/"`), []byte(`<base href="`+base+`/"`), 1)
}
