package ingest

import (
	_ "embed" // the list of sources
	"strings"
)

//go:embed sources.tsv
var sourceList string

// source is where visitors come from: a name that people know it by, and what kind of place it is.
type source struct {
	name   string
	medium medium
}

// sources gives referring hosts and utm_source values their names.
type sources struct {
	hosts map[string]source // by host, or host without its ending followed by ".*"
	words map[string]source // by utm_source, lower case
}

func newSources(list string) *sources {
	s := &sources{hosts: map[string]source{}, words: map[string]source{}}
	for line := range strings.Lines(list) {
		columns := strings.Split(strings.TrimSpace(line), "\t")
		if len(columns) != 3 || strings.HasPrefix(columns[0], "#") {
			continue
		}
		from := source{columns[0], medium(strings.Trim(columns[1], "-"))}
		s.words[strings.ToLower(from.name)] = from
		for word := range strings.FieldsSeq(columns[2]) {
			if strings.Contains(word, ".") {
				s.hosts[word] = from
			} else {
				s.words[word] = from
			}
		}
	}
	return s
}

// tagged names a utm_source: google, ig and Twitter mean what people mean by them, anything else is kept as it is.
func (s *sources) tagged(word string) source {
	if known, ok := s.words[strings.ToLower(word)]; ok {
		return known
	}
	if strings.Contains(word, ".") {
		return s.host(bare(strings.ToLower(word)))
	}
	return source{name: word}
}

// host names a referring host by the longest of its endings that is known; an unknown one is its own name.
func (s *sources) host(host string) source {
	for h, ok := host, true; ok; _, h, ok = strings.Cut(h, ".") {
		if known, ok := s.hosts[h]; ok {
			return known
		}
		if known, ok := s.anyEnding(h); ok {
			return known
		}
	}
	return source{name: host}
}

// anyEnding looks for google.* where h is google.de or google.co.uk.
func (s *sources) anyEnding(h string) (known source, ok bool) {
	i := strings.LastIndexByte(h, '.')
	if i < 0 {
		return source{}, false
	}
	if known, ok = s.endless(h[:i]); ok {
		return known, true
	}
	// two labels are an ending only where both are as short as those of co.uk
	if j := strings.LastIndexByte(h[:i], '.'); j >= 0 && i-j <= 4 && len(h)-i <= 3 {
		return s.endless(h[:j])
	}
	return source{}, false
}

// endless looks a host up whose ending doesn't matter. Its key is built without an allocation.
func (s *sources) endless(h string) (known source, ok bool) {
	var few [64]byte
	known, ok = s.hosts[string(append(append(few[:0], h...), ".*"...))]
	return known, ok
}

// referral is where a visitor came from: the referrer without its query, and the source's name. Both are empty for a page of
// the site itself (own) and for what isn't a page elsewhere.
func (s *sources) referral(l *link, own string) (page string, from source) {
	host := bare(l.host)
	switch l.scheme {
	case "http", "https", "android-app":
	default:
		return "", source{}
	}
	if host == "" || host == "localhost" || host == own {
		return "", source{}
	}
	return cut(host+strings.TrimRight(l.path, "/"), maxURL), s.host(host)
}
