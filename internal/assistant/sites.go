package assistant

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxSites bounds a list of sites.
const maxSites = 100

type sitesIn struct {
	Contains string `json:"contains,omitempty" jsonschema:"only the sites with this in their domain"`
}

type sitesOut struct {
	Sites []siteOut `json:"sites"`
	Note  string    `json:"note,omitempty"`
}

type siteOut struct {
	Domain    string `json:"site_id"`
	Timezone  string `json:"timezone"`
	Now       string `json:"now,omitempty" jsonschema:"the time of the site's clocks"`
	Created   string `json:"created" jsonschema:"there are no numbers of before"`
	Retention int    `json:"retention_days,omitempty" jsonschema:"for how many days history is kept"`
	Public    bool   `json:"public" jsonschema:"anybody may read it"`
}

func (s *Server) sites(ctx context.Context, key string, in sitesIn) (sitesOut, error) {
	var list struct {
		Sites []struct {
			Domain, Timezone string
			Created          time.Time
			Public           bool
			RetentionDays    int `json:"retention_days"`
		}
	}
	if err := s.api.decode(ctx, key, "/api/v1/sites", &list); err != nil {
		return sitesOut{}, err
	}
	out := sitesOut{Sites: []siteOut{}}
	more := 0
	for _, x := range list.Sites {
		if !strings.Contains(x.Domain, strings.ToLower(in.Contains)) {
			continue
		}
		if len(out.Sites) == maxSites {
			more++
			continue
		}
		o := siteOut{Domain: x.Domain, Timezone: x.Timezone, Created: x.Created.Format(time.DateOnly),
			Retention: x.RetentionDays, Public: x.Public}
		if zone, err := time.LoadLocation(x.Timezone); err == nil {
			o.Now = time.Now().In(zone).Format("Monday 2006-01-02 15:04:05 -07:00")
		}
		out.Sites = append(out.Sites, o)
	}
	if more > 0 {
		out.Note = fmt.Sprintf("%d more sites are left out: name a part of the domain in \"contains\"", more)
	}
	return out, nil
}
