package streamer

import (
	"crypto/hmac"
	"crypto/sha256"
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
	maxSigned   = 8 << 10 // bytes of anything signed
)

// signed makes "text.mac" of a text: any instance can check it, none has to remember it. What it is for keeps one kind from being taken for
// another; id is that of the key or link behind it.
func (s *Service) signed(what, id, text string) string {
	return text + "." + mac64.EncodeToString(s.mac(what, id, text))
}

// mac64 has one way only to write a mac.
var mac64 = base64.RawURLEncoding.Strict()

// genuine says whether a text was signed by this cluster.
func (s *Service) genuine(what, id, text, mac string) bool {
	got, err := mac64.DecodeString(mac)
	return err == nil && hmac.Equal(got, s.mac(what, id, text))
}

func (s *Service) mac(what, id, text string) []byte {
	secret := s.sites.Secret()
	m := hmac.New(sha256.New, secret[:])
	fmt.Fprintf(m, "%s %s", what, text)
	if id == operatorID { // another operator's key ends what was signed for the one before
		fmt.Fprintf(m, " %x", sha256.Sum256([]byte(s.cfg.AdminKey)))
	}
	return m.Sum(nil)
}

// newPass is "id.expiry.mac", the value of a cookie.
func (s *Service) newPass(what, id string, until time.Time) string {
	return s.signed(what, id, id+"."+strconv.FormatInt(until.Unix(), 10))
}

// readPass is the id of a cookie's value and when it expires (unix), if it is genuine and hasn't yet.
func (s *Service) readPass(what, value string, at time.Time) (id string, until int64, ok bool) {
	parts := strings.Split(value, ".")
	if len(value) > maxSigned || len(parts) != 3 || !s.genuine(what, parts[0], parts[0]+"."+parts[1], parts[2]) {
		return "", 0, false
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], until, err == nil && at.Unix() < until
}

// sessionOf is the key of a request's session, and when that expires.
func (s *Service) sessionOf(r *http.Request, at time.Time) (k site.Key, until int64, ok bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return site.Key{}, 0, false
	}
	id, until, ok := s.readPass("session", cookie.Value, at)
	if !ok {
		return site.Key{}, 0, false
	}
	k, ok = s.key(id)
	return k, until, ok
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
	s.setCookie(c, cookieName, s.newPass("session", key.ID, time.Now().Add(sessionLife)), sessionLife)
	c.Header("Cache-Control", "no-store")
	c.Header("Referrer-Policy", "no-referrer")
	c.Redirect(http.StatusSeeOther, "/")
}

func (s *Service) logout(c *gin.Context) {
	if s.sameOrigin(c) {
		s.setCookie(c, cookieName, "", -time.Second)
		c.Status(http.StatusNoContent)
	}
}

// setCookie gives the browser a cookie, or takes it away where life is negative.
func (s *Service) setCookie(c *gin.Context, name, value string, life time.Duration) {
	http.SetCookie(c.Writer, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true,
		Secure: s.secure, SameSite: http.SameSiteLaxMode})
}
