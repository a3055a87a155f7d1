package streamer

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

const (
	linkCookie = "nowcast_link_"      // and the link's id
	linkLife   = 365 * 24 * time.Hour // of the cookie; the link itself has no end
	maxCookies = 20                   // of links in one browser: more would outgrow a request's header
)

// linksOf are the links whose cookies a request has, as access.
func (s *Service) linksOf(r *http.Request, at time.Time) (all []access) {
	for _, cookie := range r.Cookies() {
		if !strings.HasPrefix(cookie.Name, linkCookie) {
			continue
		}
		id, until, ok := s.readPass("link", cookie.Value, at)
		if _, exists := s.sites.Link(id); ok && exists {
			all = append(all, access{byLink, id, until})
		}
	}
	return all
}

// share is GET /share/{secret}: it turns a share link into a cookie and goes to the dashboard of its site.
func (s *Service) share(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("Referrer-Policy", "no-referrer")
	if !s.known(c) {
		return
	}
	l, ok := s.sites.OpenLink(c.Param("secret"))
	if !ok {
		noLink(c)
		return
	}
	s.dropCookies(c, linkCookie+l.ID)
	s.setCookie(c, linkCookie+l.ID, s.newPass("link", l.ID, time.Now().Add(linkLife)), linkLife)
	c.Redirect(http.StatusSeeOther, (&url.URL{Path: "/" + l.Site}).EscapedPath())
}

// dropCookies makes room for another link's cookie: those that open nothing go, then the oldest, which browsers send first.
func (s *Service) dropCookies(c *gin.Context, but string) {
	var good []string
	for _, cookie := range c.Request.Cookies() {
		if !strings.HasPrefix(cookie.Name, linkCookie) || cookie.Name == but {
			continue
		}
		id, _, ok := s.readPass("link", cookie.Value, time.Now())
		if _, exists := s.sites.Link(id); ok && exists {
			good = append(good, cookie.Name)
		} else {
			s.setCookie(c, cookie.Name, "", -time.Second)
		}
	}
	for i := range max(0, len(good)-maxCookies+1) {
		s.setCookie(c, good[i], "", -time.Second)
	}
}

const noLinkPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Link not valid · Nowcast</title>
<h1>This share link isn’t valid (any more)</h1>
<p>Ask whoever gave it to you for a new one.</p>
`

// noLink is the same for a link that never was and for one that was revoked.
func noLink(c *gin.Context) {
	if !strings.Contains(c.GetHeader("Accept"), "text/html") {
		refuse(c, http.StatusNotFound, "this share link isn't valid (any more); ask whoever gave it to you for a new one")
		return
	}
	c.Header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	c.Data(http.StatusNotFound, "text/html; charset=utf-8", []byte(noLinkPage))
}

func publicLink(l site.Link) api.Link { return api.Link{Id: l.ID, Name: l.Name, Created: l.Created} }

// ListLinks is GET /api/v1/sites/{domain}/links.
func (s *Service) ListLinks(c *gin.Context, domain string) {
	domain = strings.ToLower(domain)
	if !s.admin(c) {
		return
	}
	if _, ok := s.sites.Lookup(domain); !ok {
		refuse(c, http.StatusNotFound, "there is no such site; add it with `nowcast site add`")
		return
	}
	out := api.LinkList{Links: []api.Link{}}
	for _, l := range s.sites.Links(domain) {
		out.Links = append(out.Links, publicLink(l))
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, out)
}

// CreateLink is POST /api/v1/sites/{domain}/links.
func (s *Service) CreateLink(c *gin.Context, domain string) {
	var in api.LinkCreate
	if !s.admin(c) || !decode(c, &in) {
		return
	}
	l, secret, err := s.sites.NewLink(c.Request.Context(), strings.ToLower(domain), in.Name)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusCreated, api.LinkCreated{Id: l.ID, Name: l.Name, Created: l.Created, Secret: secret, Path: "/share/" + secret})
}

// DeleteLink is DELETE /api/v1/sites/{domain}/links/{id}.
func (s *Service) DeleteLink(c *gin.Context, domain, id string) {
	if !s.admin(c) {
		return
	}
	if err := s.sites.DeleteLink(c.Request.Context(), strings.ToLower(domain), id); err != nil {
		s.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}
