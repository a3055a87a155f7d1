package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

//go:embed login.html
var loginHTML string

//go:embed login.css
var loginCSS string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

// loginPolicy allows the page its own style, by its hash, and a form; nothing else.
var loginPolicy = func() string {
	sum := sha256.Sum256([]byte(loginCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// loginForm is what the page shows.
type loginForm struct {
	Base    string // the path of the public URL
	Style   template.CSS
	Code    string // a login code, which the form then sends
	Next    string // the page to go to
	Problem string // what went wrong; "" for nothing
}

const (
	maxLoginBody = 8 << 10 // bytes
	maxNext      = 2 << 10
)

const keyInAddress = "A key doesn't belong in an address, where history and logs keep it. Enter it below; " +
	"if others can read those, replace the key with `nowcast key`."

// showLogin is GET /login. It changes nothing, so that a program that follows links doesn't use up a code.
func (h *Handlers) showLogin(c *gin.Context) {
	form := loginForm{Code: c.Query("code"), Next: c.Query("next")}
	status := http.StatusOK
	if c.Query("key") != "" {
		form.Problem, status = keyInAddress, http.StatusBadRequest
	}
	h.loginPage(c, status, form)
}

// login is POST /login: it turns a key or a login code into a session and redirects to the dashboard.
func (h *Handlers) login(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxLoginBody)
	secret := strings.TrimSpace(c.PostForm("key"))
	if secret == "" {
		secret = strings.TrimSpace(c.PostForm("code"))
	}
	next := c.PostForm("next")
	value, life, err := h.logIn(c, secret)
	if err != nil {
		h.refuseLogin(c, err, next)
		return
	}
	h.control.setSessionCookie(c, value, life)
	c.Header("Referrer-Policy", "no-referrer")
	c.Redirect(http.StatusSeeOther, h.control.base+localPath(next))
}

// logIn makes a session and returns the value of its cookie.
func (h *Handlers) logIn(c *gin.Context, secret string) (value string, life time.Duration, err error) {
	if err := h.control.origins.sameOrigin(c.Request); err != nil {
		return "", 0, forbidden("this form was sent by another site; " +
			"open the login page and enter the key there")
	}
	now, client := time.Now(), addressOf(c)
	if err := h.control.failures.limited(client, now); err != nil {
		return "", 0, err
	}
	ctx := c.Request.Context()
	key, kind, err := h.keyOfSecret(ctx, secret)
	if errors.Is(err, site.ErrNotFound) {
		if secret == "" {
			return "", 0, &Denied{Kind: Unauthenticated, Reason: "enter a key or a login code"}
		}
		h.control.failures.add(client, kind, now)
		return "", 0, &Denied{Kind: Unauthenticated, Reason: "this key or code isn't valid (any more); " +
			"a code works once and for ten minutes; `nowcast login` makes another"}
	}
	if err != nil {
		return "", 0, err
	}
	_, value, err = h.control.sites.NewSession(ctx, key)
	return value, site.SessionLife, err
}

// keyOfSecret finds the key of a secret, or of a login code, which it uses up. Its error wraps
// site.ErrNotFound if there is none.
func (h *Handlers) keyOfSecret(ctx context.Context, secret string) (key site.Key, kind string, err error) {
	if !strings.HasPrefix(secret, site.CodePrefix) {
		key, ok := h.control.signer.authenticate(secret)
		if !ok {
			err = site.ErrNotFound
		}
		return key, failedKey, err
	}
	code, err := h.control.sites.RedeemCode(ctx, secret)
	if err != nil {
		return site.Key{}, failedCode, err
	}
	key, ok := h.control.keyOf(site.Session{Key: code.Key, KeyHash: code.KeyHash})
	if !ok {
		err = site.ErrNotFound
	}
	return key, failedCode, err
}

// refuseLogin answers with the form and the problem, or to a program in JSON.
func (h *Handlers) refuseLogin(c *gin.Context, err error, next string) {
	if !acceptsHTML(c) {
		h.fail(c, err)
		return
	}
	denied := new(Denied)
	if !errors.As(err, &denied) {
		denied = &Denied{Reason: "the log of sites can't be written just now; try again in a moment"}
	}
	status := map[DeniedKind]int{Unauthenticated: http.StatusUnauthorized, Forbidden: http.StatusForbidden,
		TooMany: http.StatusTooManyRequests, 0: http.StatusServiceUnavailable}[denied.Kind]
	if denied.Wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(denied.Wait/time.Second)+1))
	}
	reason := denied.Reason
	h.loginPage(c, status, loginForm{Next: next, Problem: strings.ToUpper(reason[:1]) + reason[1:] + "."})
}

func (h *Handlers) loginPage(c *gin.Context, status int, form loginForm) {
	form.Problem = strings.ReplaceAll(form.Problem, "`", "")       // Markdown, for terminals
	form.Base, form.Style = h.control.base, template.CSS(loginCSS) //nolint:gosec // a constant
	if form.Next = localPath(form.Next); form.Next == "/" {
		form.Next = ""
	}
	var b bytes.Buffer
	if err := loginTemplate.Execute(&b, form); err != nil {
		h.fail(c, err)
		return
	}
	c.Header("Content-Security-Policy", loginPolicy)
	c.Header("X-Frame-Options", "DENY")
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("X-Robots-Tag", "noindex")
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// localPath returns an address of the dashboard, as /example.com?page=/; "/" for any other.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || len(next) > maxNext || !strings.HasPrefix(next, "/") || u.Host != "" || u.Scheme != "" ||
		strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if _, err := site.Domain(first); err != nil {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}

// logout is POST /logout: it ends the session, and with it the streams and tickets made by it.
func (h *Handlers) logout(c *gin.Context) {
	if err := h.control.origins.sameOrigin(c.Request); err != nil {
		h.fail(c, err)
		return
	}
	s, _, ok := h.control.session(c.Request)
	if ok {
		if err := h.control.sites.EndSession(c.Request.Context(), s.ID); err != nil &&
			!errors.Is(err, site.ErrNotFound) {
			h.fail(c, err)
			return
		}
	}
	h.control.setSessionCookie(c, "", -time.Second)
	if acceptsHTML(c) { // a form
		c.Redirect(http.StatusSeeOther, h.control.base+"/")
		return
	}
	c.Status(http.StatusNoContent)
}

func acceptsHTML(c *gin.Context) bool { return strings.Contains(c.GetHeader("Accept"), "text/html") }

// CreateLoginCode is POST /api/v1/codes. It takes a key in the Authorization header only: a session would
// otherwise outlive its end by the codes made with it.
func (h *Handlers) CreateLoginCode(c *gin.Context) {
	secret := bearer(c.Request)
	key, ok := h.control.signer.authenticate(secret)
	if !ok {
		h.fail(c, unauthenticated(c.Request))
		return
	}
	code, secret, err := h.control.sites.NewCode(c.Request.Context(), key)
	if err != nil {
		h.fail(c, err)
		return
	}
	c.JSON(http.StatusCreated, api.LoginCode{Code: secret, Expires: code.Expires, Path: LoginPath(secret)})
}

// LoginPath is the path of the page that logs in with a code, below the public URL.
func LoginPath(code string) string { return "/login?code=" + url.QueryEscape(code) }
