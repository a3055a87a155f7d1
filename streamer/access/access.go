// Package access decides who may read a site and who may change what.
//
// A request carries credentials: a key, a session, a ticket, a share link, or none. Each credential proves a
// principal: the key or the share link behind it. Authorize finds the principal that authorizes a request to
// read a site. Open streams keep that principal and ask MayRead again, so that removing a key, a link or a
// site ends them within moments.
//
// Only the sites topic and the operator's key (Config.AdminKey) grant rights. Sessions and login codes are
// records of that topic. Link cookies and tickets are signed texts that every instance of a cluster can
// verify and none stores.
package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/httpserver"
	"nowcast/internal/site"
	"nowcast/streamer/api"
)

// Control authorizes requests. It is safe for concurrent use.
type Control struct {
	cfg     Config
	sites   *site.Registry
	signer  signer
	origins origins
	hosts   httpserver.Hosts
	base    string // the path of the public URL

	failures *failures
	renewals renewals
	awaiting chan struct{} // has a value for each request in AwaitSession
}

// New makes the access control over a registry of sites, keys and links.
func New(cfg Config, sites *site.Registry) (*Control, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	public, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("parse public URL: %w", err)
	}
	base, err := BasePath(cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	hosts, err := httpserver.NewHosts(append(slices.Clone(cfg.AllowedHosts), public.Hostname())...)
	if err != nil {
		return nil, err
	}
	failures, err := newFailures(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics of access: %w", err)
	}
	keys := keyring{sites: sites, operator: cfg.AdminKey}
	return &Control{cfg: cfg, sites: sites, signer: signer{keys, sites}, origins: newOrigins(public),
		hosts: hosts, base: base, failures: failures, awaiting: make(chan struct{}, maxAwaiting)}, nil
}

// RequireSites is the middleware of every route: until the sites topic has been read, no answer can say that
// a site or a key does not exist. It reports whether the topic has been read; otherwise it has refused the
// request.
func (a *Control) RequireSites(c *gin.Context) bool {
	const unread = "the sites and keys are not read yet (%s)"
	ready, reason := a.sites.Ready()
	switch {
	case ready:
	case c.FullPath() == "/api/events":
		api.RefuseStream(c, unread, reason)
	default:
		api.RefuseUnavailable(c, unread+"; try again in a moment", reason)
	}
	return ready
}

// Authorize finds the site of a domain ("": the default site) and the principal that authorizes the request
// to read it. Of several credentials, the first that may read the site counts, in the order of
// Control.credentials.
//
// It sets the CORS headers of the answer, also when it returns a *Denied error.
func (a *Control) Authorize(c *gin.Context, domain string) (site.Site, api.Principal, error) {
	return a.authorize(c, domain, func() []Credential { return a.credentials(c.Request) })
}

func (a *Control) authorize(c *gin.Context, domain string, credentials func() []Credential) (
	site.Site, api.Principal, error,
) {
	named := domain
	domain = a.resolve(domain)
	st, exists := a.sites.Lookup(domain)
	foreign := ""
	if exists {
		foreign = a.origins.allow(c, st)
	}
	if exists && st.Public {
		return st, api.Principal{Kind: api.Public, Generation: st.Generation}, nil
	}
	all := credentials()
	refusedByOrigin := false
	for _, cred := range all {
		if !exists || !a.allows(cred, domain) {
			continue
		}
		if foreign == "" || !cred.inURL() {
			principal := cred.principal
			principal.Generation = st.Generation
			return st, principal, nil
		}
		refusedByOrigin = true
	}
	if refusedByOrigin {
		return st, api.Principal{}, forbidden("pages of %s may not read %s; "+
			"an admin can let them by `nowcast site set %s --origins`", foreign, domain, domain)
	}
	a.origins.allowRefusal(c)
	return st, api.Principal{}, a.denied(c.Request, all, named, domain)
}

