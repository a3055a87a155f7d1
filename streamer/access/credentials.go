package access

import (
	"net/http"
	"strings"
	"time"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// Credential is what a request proves: that it holds a key, a session, a ticket or a share link. A request
// without any has none.
type Credential struct {
	kind      CredentialKind
	principal api.Principal // the key or the link behind it
	sites     []ticketSite  // of a ticket: the sites that it names
}

// CredentialKind says what a request presents.
type CredentialKind uint8

// The kinds of credentials.
const (
	KeyCredential        CredentialKind = iota + 1 // Authorization: Bearer nck_…
	SessionCredential                              // the cookie of a login with a key
	TicketCredential                               // ?ticket=…, made with a key, a session or a link
	LinkCredential                                 // ?share=ncl_…
	LinkCookieCredential                           // the cookie of an opened share link
)

// inURL reports whether the credential is part of the address. A browser sends such a credential for a page
// of any origin.
func (cred Credential) inURL() bool {
	return cred.kind == TicketCredential || cred.kind == LinkCredential
}

// credentials returns the valid credentials of a request, in the order in which Authorize tries them.
// Cookies count only for pages of our own host.
func (a *Control) credentials(r *http.Request) []Credential {
	var all []Credential
	now, own := time.Now(), a.origins.sameHost(r)
	if secret := bearer(r); secret != "" {
		if key, ok := a.signer.authenticate(secret); ok {
			all = append(all, Credential{kind: KeyCredential, principal: keyPrincipal(key, 0)})
		}
	}
	if own {
		if key, expires, ok := a.signer.session(r, now); ok {
			all = append(all, Credential{kind: SessionCredential, principal: keyPrincipal(key, expires)})
		}
	}
	q := r.URL.Query()
	if t, ok := a.signer.readTicket(q.Get("ticket"), now); ok {
		all = append(all, Credential{kind: TicketCredential, principal: t.principal, sites: t.sites})
	}
	if link, ok := a.sites.AuthenticateLink(q.Get("share")); ok {
		principal := api.Principal{Kind: api.LinkPrincipal, ID: link.ID}
		all = append(all, Credential{kind: LinkCredential, principal: principal})
	}
	if own {
		for _, principal := range a.signer.linkCookies(r, now) {
			all = append(all, Credential{kind: LinkCookieCredential, principal: principal})
		}
	}
	return all
}

func keyPrincipal(key site.Key, expires int64) api.Principal {
	return api.Principal{Kind: api.KeyPrincipal, ID: key.ID, Expires: expires}
}

// key is the key that a request presents in its Authorization header or, without one, by its session.
func (a *Control) key(r *http.Request) (site.Key, bool) {
	if secret := bearer(r); secret != "" {
		return a.signer.authenticate(secret)
	}
	key, _, ok := a.signer.session(r, time.Now())
	return key, ok
}

func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
