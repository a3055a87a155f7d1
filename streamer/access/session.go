package access

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

// The name of the session's cookie. Where browsers reach the cluster by https, the prefix makes them take it
// only from this host, by https, and for all of its paths (RFC 6265bis, "__Host-").
const (
	plainSessionCookie  = "nowcast_session"
	secureSessionCookie = "__Host-nowcast_session"
)

func (a *Control) sessionCookie() string {
	if a.secure() {
		return secureSessionCookie
	}
	return plainSessionCookie
}

// session returns the session of a request and its key, if neither has ended.
func (a *Control) session(r *http.Request) (site.Session, site.Key, bool) {
	cookie, err := r.Cookie(a.sessionCookie())
	if err != nil || len(cookie.Value) > maxSigned {
		return site.Session{}, site.Key{}, false
	}
	s, ok := a.sites.AuthenticateSession(cookie.Value)
	if !ok {
		return site.Session{}, site.Key{}, false
	}
	key, ok := a.keyOf(s)
	return s, key, ok
}

const (
	awaitTimeout = time.Second
	maxAwaiting  = 16 // requests at a time; further ones don't wait
)

// AwaitSession is the middleware that waits for the session of a request if this instance doesn't know it. A
// login at another instance is in the log when it is answered, and this one reads it milliseconds later.
func (a *Control) AwaitSession(c *gin.Context) {
	cookie, err := c.Request.Cookie(a.sessionCookie())
	if err != nil || len(cookie.Value) > maxSigned {
		return
	}
	if _, ok := a.sites.AuthenticateSession(cookie.Value); ok {
		return
	}
	select {
	case a.awaiting <- struct{}{}:
		defer func() { <-a.awaiting }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), awaitTimeout)
	defer cancel()
	a.sites.AwaitSession(ctx, cookie.Value)
}

// keyOf returns the key that a session was made with, unless it was removed or, of the operator, changed.
func (a *Control) keyOf(s site.Session) (site.Key, bool) {
	key, ok := a.signer.key(s.Key)
	return key, ok && key.Hash == s.KeyHash
}

const (
	renewalTimeout = 2 * time.Second
	renewalPause   = time.Minute // after a failure, in which requests don't wait for another try
)

// renewals says when a session may be renewed again after a failure, in Unix nanoseconds.
type renewals struct{ notBefore atomic.Int64 }

// RenewSession is the middleware that renews the session of a request, at most once a day, and tells the
// browser. A failure costs the session nothing: the next request tries again.
func (a *Control) RenewSession(c *gin.Context) {
	now := time.Now()
	s, _, ok := a.session(c.Request)
	if !ok || !s.RenewalDue(now) || !a.origins.sameHost(c.Request) ||
		now.UnixNano() < a.renewals.notBefore.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), renewalTimeout)
	defer cancel()
	renewed, err := a.sites.RenewSession(ctx, s.ID)
	if err != nil {
		a.renewals.notBefore.Store(now.Add(renewalPause).UnixNano())
		return
	}
	cookie, _ := c.Request.Cookie(a.sessionCookie())
	a.setSessionCookie(c, cookie.Value, time.Until(renewed.Expires))
}

func (a *Control) setSessionCookie(c *gin.Context, value string, life time.Duration) {
	cookiePath := a.base + "/"
	if a.secure() {
		cookiePath = "/" // as the prefix __Host- demands
	}
	a.setCookie(c, a.sessionCookie(), cookiePath, value, life)
}

func (a *Control) setCookie(c *gin.Context, name, path, value string, life time.Duration) {
	http.SetCookie(c.Writer, &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: int(life.Seconds()),
		HttpOnly: true, Secure: a.secure(), SameSite: http.SameSiteLaxMode,
	})
}