// denied is the error of a request without a credential for a site. It is the same for a private site and for
// one that doesn't exist, unless the request may read all sites: else it would tell which sites there are.
func (a *Control) denied(r *http.Request, all []Credential, named, domain string) *Denied {
	byKey, readsAll := false, false
	for _, cred := range all {
		if cred.kind != KeyCredential && cred.kind != SessionCredential {
			continue
		}
		key, ok := a.signer.key(cred.principal.ID)
		byKey, readsAll = true, readsAll || ok && readsAllSites(key)
	}
	switch {
	case len(all) == 0:
		return unauthenticated(r)
	case !byKey:
		return forbidden("this ticket or share link is for another site; ask for one for this site")
	case readsAll && domain == "":
		return &Denied{Kind: NotFound,
			Reason: "there is no site yet; add one with `nowcast site add example.com`"}
	case readsAll:
		return &Denied{Kind: NotFound,
			Reason: "there is no such site; an admin can add it with `nowcast site add`"}
	case named == "": // the name of the default site isn't told either
		return forbidden("this key may not read the default site; name one that it may read")
	}
	return forbidden("this key may not read %s, or there is no such site; ask an admin for a key that may",
		named)
}

// readsAllSites reports whether a key may read every site, also those that don't exist yet.
func readsAllSites(key site.Key) bool { return key.Admin || key.AllSites }

// AuthorizeAll is Authorize for a stream of several sites. It returns each domain once, in the order of the
// request, and the principals in the same order. A page of another origin may read the stream if it may read
// each of the sites.
func (a *Control) AuthorizeAll(c *gin.Context, domains []string) ([]string, []api.Principal, error) {
	if len(domains) == 0 {
		domains = []string{""}
	}
	var (
		names      []string
		principals []api.Principal
		allowed    []string
		all        []Credential
		read       bool
	)
	credentials := func() []Credential { // once for all of the sites
		if !read {
			all, read = a.credentials(c.Request), true
		}
		return all
	}
	h := c.Writer.Header()
	for _, domain := range domains {
		h.Del(allowOrigin)
		st, principal, err := a.authorize(c, domain, credentials)
		if err != nil { // with the headers of this refusal
			return nil, nil, err
		}
		allowed = append(allowed, h.Get(allowOrigin))
		if !slices.Contains(names, st.Domain) {
			names, principals = append(names, st.Domain), append(principals, principal)
		}
	}
	intersect(h, allowed)
	return names, principals, nil
}

// AuthorizeKey is Authorize for what a public site or a share link does not open: the request must present
// a key that may read the site.
func (a *Control) AuthorizeKey(c *gin.Context, domain string) (site.Site, error) {
	key, ok := a.key(c.Request)
	if !ok {
		return site.Site{}, unauthenticated(c.Request)
	}
	st, _, err := a.Authorize(c, domain)
	if err != nil {
		return st, err
	}
	if !key.MayRead(st) {
		return st, forbidden("this key may not see that of %s, although it is public; "+
			"ask an admin for one that may", st.Domain)
	}
	return st, nil
}

// AuthorizeWrite is AuthorizeKey for a change of the segments and annotations of a site. A session counts
// only for requests of our own pages, as in AuthorizeAdmin.
func (a *Control) AuthorizeWrite(c *gin.Context, domain string) (site.Site, error) {
	st, err := a.AuthorizeKey(c, domain)
	if err != nil {
		return st, err
	}
	key, ok := a.key(c.Request)
	switch {
	case !ok: // it was removed a moment ago
		return st, unauthenticated(c.Request)
	case !key.MayWrite(st):
		return st, forbidden("this key may only read; ask an admin for one that may write, " +
			"as `nowcast key add --write` makes it")
	case bearer(c.Request) == "":
		return st, a.origins.sameOrigin(c.Request)
	}
	return st, nil
}

// AuthorizeAdmin returns an error unless the request presents an admin key. A session counts only for
// requests of our own pages, because browsers send cookies with requests of any page.
func (a *Control) AuthorizeAdmin(c *gin.Context) error {
	key, ok := a.key(c.Request)
	switch {
	case !ok:
		return unauthenticated(c.Request)
	case !key.Admin:
		return forbidden("this needs an admin key; the one that you use may only read")
	case bearer(c.Request) == "":
		return a.origins.sameOrigin(c.Request)
	}
	return nil
}

