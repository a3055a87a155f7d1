package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// The names of cookies, and how long they live.
const (
	sessionCookie     = "nowcast_session"
	sessionLifetime   = 30 * 24 * time.Hour
	linkCookiePrefix  = "nowcast_link_" // followed by the link's ID
	linkCookieLife    = 365 * 24 * time.Hour
	maxSigned         = 8 << 10 // bytes of a signed text
	purposeSession    = "session"
	purposeLinkCookie = "link"
	purposeTicket     = "ticket"
)

// strictBase64 decodes only the one canonical text of a MAC.
var strictBase64 = base64.RawURLEncoding.Strict()

// signer signs the values of cookies and tickets with HMAC-SHA256: any instance can verify them and none has
// to remember them. Each purpose has a key of its own, derived from the cluster's secret.
type signer struct {
	keyring
	keys signingKeys
}

// signingKeys are the keys of the cluster's secret for a purpose.
type signingKeys interface {
	SigningKey(purpose string) [32]byte
	AcceptedKeys(purpose string) [][32]byte
}

// sign returns "text.mac". The id is that of the key or link behind the text.
func (s signer) sign(purpose, id, text string) string {
	return text + "." + strictBase64.EncodeToString(s.mac(s.keys.SigningKey(purpose), purpose, id, text))
}

// verify reports whether this cluster signed a text, with a secret that is still accepted.
func (s signer) verify(purpose, id, text, mac string) bool {
	got, err := strictBase64.DecodeString(mac)
	return err == nil && slices.ContainsFunc(s.keys.AcceptedKeys(purpose), func(key [32]byte) bool {
		return hmac.Equal(got, s.mac(key, purpose, id, text))
	})
}

func (s signer) mac(key [32]byte, purpose, id, text string) []byte {
	m := hmac.New(sha256.New, key[:])
	fmt.Fprintf(m, "%s %s", purpose, text)
	if id == operatorID { // a change of the operator's key invalidates what the former key signed
		fmt.Fprintf(m, " %x", sha256.Sum256([]byte(s.operator)))
	}
	return m.Sum(nil)
}

// cookieValue is "id.expiry.mac", with the expiry in Unix seconds.
func (s signer) cookieValue(purpose, id string, expires time.Time) string {
	return s.sign(purpose, id, id+"."+strconv.FormatInt(expires.Unix(), 10))
}

// readCookieValue returns the ID and the expiry of a cookie's value, if it is genuine and has not expired.
func (s signer) readCookieValue(purpose, value string, now time.Time) (id string, expires int64, ok bool) {
	parts := strings.Split(value, ".")
	if len(value) > maxSigned || len(parts) != 3 ||
		!s.verify(purpose, parts[0], parts[0]+"."+parts[1], parts[2]) {
		return "", 0, false
	}
	expires, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], expires, err == nil && now.Unix() < expires
}

// session returns the key of a request's session and when the session expires.
func (s signer) session(r *http.Request, now time.Time) (key site.Key, expires int64, ok bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return site.Key{}, 0, false
	}
	id, expires, ok := s.readCookieValue(purposeSession, cookie.Value, now)
	if !ok {
		return site.Key{}, 0, false
	}
	key, ok = s.key(id)
	return key, expires, ok
}

// linkCookie returns the principal of a link's cookie, if the cookie is valid and the link exists.
func (s signer) linkCookie(cookie *http.Cookie, now time.Time) (api.Principal, bool) {
	id, expires, ok := s.readCookieValue(purposeLinkCookie, cookie.Value, now)
	_, exists := s.sites.Link(id)
	return api.Principal{Kind: api.LinkPrincipal, ID: id, Expires: expires}, ok && exists
}

// linkCookies returns the principals of all valid link cookies of a request.
func (s signer) linkCookies(r *http.Request, now time.Time) (all []api.Principal) {
	for _, cookie := range r.Cookies() {
		if !strings.HasPrefix(cookie.Name, linkCookiePrefix) {
			continue
		}
		if principal, ok := s.linkCookie(cookie, now); ok {
			all = append(all, principal)
		}
	}
	return all
}

// ticket opens streams of some sites for a short time, by the right of the key or link it was made with. A
// page of another origin can put it into an address, where neither of those belongs.
type ticket struct {
	principal api.Principal // its Expires is 0: the ticket's own expiry bounds when a stream may be opened
	expires   time.Time
	sites     []ticketSite
}

// ticketSite is a site as it was when the ticket was made.
type ticketSite struct {
	domain     string
	generation int64
}

// ticketKinds are the letters by which a ticket names the kind of its principal.
var ticketKinds = map[api.PrincipalKind]string{api.KeyPrincipal: "k", api.LinkPrincipal: "l"}

// ticketValue is "base64(kind id expiry sites).mac", with the expiry in Unix milliseconds and a comma
// between sites, which are "domain=generation".
func (s signer) ticketValue(t ticket) string {
	var sites []string
	for _, st := range t.sites {
		sites = append(sites, st.domain+"="+strconv.FormatInt(st.generation, 10))
	}
	text := strings.Join([]string{
		ticketKinds[t.principal.Kind], t.principal.ID,
		strconv.FormatInt(t.expires.UnixMilli(), 10), strings.Join(sites, ","),
	}, " ")
	return s.sign(purposeTicket, t.principal.ID, base64.RawURLEncoding.EncodeToString([]byte(text)))
}

// readTicket decodes a ticket that is genuine, has not expired, and whose key or link exists.
func (s signer) readTicket(value string, now time.Time) (t ticket, ok bool) {
	text, mac, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxSigned {
		return ticket{}, false
	}
	plain, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(plain), " ")
	if err != nil || len(parts) != 4 || !s.verify(purposeTicket, parts[1], text, mac) {
		return ticket{}, false
	}
	expires, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || now.UnixMilli() >= expires {
		return ticket{}, false
	}
	t = ticket{principal: api.Principal{ID: parts[1]}, expires: time.UnixMilli(expires)}
	for named := range strings.SplitSeq(parts[3], ",") {
		domain, generation, _ := strings.Cut(named, "=")
		n, err := strconv.ParseInt(generation, 10, 64)
		if err != nil {
			return ticket{}, false
		}
		t.sites = append(t.sites, ticketSite{domain, n})
	}
	switch parts[0] {
	case ticketKinds[api.KeyPrincipal]:
		t.principal.Kind = api.KeyPrincipal
		_, ok = s.key(t.principal.ID)
	case ticketKinds[api.LinkPrincipal]:
		t.principal.Kind = api.LinkPrincipal
		_, ok = s.sites.Link(t.principal.ID)
	default:
		ok = false
	}
	return t, ok
}
