package ingest

import (
	_ "embed" // the list of sources
	"strings"
)

//go:embed sources.tsv
var sourceList string

// sources gives referring hosts and utm_source values the names that people know them by.
type sources struct {
	hosts map[string]string // host, or host without its ending followed by ".*" → name
	words map[string]string // utm_source, lower case → name
}

func newSources(list string) *sources {
	s := &sources{hosts: map[string]string{}, words: map[string]string{}}
	for line := range strings.Lines(list) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		s.words[strings.ToLower(name)] = name
		for word := range strings.FieldsSeq(rest) {
			if strings.Contains(word, ".") {
				s.hosts[word] = name
			} else {
				s.words[word] = name
			}
		}
	}
	return s
}

// tagged names a utm_source: google, ig and Twitter mean what people mean by them, anything else is kept as it is.
func (s *sources) tagged(word string) string {
	if name, ok := s.words[strings.ToLower(word)]; ok {
		return name
	}
	if strings.Contains(word, ".") {
		return s.host(bare(strings.ToLower(word)))
	}
	return word
}

// host names a referring host by the longest of its endings that is known; an unknown one is its own name.
func (s *sources) host(host string) string {
	for h, ok := host, true; ok; _, h, ok = strings.Cut(h, ".") {
		if name, ok := s.hosts[h]; ok {
			return name
		}
		if name, ok := s.anyEnding(h); ok {
			return name
		}
	}
	return host
}

// anyEnding looks for google.* where h is google.de or google.co.uk.
func (s *sources) anyEnding(h string) (string, bool) {
	i := strings.LastIndexByte(h, '.')
	if i < 0 {
		return "", false
	}
	if name, ok := s.hosts[h[:i]+".*"]; ok {
		return name, true
	}
	// two labels are an ending only where both are as short as those of co.uk
	if j := strings.LastIndexByte(h[:i], '.'); j >= 0 && i-j <= 4 && len(h)-i <= 3 {
		name, ok := s.hosts[h[:j]+".*"]
		return name, ok
	}
	return "", false
}

// referral is where a visitor came from: the referrer without its query, and the source's name. Both are empty for a page of
// the site itself (own) and for what isn't a page elsewhere.
func (s *sources) referral(referrer, own string) (page, source string) {
	if referrer == "" {
		return "", ""
	}
	l := parseLink(referrer)
	host := bare(l.host)
	switch l.scheme {
	case "http", "https", "android-app":
	default:
		return "", ""
	}
	if host == "" || host == "localhost" || host == own {
		return "", ""
	}
	return cut(host+strings.TrimRight(l.path, "/"), maxURL), s.host(host)
}