// RequireAdmin reports whether a request presents an admin key, as AuthorizeAdmin says; otherwise it has
// refused the request by fail.
func (a *Control) RequireAdmin(c *gin.Context, fail func(*gin.Context, error)) bool {
	err := a.AuthorizeAdmin(c)
	if err != nil {
		fail(c, err)
	}
	return err == nil
}

// Principal is the key that a request presents, also where the site is public. If it presents none, it is the
// Public principal with the client's address as its ID, an IPv6 address as its /64.
func (a *Control) Principal(c *gin.Context) api.Principal {
	key, ok := a.key(c.Request)
	if !ok {
		return api.Principal{Kind: api.Public, ID: addressOf(c).String()}
	}
	return api.Principal{Kind: api.KeyPrincipal, ID: key.ID}
}

// ReadableSites returns the sites that a request is shown, in the order of the registry: those that its
// credentials open, the public ones that are listed, and with a key or session all public ones. A public site
// that isn't listed is readable by those who know its name.
func (a *Control) ReadableSites(r *http.Request) []site.Site {
	var readable []site.Site
	all := a.credentials(r)
	byKey := slices.ContainsFunc(all, func(cred Credential) bool {
		return cred.kind == KeyCredential || cred.kind == SessionCredential
	})
	for _, st := range a.sites.Sites() {
		opens := func(cred Credential) bool { return a.allows(cred, st.Domain) }
		if st.Public && (byKey || st.Listed) || slices.ContainsFunc(all, opens) {
			readable = append(readable, st)
		}
	}
	return readable
}

// MayRead reports whether a principal may read a site at this moment: false once the key, the link or the
// site is removed, also if the site is made again, a public site is made private, or the session or cookie
// has ended.
func (a *Control) MayRead(p api.Principal, domain string) bool {
	st, exists := a.sites.Lookup(domain)
	former := p.Generation != 0 && p.Generation != st.Generation
	if !exists || former || p.Expires != 0 && time.Now().Unix() >= p.Expires {
		return false
	}
	switch p.Kind {
	case api.Public:
		return st.Public
	case api.KeyPrincipal:
		key, ok := a.signer.key(p.ID)
		if ok && p.Session != "" {
			var s site.Session
			if s, ok = a.sites.Session(p.Session); ok {
				_, ok = a.keyOf(s)
			}
		}
		return ok && key.MayRead(st)
	case api.LinkPrincipal:
		link, ok := a.sites.Link(p.ID)
		return ok && link.Site == domain
	}
	return false
}

// allows reports whether a credential authorizes reading a site; a ticket does so only for the sites it
// names, as they were when it was made.
func (a *Control) allows(cred Credential, domain string) bool {
	if cred.kind == TicketCredential {
		st, _ := a.sites.Lookup(domain)
		if !slices.Contains(cred.sites, ticketSite{domain, st.Generation}) {
			return false
		}
	}
	return a.MayRead(cred.principal, domain)
}

// resolve returns the domain as the registry has it; "" if none is named and no site exists.
func (a *Control) resolve(domain string) string {
	if domain == "" {
		domain = a.cfg.DefaultSite
	}
	if domain == "" {
		first, _ := a.sites.Default()
		domain = first.Domain
	}
	return strings.ToLower(domain)
}

// FrameAncestors returns the sources (CSP, frame-ancestors) of the pages that may show a site's live view in
// a frame: the site's origins. Without any, every page may show a public site, and the pages that may read a
// private one may show that. For a site that the request may not read, it is 'none', as for one that doesn't
// exist.
func (a *Control) FrameAncestors(c *gin.Context, domain string) string {
	const none = "'none'"
	domain = strings.ToLower(domain)
	st, exists := a.sites.Lookup(domain)
	opens := func(cred Credential) bool { return a.allows(cred, domain) }
	switch {
	case !exists || !st.Public && !slices.ContainsFunc(a.credentials(c.Request), opens):
		return none
	case len(st.Origins) > 0:
		return "'self' " + strings.Join(st.Origins, " ")
	case st.Public:
		return "*"
	}
	host, _, _ := strings.Cut(st.Domain, ":")
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return fmt.Sprintf("'self' http://%s:* https://%[1]s:*", host)
	}
	return fmt.Sprintf("'self' http://%s:* https://%[1]s:* http://*.%[1]s:* https://*.%[1]s:*", host)
}
