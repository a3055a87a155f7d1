package streamer

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

const (
	cookieName  = "nowcast_session"
	sessionLife = 30 * 24 * time.Hour
	operatorID  = "operator" // of the key that the configuration gives
)

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

// who is the key that a request shows: as a bearer, or by the session that was made with it.
func (s *Service) who(c *gin.Context) (site.Key, bool) {
	if scheme, secret, _ := strings.Cut(c.GetHeader("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return s.authenticate(strings.TrimSpace(secret))
	}
	cookie, err := c.Request.Cookie(cookieName)
	if err != nil {
		return site.Key{}, false
	}
	return s.session(cookie.Value, time.Now())
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

// A session is "id.expiry.mac": any instance can check it, none has to remember it.
func (s *Service) newSession(id string, until time.Time) string {
	text := id + "." + strconv.FormatInt(until.Unix(), 10)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.mac(id, text))
}

func (s *Service) mac(id, text string) []byte {
	secret := s.sites.Secret()
	m := hmac.New(sha256.New, secret[:])
	fmt.Fprintf(m, "session %s", text)
	if id == operatorID { // another operator's key ends the sessions of the one before
		fmt.Fprintf(m, " %x", sha256.Sum256([]byte(s.cfg.AdminKey)))
	}
	return m.Sum(nil)
}

func (s *Service) session(value string, at time.Time) (site.Key, bool) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return site.Key{}, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(mac, s.mac(parts[0], parts[0]+"."+parts[1])) {
		return site.Key{}, false
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || at.Unix() >= until {
		return site.Key{}, false
	}
	return s.key(parts[0])
}

// login is GET /login?key=: it turns a key into a session and goes to the dashboard.
func (s *Service) login(c *gin.Context) {
	if !s.known(c) {
		return
	}
	key, ok := s.authenticate(c.Query("key"))
	if !ok {
		c.Header("Cache-Control", "no-store")
		c.String(http.StatusUnauthorized, "This login link isn't valid (any more). Make a key with `nowcast key add`, or use the link that `nowcast all` prints.\n")
		return
	}
	s.setCookie(c, s.newSession(key.ID, time.Now().Add(sessionLife)), int(sessionLife.Seconds()))
	c.Header("Cache-Control", "no-store")
	c.Header("Referrer-Policy", "no-referrer")
	c.Redirect(http.StatusSeeOther, "/")
}

func (s *Service) logout(c *gin.Context) {
	if s.sameOrigin(c) {
		s.setCookie(c, "", -1)
		c.Status(http.StatusNoContent)
	}
}

func (s *Service) setCookie(c *gin.Context, value string, age int) {
	http.SetCookie(c.Writer, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: age, HttpOnly: true,
		Secure: s.secure, SameSite: http.SameSiteLaxMode})
}

// sameOrigin refuses a request by which another site would act with the browser's cookie.
func (s *Service) sameOrigin(c *gin.Context) bool {
	if err := http.NewCrossOriginProtection().Check(c.Request); err != nil {
		refuse(c, http.StatusForbidden, "this request comes from another site; use a key in the Authorization header instead of the session")
		return false
	}
	return true
}

// admin says whether an admin asks, and refuses who isn't.
func (s *Service) admin(c *gin.Context) bool {
	key, ok := s.who(c)
	switch {
	case !ok:
		unauthorized(c)
	case !key.Admin:
		refuse(c, http.StatusForbidden, "this needs an admin key; the one that you use may only read")
	case c.GetHeader("Authorization") == "" && !s.sameOrigin(c):
	default:
		return true
	}
	return false
}

func unauthorized(c *gin.Context) {
	c.Header("WWW-Authenticate", "Bearer")
	refuse(c, http.StatusUnauthorized, "a key is needed: send `Authorization: Bearer nck_…`, or open /login?key=nck_… in the browser")
}

// readable finds a site ("": the default one) and refuses who may not read it.
func (s *Service) readable(c *gin.Context, domain string) (site.Site, bool) {
	if domain == "" {
		if domain = s.cfg.DefaultSite; domain == "" {
			first, ok := s.sites.Default()
			if !ok {
				refuse(c, http.StatusNotFound, "there is no site yet; add one with `nowcast site add example.com`")
				return first, false
			}
			domain = first.Domain
		}
	}
	st, exists := s.sites.Lookup(strings.ToLower(domain))
	if exists && st.Public {
		return st, true
	}
	key, known := s.who(c)
	switch {
	case !known: // also for a site that doesn't exist: who has no key learns nothing
		unauthorized(c)
	case !exists:
		refuse(c, http.StatusNotFound, "there is no such site; an admin can add it with `nowcast site add`")
	case !key.MayRead(st.Domain):
		refuse(c, http.StatusForbidden, "this key may not read %s; ask an admin for one that may", st.Domain)
	default:
		return st, true
	}
	return st, false
}

// owned is readable for what isn't anybody's business, also where a site is public: it needs a key.
func (s *Service) owned(c *gin.Context, domain string) (site.Site, bool) {
	if _, known := s.who(c); !known {
		unauthorized(c)
		return site.Site{}, false
	}
	st, ok := s.readable(c, domain)
	if key, _ := s.who(c); ok && !key.MayRead(st.Domain) { // a public site
		refuse(c, http.StatusForbidden, "this key may not see what became of the beacons of %s; ask an admin for one that may", st.Domain)
		return st, false
	}
	return st, ok
}

// mayStillRead is readable's answer of this moment, for streams that are open.
func (s *Service) mayStillRead(c *gin.Context, domain string) bool {
	st, ok := s.sites.Lookup(domain)
	if !ok || st.Public {
		return ok
	}
	key, known := s.who(c)
	return known && key.MayRead(domain)
}
