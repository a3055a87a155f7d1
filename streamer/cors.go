package streamer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

// accessRoutes adds the doors of access that aren't in the contract: the share link's, and what browsers ask before a page of another
// origin may read.
func (s *Service) accessRoutes(r gin.IRouter) {
	r.GET("/share/:secret", s.share)
	for _, path := range []string{"/api/events", "/api/v1/stats/realtime/visitors", "/api/v2/query"} {
		r.OPTIONS(path, s.preflight)
	}
}

// foreign is the origin of the page that makes a request; "" when it is ours or there is none.
func (s *Service) foreign(r *http.Request) string {
	origin := r.Header.Get("Origin")
	if origin == "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return ""
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		if own, err := url.Parse(s.cfg.PublicURL); strings.EqualFold(u.Host, r.Host) || err == nil && own.Scheme == u.Scheme && strings.EqualFold(own.Host, u.Host) {
			return ""
		}
	}
	return origin
}

// cookiesCount says whether a request is by a page of our own host. Cookies know no ports, and a proxy may have taken the port out of Host; who isn't
// our origin can't see the answer anyway.
func (s *Service) cookiesCount(r *http.Request) bool {
	origin := s.foreign(r)
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Hostname() != "" && strings.EqualFold(u.Hostname(), (&url.URL{Host: r.Host}).Hostname())
}

// cors tells browsers which origin's pages may see what is answered about a site, and returns the origin of one that may not. Cookies are never for
// other origins, so Access-Control-Allow-Credentials is never sent.
func (s *Service) cors(c *gin.Context, st site.Site) (stranger string) {
	if st.Public {
		c.Header(allowOrigin, "*")
		return ""
	}
	c.Writer.Header().Add("Vary", "Origin")
	origin := s.foreign(c.Request)
	if origin == "" || !st.ReadableFrom(origin) {
		return origin
	}
	c.Header(allowOrigin, origin)
	return ""
}

// preflight answers what a browser asks before a page of another origin sends a key or JSON. Where the site isn't part of the address, the
// answer is whether such a page may read any; the request itself is then judged by its site.
func (s *Service) preflight(c *gin.Context) {
	if !s.known(c) {
		return
	}
	h := c.Writer.Header()
	h.Add("Vary", "Origin")
	origin := c.GetHeader("Origin")
	may := s.foreign(c.Request) == ""
	switch {
	case may:
	case c.Request.URL.Path == "/api/v2/query":
		may = slices.ContainsFunc(s.sites.Sites(), func(st site.Site) bool { return st.ReadableFrom(origin) })
	default:
		q := c.Request.URL.Query()
		domain := s.orDefault(q.Get("site") + q.Get("site_id")) // each path has one of them
		st, exists := s.sites.Lookup(domain)
		if !exists {
			st = site.Site{Domain: domain}
		}
		may = domain != "" && st.ReadableFrom(origin)
	}
	if may && origin != "" {
		h.Set(allowOrigin, origin)
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "600")
	}
	c.Status(http.StatusNoContent)
}
