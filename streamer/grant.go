package streamer

import (
	"github.com/gin-gonic/gin"

	"nowcast/internal/site"
)

type access struct {
	kind uint8
	id   string
}

func (s *Service) granted(c *gin.Context, domain string) (site.Site, access, bool) {
	st, ok := s.readable(c, domain)
	if !ok || st.Public {
		return st, access{}, ok
	}
	key, _ := s.who(c)
	return st, access{1, key.ID}, ok
}

func (s *Service) holds(a access, domain string) bool {
	st, ok := s.sites.Lookup(domain)
	if !ok || st.Public {
		return ok
	}
	key, known := s.key(a.id)
	return known && key.MayRead(domain)
}
