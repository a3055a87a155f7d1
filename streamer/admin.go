package streamer

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
	"nowcast/streamer/api"
	"nowcast/streamer/query"
)

// GetRealtimeVisitors is GET /api/v1/stats/realtime/visitors.
func (s *Service) GetRealtimeVisitors(c *gin.Context, p api.GetRealtimeVisitorsParams) {
	st, ok := s.readable(c, p.SiteId)
	if !ok {
		return
	}
	l := s.live.Load()
	if ready, reason := s.Ready(); l == nil || !ready {
		unavailable(c, "the live windows are not read yet (%s); try again in a moment", reason)
		return
	}
	c.JSON(http.StatusOK, l.board.ActiveVisitors(st.Domain))
}

// PostQuery is POST /api/v2/query.
func (s *Service) PostQuery(c *gin.Context, _ api.PostQueryParams) {
	var q query.Request
	if !decode(c, &q) {
		return
	}
	if q.SiteID == "" {
		refuse(c, http.StatusBadRequest, "site_id: say which site")
		return
	}
	st, ok := s.readable(c, q.SiteID)
	if !ok {
		return
	}
	if s.history == nil {
		unavailable(c, "this streamer has no ClickHouse; start it with --clickhouse")
		return
	}
	res, err := s.history.Run(c.Request.Context(), s.asker(c), query.Site{Domain: st.Domain, Timezone: st.Timezone}, q)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, res)
}

// GetLedger is GET /api/v1/sites/{domain}/ledger.
func (s *Service) GetLedger(c *gin.Context, domain string, p api.GetLedgerParams) {
	st, ok := s.owned(c, domain)
	if !ok {
		return
	}
	if p.By != nil && !slices.Contains([]api.GetLedgerParamsBy{"minute", "total"}, *p.By) {
		refuse(c, http.StatusBadRequest, "by: want minute or total")
		return
	}
	if s.history == nil {
		unavailable(c, "this streamer has no ClickHouse; start it with --clickhouse")
		return
	}
	r := query.LedgerRange{Minutes: p.By == nil || *p.By == "minute"}
	if p.From != nil {
		r.From = *p.From
	}
	if p.To != nil {
		r.To = *p.To
	}
	res, err := s.history.Ledger(c.Request.Context(), s.asker(c), query.Site{Domain: st.Domain, Timezone: st.Timezone}, r)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, res)
}

// GetSession is GET /api/v1/session.
func (s *Service) GetSession(c *gin.Context) {
	key, ok := s.who(c)
	out := api.Session{Authenticated: ok, Admin: key.Admin, Version: &s.cfg.Version}
	if ok {
		out.Name = &key.Name
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, out)
}

func publicSite(st site.Site) api.Site {
	return api.Site{Domain: st.Domain, Public: st.Public, Timezone: st.Timezone, Created: st.Created}
}

// adminSite shows the rules and origins too: whom a site keeps out is nobody's business but its admins'.
func adminSite(st site.Site) api.Site {
	out := publicSite(st)
	r := st.Rules
	list := func(s []string) *[]string { // in JSON a list, also when it is empty
		out := append([]string{}, s...)
		return &out
	}
	out.Rules = &api.SiteRules{
		Hostnames: list(r.Hostnames), BlockedAddresses: list(r.BlockedAddresses),
		BlockedCountries: list(r.BlockedCountries), BlockedPaths: list(r.BlockedPaths),
	}
	out.Origins = list(st.Origins)
	return out
}

// change puts the lists that are given into rules; an empty one takes a list away.
func change(r *site.Rules, in *api.SiteRules) {
	if in == nil {
		return
	}
	for _, l := range []struct {
		into *[]string
		from *[]string
	}{
		{&r.Hostnames, in.Hostnames}, {&r.BlockedAddresses, in.BlockedAddresses},
		{&r.BlockedCountries, in.BlockedCountries}, {&r.BlockedPaths, in.BlockedPaths},
	} {
		if l.from != nil {
			*l.into = *l.from
		}
	}
}

