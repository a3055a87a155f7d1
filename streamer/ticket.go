package streamer

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/streamer/api"
)

const (
	ticketLife, shortestTicket, longestTicket = 60 * time.Second, 5 * time.Second, 300 * time.Second

	maxTicketSites = 20 // more wouldn't fit into an address
)

// ticket opens streams of some sites for a short time, in the place of the key or link with which it was made: a page of another origin can
// put it into an address, where neither belongs. It is "base64(kind id expiry sites).mac".
type ticket struct {
	by    access
	until time.Time
	sites []string
}

// letters of the kinds in a ticket.
var letters = map[kind]string{byKey: "k", byLink: "l"}

func (s *Service) newTicket(t ticket) string {
	text := strings.Join([]string{letters[t.by.kind], t.by.id, strconv.FormatInt(t.until.UnixMilli(), 10), strings.Join(t.sites, ",")}, " ")
	return s.signed("ticket", t.by.id, base64.RawURLEncoding.EncodeToString([]byte(text)))
}

// readTicket finds what is in a ticket that is genuine and neither expired nor of a key or link that is gone.
func (s *Service) readTicket(value string, at time.Time) (t ticket, ok bool) {
	text, mac, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxSigned {
		return ticket{}, false
	}
	plain, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(plain), " ")
	if err != nil || len(parts) != 4 || !s.genuine("ticket", parts[1], text, mac) {
		return ticket{}, false
	}
	until, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || at.UnixMilli() >= until {
		return ticket{}, false
	}
	t = ticket{access{id: parts[1]}, time.UnixMilli(until), strings.Split(parts[3], ",")}
	switch parts[0] {
	case letters[byKey]:
		t.by.kind = byKey
		_, ok = s.key(t.by.id)
	case letters[byLink]:
		t.by.kind = byLink
		_, ok = s.sites.Link(t.by.id)
	default:
		ok = false
	}
	return t, ok
}

// CreateTicket is POST /api/v1/tickets.
func (s *Service) CreateTicket(c *gin.Context, _ api.CreateTicketParams) {
	if bearer(c.Request) == "" && c.Query("share") == "" && !s.sameOrigin(c) {
		return
	}
	all := slices.DeleteFunc(s.shown(c.Request), func(g grant) bool { return g.sites != nil }) // a ticket makes no other: it would never end
	if len(all) == 0 {
		unauthorized(c)
		return
	}
	var in api.TicketCreate
	if !decode(c, &in) {
		return
	}
	life := ticketLife
	if in.Ttl != nil {
		life = time.Duration(*in.Ttl) * time.Second
		if *in.Ttl < int(shortestTicket.Seconds()) || *in.Ttl > int(longestTicket.Seconds()) {
			refuse(c, http.StatusBadRequest, "ttl has to be 5 to 300 (seconds); it only bounds when a stream may be opened, not how long it stays")
			return
		}
	}
	if len(in.Sites) == 0 || len(in.Sites) > maxTicketSites {
		refuse(c, http.StatusBadRequest, "sites: name 1 to %d sites, as [\"example.com\"]", maxTicketSites)
		return
	}
	t := ticket{until: time.Now().Add(life).Truncate(time.Millisecond)}
	for _, d := range in.Sites {
		t.sites = append(t.sites, strings.ToLower(d))
	}
	for _, g := range all {
		if !slices.ContainsFunc(t.sites, func(d string) bool { return !s.mayGive(g, d) }) {
			t.by = g.access
			c.Header("Cache-Control", "no-store")
			c.JSON(http.StatusCreated, api.Ticket{Ticket: s.newTicket(t), Expires: t.until.UTC()})
			return
		}
	}
	refuse(c, http.StatusForbidden, "what you show may not read all of these sites, or one of them doesn't exist; name only sites that it may read")
}

// mayGive says whether a ticket may be made for a site: also for a public one, so that a page needs to know of one way only.
func (s *Service) mayGive(g grant, domain string) bool {
	st, exists := s.sites.Lookup(domain)
	return exists && (st.Public || s.reads(g, domain))
}
