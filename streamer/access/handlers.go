package access

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

// Handlers are the HTTP handlers of logins, sessions, share links and tickets.
type Handlers struct {
	control *Control
	version string
	fail    func(*gin.Context, error)
}

// NewHandlers makes the handlers. The version is the program's; fail answers with an error.
func NewHandlers(control *Control, version string, fail func(*gin.Context, error)) *Handlers {
	return &Handlers{control: control, version: version, fail: fail}
}

// Routes adds the routes that are not in the contract.
func (h *Handlers) Routes(r gin.IRouter) {
	r.GET("/login", h.showLogin)
	r.POST("/login", h.requireSites, h.login)
	r.POST("/logout", h.requireSites, h.logout)
	r.GET("/share/:secret", h.share)
	for _, path := range []string{"/api/events", "/api/v1/stats/realtime/visitors", "/api/v2/query",
		"/api/v2/funnel", "/api/v2/journeys", "/api/v2/page", "/api/v2/retention"} {
		r.OPTIONS(path, h.control.Preflight)
	}
}

// requireSites is Control.RequireSites as a middleware.
func (h *Handlers) requireSites(c *gin.Context) { h.control.RequireSites(c) }

// GetSession is GET /api/v1/session. Only who has a key is told the version.
func (h *Handlers) GetSession(c *gin.Context) {
	key, ok := h.control.key(c.Request)
	session := api.Session{Authenticated: ok, Admin: key.Admin}
	if ok {
		session.Name, session.Version = &key.Name, &h.version
	}
	if s, _, ok := h.control.session(c.Request); ok && bearer(c.Request) == "" {
		session.Expires = &s.Expires
	}
	c.JSON(http.StatusOK, session)
}

func (h *Handlers) setLinkCookie(c *gin.Context, name, value string, life time.Duration) {
	h.control.setCookie(c, name, h.control.base+"/", value, life)
}

func (h *Handlers) deleteLinkCookie(c *gin.Context, name string) {
	h.setLinkCookie(c, name, "", -time.Second)
}

// share is GET /share/{secret}: it turns a share link into a cookie and redirects to the dashboard of the
// link's site.
func (h *Handlers) share(c *gin.Context) {
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("X-Robots-Tag", "noindex")
	if !h.control.RequireSites(c) {
		return
	}
	link, ok := h.control.sites.AuthenticateLink(c.Param("secret"))
	if !ok {
		h.noLink(c)
		return
	}
	name := linkCookiePrefix + link.ID
	h.evictLinkCookies(c, name)
	value := h.control.signer.cookieValue(purposeLinkCookie, link.ID, time.Now().Add(linkCookieLife))
	h.setLinkCookie(c, name, value, linkCookieLife)
	c.Redirect(http.StatusSeeOther, h.control.base+(&url.URL{Path: "/" + link.Site}).EscapedPath())
}

// maxLinkCookies bounds the link cookies of one browser: more would exceed the size of a request's header.
const maxLinkCookies = 20

// evictLinkCookies makes room for one more link cookie: it deletes those that are not valid, then the
// oldest. Browsers send the oldest cookie first (RFC 6265, section 5.4).
func (h *Handlers) evictLinkCookies(c *gin.Context, added string) {
	var valid []string
	for _, cookie := range c.Request.Cookies() {
		if !strings.HasPrefix(cookie.Name, linkCookiePrefix) || cookie.Name == added {
			continue
		}
		if _, ok := h.control.signer.linkCookie(cookie, time.Now()); ok {
			valid = append(valid, cookie.Name)
		} else {
			h.deleteLinkCookie(c, cookie.Name)
		}
	}
	for i := range max(0, len(valid)-maxLinkCookies+1) {
		h.deleteLinkCookie(c, valid[i])
	}
}

const invalidLink = "this share link isn't valid (any more); ask for a new one"

const invalidLinkPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Link not valid · Nowcast</title>
<h1>This share link isn’t valid (any more)</h1>
<p>Ask for a new one.</p>
`

// noLink gives the same answer for a link that never existed and for one that was revoked.
func (h *Handlers) noLink(c *gin.Context) {
	if !acceptsHTML(c) {
		h.fail(c, &Denied{Kind: NotFound, Reason: invalidLink})
		return
	}
	c.Header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	c.Data(http.StatusNotFound, "text/html; charset=utf-8", []byte(invalidLinkPage))
}

// The lifetime of a ticket, and how many sites one may name: more would not fit into an address.
const (
	ticketLifetime    = 60 * time.Second
	minTicketLifetime = 5 * time.Second
	maxTicketLifetime = 300 * time.Second
	maxTicketSites    = 20
)

// CreateTicket is POST /api/v1/tickets. A ticket makes no other ticket, because then it would never expire.
func (h *Handlers) CreateTicket(c *gin.Context, _ api.CreateTicketParams) {
	if bearer(c.Request) == "" && c.Query("share") == "" {
		if err := h.control.origins.sameOrigin(c.Request); err != nil {
			h.fail(c, err)
			return
		}
	}
	all := slices.DeleteFunc(h.control.credentials(c.Request), func(cred Credential) bool {
		return cred.kind == TicketCredential
	})
	if len(all) == 0 {
		h.fail(c, unauthenticated(c.Request))
		return
	}
	t, ok := readTicketRequest(c)
	if !ok {
		return
	}
	for i, st := range t.sites {
		current, _ := h.control.sites.Lookup(st.domain)
		t.sites[i].generation = current.Generation
	}
	for _, cred := range all {
		unreadable := func(st ticketSite) bool { return !h.mayIssue(cred, st.domain) }
		if slices.ContainsFunc(t.sites, unreadable) {
			continue
		}
		t.principal = cred.principal
		value := h.control.signer.ticketValue(t)
		c.JSON(http.StatusCreated, api.Ticket{Ticket: value, Expires: t.expires.UTC()})
		return
	}
	h.fail(c, forbidden("your key or link may not read all of these sites, or one of them doesn't exist; "+
		"name only sites that it may read"))
}

// readTicketRequest decodes the body of CreateTicket. It reports whether it could; otherwise it has refused
// the request.
func readTicketRequest(c *gin.Context) (t ticket, ok bool) {
	var in api.TicketCreate
	if !api.Decode(c, &in) {
		return ticket{}, false
	}
	lifetime := ticketLifetime
	if in.Ttl != nil {
		lifetime = time.Duration(*in.Ttl) * time.Second
		if *in.Ttl < int(minTicketLifetime.Seconds()) || *in.Ttl > int(maxTicketLifetime.Seconds()) {
			api.Refuse(c, http.StatusBadRequest, "ttl has to be 5 to 300 (seconds); "+
				"it only bounds when a stream may be opened, not how long it stays")
			return ticket{}, false
		}
	}
	if len(in.Sites) == 0 || len(in.Sites) > maxTicketSites {
		api.Refuse(c, http.StatusBadRequest, `sites: name 1 to %d sites, as ["example.com"]`, maxTicketSites)
		return ticket{}, false
	}
	t.expires = time.Now().Add(lifetime).Truncate(time.Millisecond)
	for _, domain := range in.Sites {
		t.sites = append(t.sites, ticketSite{domain: strings.ToLower(domain)})
	}
	return t, true
}

// mayIssue reports whether a credential may make a ticket for a site. A public site needs no ticket, but
// accepts one, so that a page can open every site in the same way.
func (h *Handlers) mayIssue(cred Credential, domain string) bool {
	st, exists := h.control.sites.Lookup(domain)
	return exists && (st.Public || h.control.allows(cred, domain))
}
