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
type origins struct {
	public *url.URL
	csrf   *http.CrossOriginProtection
}

func newOrigins(public *url.URL) origins {
	o := origins{public, http.NewCrossOriginProtection()}
	if public.Host != "" { // a proxy may change Host
		_ = o.csrf.AddTrustedOrigin(public.Scheme + "://" + public.Host) // fails only on what is no origin
	}
	return o
}

// sameOrigin denies a request by which a page of another origin would act with the browser's session (CSRF).
func (o origins) sameOrigin(r *http.Request) error {
	if err := o.csrf.Check(r); err != nil {
		return forbidden("this request comes from another site; " +
			"use a key in the Authorization header instead of the session")
	}
	return nil
}

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

// allowRefusal lets the page read why a request is denied. The headers are the same for every site, so that
// they don't tell which sites exist and whose pages may read them.
func (o origins) allowRefusal(c *gin.Context) {
	c.Header("Vary", "Origin")
	c.Header(allowOrigin, "*")
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

// allowedHeaders are those that pages of other origins may send; polyfills of EventSource send Cache-Control,
// and libraries X-Requested-With.
const allowedHeaders = "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID, Pragma, " +
	"X-Requested-With"

// Preflight answers the OPTIONS request that a browser sends before a page of another origin sends a key or
// JSON. The answer is the same for every origin and every site, whether it exists or not: it permits to ask,
// and the answer to the request itself says who may read it.
func (a *Control) Preflight(c *gin.Context) {
	h := c.Writer.Header()
	h.Set(allowOrigin, "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", allowedHeaders)
	h.Set("Access-Control-Max-Age", "600")
	c.Status(http.StatusNoContent)
}
