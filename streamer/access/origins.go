package access

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

const allowOrigin = "Access-Control-Allow-Origin"

// origins tells pages of our own origin from those of others (WHATWG Fetch, CORS protocol).
type origins struct{ public *url.URL }

// foreign returns the origin of the page that makes a request; "" if it is our own or no page makes it.
func (o origins) foreign(r *http.Request) string {
	origin := r.Header.Get("Origin")
	if origin == "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return ""
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return origin
	}
	public := u.Scheme == o.public.Scheme && strings.EqualFold(u.Host, o.public.Host)
	if public || strings.EqualFold(u.Host, r.Host) {
		return ""
	}
	return origin
}

// sameHost reports whether a page of our own host makes the request, on any port: cookies are not bound to a
// port, and a proxy may remove it from Host. A page of another origin on our host cannot read the answer.
func (o origins) sameHost(r *http.Request) bool {
	origin := o.foreign(r)
	if origin == "" {
		return true
	}
	own := url.URL{Host: r.Host}
	u, err := url.Parse(origin)
	return err == nil && u.Hostname() != "" && strings.EqualFold(u.Hostname(), own.Hostname())
}

// allow sets the headers that tell browsers which origin's pages may read an answer about a site. It returns
// the origin that may not; "" if there is none. Cookies never count for other origins, so it never sets
// Access-Control-Allow-Credentials.
func (o origins) allow(c *gin.Context, st site.Site) (refused string) {
	if st.Public {
		c.Header(allowOrigin, "*")
		return ""
	}
	c.Writer.Header().Add("Vary", "Origin")
	origin := o.foreign(c.Request)
	if origin == "" || !st.ReadableFrom(origin) {
		return origin
	}
	c.Header(allowOrigin, origin)
	return ""
}

// intersect sets the Access-Control-Allow-Origin of an answer about several sites: the origin that each site
// allows. The values are "", "*" or the origin of the request.
func intersect(h http.Header, allowed []string) {
	slices.Sort(allowed) // "" sorts first, then "*"
	h.Del(allowOrigin)
	if allowed[0] != "" {
		h.Set(allowOrigin, allowed[len(allowed)-1])
	}
}

// Preflight answers the OPTIONS request that a browser sends before a page of another origin sends a key or
// JSON. Where the address does not name the site, it answers whether the page may read any site; the request
// itself is then authorized for its site.
func (a *Control) Preflight(c *gin.Context) {
	if !a.RequireSites(c) {
		return
	}
	h := c.Writer.Header()
	h.Add("Vary", "Origin")
	origin := c.GetHeader("Origin")
	if origin != "" && (a.origins.foreign(c.Request) == "" || a.readableFrom(c.Request, origin)) {
		h.Set(allowOrigin, origin)
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "600")
	}
	c.Status(http.StatusNoContent)
}

// readableFrom reports whether pages of an origin may read the site that a request names, or any site if it
// names none.
func (a *Control) readableFrom(r *http.Request, origin string) bool {
	if r.URL.Path == "/api/v2/query" { // the site is in the body
		readable := func(st site.Site) bool { return st.ReadableFrom(origin) }
		return slices.ContainsFunc(a.sites.Sites(), readable)
	}
	q := r.URL.Query()
	domain := a.resolve(q.Get("site") + q.Get("site_id")) // each path has one of them
	st, exists := a.sites.Lookup(domain)
	if !exists {
		st = site.Site{Domain: domain}
	}
	return domain != "" && st.ReadableFrom(origin)
}
