package ingest

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"

	"nowcast/internal/event"
	"nowcast/internal/site"
)

// ownID tells visitors the id by which a site counts them today.
type ownID struct {
	intake *intake
	salts  *salts
}

// visitorAnswer is the answer to GET /api/visitor.
type visitorAnswer struct {
	Site    string    `json:"site"`
	Visitor string    `json:"visitor"` // 16 hexadecimal digits
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	Note    string    `json:"note"`
}

// get answers with the sender's own id, made of the address and user agent as those of beacons are. It stores
// nothing. No page of another origin may read the answer: the id would tell it who its visitor is. It
// answers for domains that are no sites too, by days of UTC.
func (h *ownID) get(c *gin.Context, addr netip.Addr) {
	c.Header("Cache-Control", "no-store")
	c.Header("Cross-Origin-Resource-Policy", "same-origin")
	c.Header("X-Robots-Tag", "noindex")
	domain, err := site.Domain(c.Query("site"))
	if err != nil {
		c.JSON(http.StatusBadRequest, gin.H{"error": "name the site, as /api/visitor?site=example.com"})
		return
	}
	clock := utcClock
	if s, ok := h.intake.lookup(domain); ok {
		domain, clock = s.Domain, h.intake.clocks.of(s.Domain, s.Timezone)
	}
	facts := h.intake.enricher.Facts(c.Request.Header, addr)
	now := time.Now()
	var e event.Event
	v := visitor{appendVisitorKey(nil, domain, facts.Addr, facts.UserAgent), clock}
	if h.salts.stamp(&e, &v, now.UnixMilli()) != nil {
		c.Header("Retry-After", "1")
		c.JSON(http.StatusServiceUnavailable, gin.H{"error": errNoSalt.Error() + "; try again in a moment"})
		return
	}
	from, until := clock.day(now)
	c.JSON(http.StatusOK, visitorAnswer{Site: domain, Visitor: fmt.Sprintf("%016x", e.Visitor),
		From: from, Until: until,
		Note: "This is what " + domain + " can tell you by today. To have today's visits erased, send it " +
			"to the owner of the site before the day ends. Tomorrow you have another id, and nobody can " +
			"tell that this one was yours."})
}
