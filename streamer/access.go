package streamer

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

const operatorID = "operator" // of the key that the configuration gives

// known says whether the sites and keys have been read. Before, nobody can be told that a site or a key doesn't exist.
func (s *Service) known(c *gin.Context) bool {
	ready, reason := s.sites.Ready()
	switch {
	case ready:
	case c.FullPath() == "/api/events":
		busy(c, "the sites and keys are not read yet (%s)", reason)
	default:
		unavailable(c, "the sites and keys are not read yet (%s); try again in a moment", reason)
	}
	return ready
}

// access is by what a request reads. It is comparable and holds no secret, so that streams can share one and ask again for as long as they are open.
type access struct {
	kind  kind
	id    string // of the key or the link
	until int64  // unix, when the cookie expires that showed it; 0: never
}

type kind uint8

// The kinds of access; the zero value is none.
const (
	byPublic kind = iota + 1 // anybody may
	byKey                    // a bearer, a session, or a ticket that was made with a key
	byLink                   // a cookie, a secret in the query, or a ticket that was made with a link
)

// holds says whether that access still reads the site: false within moments of the key's, link's or site's removal, of a public site made
// private, or of a cookie's expiry.
func (s *Service) holds(a access, domain string) bool {
	st, exists := s.sites.Lookup(domain)
	if !exists || a.until != 0 && time.Now().Unix() >= a.until {
		return false
	}
	switch a.kind {
	case byPublic:
		return st.Public
	case byKey:
		k, ok := s.key(a.id)
		return ok && k.MayRead(domain)
	case byLink:
		l, ok := s.sites.Link(a.id)
		return ok && l.Site == domain
	}
	return false
}

// grant is something that a request shows and that is good for some site.
type grant struct {
	access
	sites []string // of a ticket, the only ones that it opens; nil: all that the access reads
	query bool     // it is part of the address, so a browser would send it for a page of any origin
}

func (s *Service) reads(g grant, domain string) bool {
	return (g.sites == nil || slices.Contains(g.sites, domain)) && s.holds(g.access, domain)
}

// shown are the grants of a request in the order in which they are tried. What isn't good for anything (any more) is left out. Cookies are
// for our own pages only, so those of a request by another host's page don't count.
func (s *Service) shown(r *http.Request) []grant {
	var all []grant
	now, own := time.Now(), s.cookiesCount(r)
	if secret := bearer(r); secret != "" {
		if k, ok := s.authenticate(secret); ok {
			all = append(all, grant{access: access{byKey, k.ID, 0}})
		}
	}
	if own {
		if k, until, ok := s.sessionOf(r, now); ok {
			all = append(all, grant{access: access{byKey, k.ID, until}})
		}
	}
	q := r.URL.Query()
	if t, ok := s.readTicket(q.Get("ticket"), now); ok {
		all = append(all, grant{access: t.by, sites: t.sites, query: true})
	}
	if l, ok := s.sites.OpenLink(q.Get("share")); ok {
		all = append(all, grant{access: access{byLink, l.ID, 0}, query: true})
	}
	if own {
		for _, a := range s.linksOf(r, now) {
			all = append(all, grant{access: a})
		}
	}
	return all
}

// granted finds a site ("": the default one) and by what the request may read it, and refuses who may not. Of several things that a request
// shows (see shown) the first that may read counts. It also says to browsers whose pages may see the answer, in headers that a stream has to send.
func (s *Service) granted(c *gin.Context, domain string, shown func() []grant) (site.Site, access, bool) {
	if domain = s.orDefault(domain); domain == "" {
		refuse(c, http.StatusNotFound, "there is no site yet; add one with `nowcast site add example.com`")
		return site.Site{}, access{}, false
	}
	st, exists := s.sites.Lookup(domain)
	if !exists {
		st = site.Site{Domain: domain} // whose headers are as those of a site that is there: who has no key learns nothing
	}
	stranger := s.cors(c, st)
	if exists && st.Public {
		return st, access{kind: byPublic}, true
	}
	all := shown()
	kept := false // from a page that may not read
	for _, g := range all {
		if exists && s.reads(g, domain) {
			if stranger == "" || !g.query {
				return st, g.access, true
			}
			kept = true
		}
	}
	keyed := slices.ContainsFunc(all, func(g grant) bool { return g.kind == byKey && g.sites == nil })
	switch {
	case kept:
		refuse(c, http.StatusForbidden, "pages of %s may not read %s; an admin can let them by `nowcast site set %s --origins`", stranger, domain, domain)
	case len(all) == 0:
		unauthorized(c)
	case !keyed: // nothing about whether there is such a site
		refuse(c, http.StatusForbidden, "this ticket or share link is for another site; ask for one for this site")
	case !exists:
		refuse(c, http.StatusNotFound, "there is no such site; an admin can add it with `nowcast site add`")
	default:
		refuse(c, http.StatusForbidden, "this key may not read %s; ask an admin for one that may", domain)
	}
	return st, access{}, false
}

