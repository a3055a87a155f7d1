package streamer

import (
	"github.com/gin-gonic/gin"

	"nowcast/streamer/query"
)

// asker is whose places a question about history takes: those of the key that is shown, also where the site is public.
func (s *Service) asker(c *gin.Context) query.Asker {
	key, known := s.who(c)
	if !known {
		return ""
	}
	return query.Asker(key.ID)
}
