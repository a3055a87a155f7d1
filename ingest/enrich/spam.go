package enrich

import (
	_ "embed" // spammers.txt
	"strings"
)

//go:embed spammers.txt
var spammerList string

// spammers are hosts that appear in forged referrers (referrer spam), in order to be found in statistics.
// No visit comes from them.
type spammers map[string]struct{}

func newSpammers(list string) spammers {
	s := spammers{}
	for line := range strings.Lines(list) {
		if host := strings.TrimSpace(line); host != "" && !strings.HasPrefix(host, "#") {
			s[host] = struct{}{}
		}
	}
	return s
}

// has reports whether a host, or a domain above it, is on the list.
func (s spammers) has(host string) bool {
	for ok := host != ""; ok; _, host, ok = strings.Cut(host, ".") {
		if _, spam := s[host]; spam {
			return true
		}
	}
	return false
}