// ListSites is GET /api/v1/sites: those that the asker may read.
func (s *Service) ListSites(c *gin.Context) {
	key, known := s.who(c)
	show := publicSite
	if known && key.Admin {
		show = adminSite
	}
	shown := s.shown(c.Request)
	out := api.SiteList{Sites: []api.Site{}}
	for _, st := range s.sites.Sites() {
		if st.Public || slices.ContainsFunc(shown, func(g grant) bool { return s.reads(g, st.Domain) }) {
			out.Sites = append(out.Sites, show(st))
		}
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, out)
}

// CreateSite is POST /api/v1/sites.
func (s *Service) CreateSite(c *gin.Context) {
	var in api.SiteCreate
	if !s.admin(c) || !decode(c, &in) {
		return
	}
	domain, err := site.Domain(in.Domain)
	if err != nil {
		s.fail(c, err)
		return
	}
	if _, ok := s.sites.Lookup(domain); ok {
		refuse(c, http.StatusConflict, "%s exists already; change it with PATCH /api/v1/sites/%s", domain, domain)
		return
	}
	st := site.Site{Domain: domain}
	if in.Public != nil {
		st.Public = *in.Public
	}
	if in.Timezone != nil {
		st.Timezone = *in.Timezone
	}
	change(&st.Rules, in.Rules)
	if in.Origins != nil {
		st.Origins = *in.Origins
	}
	s.put(c, st, http.StatusCreated)
}

func (s *Service) put(c *gin.Context, st site.Site, status int) {
	if err := s.sites.Put(c.Request.Context(), st); err != nil {
		s.fail(c, err)
		return
	}
	st, _ = s.sites.Lookup(st.Domain)
	c.JSON(status, adminSite(st))
}

// GetSite is GET /api/v1/sites/{domain}.
func (s *Service) GetSite(c *gin.Context, domain string) {
	st, ok := s.readable(c, domain)
	if !ok {
		return
	}
	show := publicSite
	if key, known := s.who(c); known && key.Admin {
		show = adminSite
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, show(st))
}

// UpdateSite is PATCH /api/v1/sites/{domain}.
func (s *Service) UpdateSite(c *gin.Context, domain string) {
	var in api.SiteUpdate
	if !s.admin(c) || !decode(c, &in) {
		return
	}
	st, ok := s.readable(c, domain)
	if !ok {
		return
	}
	if in.Public != nil {
		st.Public = *in.Public
	}
	if in.Timezone != nil {
		st.Timezone = *in.Timezone
	}
	change(&st.Rules, in.Rules)
	if in.Origins != nil {
		st.Origins = *in.Origins
	}
	s.put(c, st, http.StatusOK)
}

// DeleteSite is DELETE /api/v1/sites/{domain}.
func (s *Service) DeleteSite(c *gin.Context, domain string) {
	if !s.admin(c) {
		return
	}
	if err := s.sites.Delete(c.Request.Context(), strings.ToLower(domain)); err != nil {
		s.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

func publicKey(k site.Key) api.Key {
	out := api.Key{Id: k.ID, Name: k.Name, Admin: k.Admin, Created: k.Created}
	if len(k.Sites) > 0 {
		sites := slices.Clone(k.Sites)
		out.Sites = &sites
	}
	return out
}

// ListKeys is GET /api/v1/keys.
func (s *Service) ListKeys(c *gin.Context) {
	if !s.admin(c) {
		return
	}
	out := api.KeyList{Keys: []api.Key{}}
	for _, k := range s.sites.Keys() {
		out.Keys = append(out.Keys, publicKey(k))
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, out)
}

// CreateKey is POST /api/v1/keys.
func (s *Service) CreateKey(c *gin.Context) {
	var in api.KeyCreate
	if !s.admin(c) || !decode(c, &in) {
		return
	}
	var sites []string
	if in.Sites != nil {
		sites = *in.Sites
	}
	k, secret, err := s.sites.NewKey(c.Request.Context(), in.Name, in.Admin != nil && *in.Admin, sites)
	if err != nil {
		s.fail(c, err)
		return
	}
	p := publicKey(k)
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusCreated, api.KeyCreated{Id: p.Id, Name: p.Name, Admin: p.Admin, Sites: p.Sites, Created: p.Created, Secret: secret})
}

// DeleteKey is DELETE /api/v1/keys/{id}.
func (s *Service) DeleteKey(c *gin.Context, id string) {
	if !s.admin(c) {
		return
	}
	if err := s.sites.DeleteKey(c.Request.Context(), id); err != nil {
		s.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}