// orDefault is a site's domain as it is kept; "" when none is named and there is none yet.
func (s *Service) orDefault(domain string) string {
	if domain == "" {
		domain = s.cfg.DefaultSite
	}
	if domain == "" {
		first, _ := s.sites.Default()
		domain = first.Domain
	}
	return strings.ToLower(domain)
}

// readable is granted for who doesn't ask again.
func (s *Service) readable(c *gin.Context, domain string) (site.Site, bool) {
	st, _, ok := s.granted(c, domain, func() []grant { return s.shown(c.Request) })
	return st, ok
}

// owned is readable for what isn't anybody's business, also where a site is public or shared by a link: it needs a key.
func (s *Service) owned(c *gin.Context, domain string) (site.Site, bool) {
	key, known := s.who(c)
	if !known {
		unauthorized(c)
		return site.Site{}, false
	}
	st, ok := s.readable(c, domain)
	if ok && !key.MayRead(st.Domain) {
		refuse(c, http.StatusForbidden, "this key may not see what became of the beacons of %s; ask an admin for one that may", st.Domain)
		return st, false
	}
	return st, ok
}

// who is the key that a request shows: as a bearer, or by the session that was made with it.
func (s *Service) who(c *gin.Context) (site.Key, bool) {
	if secret := bearer(c.Request); secret != "" {
		return s.authenticate(secret)
	}
	k, _, ok := s.sessionOf(c.Request, time.Now())
	return k, ok
}

func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

func (s *Service) authenticate(secret string) (site.Key, bool) {
	if s.cfg.AdminKey != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(s.cfg.AdminKey)) == 1 {
		return s.key(operatorID)
	}
	return s.sites.Authenticate(secret)
}

// key finds a key by its id; one that was removed is no key any more.
func (s *Service) key(id string) (site.Key, bool) {
	if id == operatorID && s.cfg.AdminKey != "" {
		return site.Key{ID: operatorID, Name: operatorID, Admin: true}, true
	}
	return s.sites.Key(id)
}

// admin says whether an admin asks, and refuses who isn't.
func (s *Service) admin(c *gin.Context) bool {
	key, ok := s.who(c)
	switch {
	case !ok:
		unauthorized(c)
	case !key.Admin:
		refuse(c, http.StatusForbidden, "this needs an admin key; the one that you use may only read")
	case bearer(c.Request) == "" && !s.sameOrigin(c):
	default:
		return true
	}
	return false
}

// sameOrigin refuses a request by which another site would act with the browser's cookie.
func (s *Service) sameOrigin(c *gin.Context) bool {
	if err := http.NewCrossOriginProtection().Check(c.Request); err != nil {
		refuse(c, http.StatusForbidden, "this request comes from another site; use a key in the Authorization header instead of the session")
		return false
	}
	return true
}

func unauthorized(c *gin.Context) {
	switch {
	case c.Query("ticket") != "":
		refuse(c, http.StatusUnauthorized, "this ticket isn't valid (any more); ask for a new one at POST /api/v1/tickets")
		return
	case c.Query("share") != "":
		refuse(c, http.StatusUnauthorized, "this share link isn't valid (any more); ask whoever gave it to you for a new one")
		return
	}
	c.Header("WWW-Authenticate", "Bearer")
	refuse(c, http.StatusUnauthorized, "a key is needed: send `Authorization: Bearer nck_…`, or open /login?key=nck_… in the browser")
}
