package live

import (
	"fmt"
	"strings"

	"nowcast/streamer/api"
)

// authorization is the principal that authorizes a viewer, per site. The push engine keeps its text, once for
// all viewers with the same authorization.
type authorization struct {
	domains    []string
	principals []api.Principal // of the same indices
}

// String is a line for each site: domain, kind, expiry, generation, session and ID of the principal,
// separated by tabs.
func (a authorization) String() string {
	var b strings.Builder
	for i, domain := range a.domains {
		p := a.principals[i]
		fmt.Fprintf(&b, "%s\t%d\t%d\t%d\t%s\t%s\n", domain, p.Kind, p.Expires, p.Generation, p.Session, p.ID)
	}
	return b.String()
}

// stillAuthorized reports whether all principals of an authorization's text may still read their sites.
func stillAuthorized(access authorizer, text string) bool {
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 6)
		p := api.Principal{Session: fields[4], ID: fields[5]}
		numbers := strings.Join(fields[1:4], " ")
		if _, err := fmt.Sscan(numbers, &p.Kind, &p.Expires, &p.Generation); err != nil {
			return false
		}
		if !access.MayRead(p, fields[0]) {
			return false
		}
	}
	return true
}
