package live

import (
	"fmt"
	"strings"

	"nowcast/streamer/api"
)

// grant is by whose right a viewer reads each of its sites. The push engine keeps its text, once for all
// viewers with the same grant.
type grant struct {
	domains    []string
	principals []api.Principal // of the same indices
}

// String is a line for each site: domain, kind, expiry and ID of the principal, separated by tabs.
func (g grant) String() string {
	var b strings.Builder
	for i, domain := range g.domains {
		p := g.principals[i]
		fmt.Fprintf(&b, "%s\t%d\t%d\t%s\n", domain, p.Kind, p.Expires, p.ID)
	}
	return b.String()
}

// holds reports whether the text of a grant lets a viewer read all of its sites at this moment.
func holds(access authorizer, text string) bool {
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		p := api.Principal{ID: fields[3]}
		if _, err := fmt.Sscan(fields[1]+" "+fields[2], &p.Kind, &p.Expires); err != nil {
			return false
		}
		if !access.MayRead(p, fields[0]) {
			return false
		}
	}
	return true
}
