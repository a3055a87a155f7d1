package ingest

import (
	_ "embed" // the list of spammers
	"strings"
)

//go:embed spammers.txt
var spammerList string

// spammers are hosts that are put into referrers to be found in statistics. Nobody came from there, so what names one is dropped.
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

// has says whether a host or one that it is a part of is a spammer's.
func (s spammers) has(host string) bool {
	for ok := host != ""; ok; _, host, ok = strings.Cut(host, ".") {
		if _, spam := s[host]; spam {
			return true
		}
	}
	return false
}
