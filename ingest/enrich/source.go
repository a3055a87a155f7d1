package enrich

import (
	_ "embed" // sources.tsv
	"strings"

	"nowcast/ingest/dialect"
)

//go:embed sources.tsv
var sourceList string

// source is where a visit came from: the usual name of a website, and its medium.
type source struct {
	name   string
	medium medium
}

// sources finds the source that a referring host or a value of utm_source stands for.
type sources struct {
	byHost map[string]source // keys are hosts, or a host without its public suffix followed by ".*"
	byWord map[string]source // keys are values of utm_source in lower case
}

// newSources reads a list in the format of sources.tsv, which its first line describes.
func newSources(list string) *sources {
	s := &sources{byHost: map[string]source{}, byWord: map[string]source{}}
	for line := range strings.Lines(list) {
		columns := strings.Split(strings.TrimSpace(line), "\t")
		if len(columns) != 3 || strings.HasPrefix(columns[0], "#") {
			continue
		}
		from := source{columns[0], medium(strings.Trim(columns[1], "-"))}
		s.byWord[strings.ToLower(from.name)] = from
		for key := range strings.FieldsSeq(columns[2]) {
			if strings.Contains(key, ".") {
				s.byHost[key] = from
			} else {
				s.byWord[key] = from
			}
		}
	}
	return s
}

// byTag finds the source that a utm_source, source or ref parameter names. A value that isn't on the list
// is a source of that name.
func (s *sources) byTag(tag string) source {
	if found, ok := s.byWord[strings.ToLower(tag)]; ok {
		return found
	}
	if strings.Contains(tag, ".") {
		return s.ofHost(dialect.TrimWWW(strings.ToLower(tag)))
	}
	return source{name: tag}
}

// ofHost finds the source of a host, or of the nearest domain above it that is on the list. A host that
// isn't on the list is a source of that name.
func (s *sources) ofHost(host string) source {
	for h, ok := host, true; ok; _, h, ok = strings.Cut(h, ".") {
		if found, ok := s.byHost[h]; ok {
			return found
		}
		if found, ok := s.ofAnySuffix(h); ok {
			return found
		}
	}
	return source{name: host}
}

// ofAnySuffix finds google.* for google.de and google.co.uk. A suffix of two labels counts only where
// both are as short as those of co.uk.
func (s *sources) ofAnySuffix(h string) (found source, ok bool) {
	i := strings.LastIndexByte(h, '.')
	if i < 0 {
		return source{}, false
	}
	if found, ok = s.wildcard(h[:i]); ok {
		return found, true
	}
	if j := strings.LastIndexByte(h[:i], '.'); j >= 0 && i-j <= 4 && len(h)-i <= 3 {
		return s.wildcard(h[:j])
	}
	return source{}, false
}

// wildcard looks up h followed by ".*". It builds the key without an allocation.
func (s *sources) wildcard(h string) (found source, ok bool) {
	var buf [64]byte
	found, ok = s.byHost[string(append(append(buf[:0], h...), ".*"...))]
	return found, ok
}

// referral returns the referring page, at most dialect.MaxURL bytes of host and path, and its source.
// Both are empty if the referrer is a page of the site's own host, or no page on another host.
func (s *sources) referral(l *dialect.Link, ownHost string) (page string, from source) {
	host := dialect.TrimWWW(l.Host)
	switch l.Scheme {
	case "http", "https", "android-app":
	default:
		return "", source{}
	}
	if host == "" || host == "localhost" || host == ownHost {
		return "", source{}
	}
	return dialect.Truncate(host+strings.TrimRight(l.Path, "/"), dialect.MaxURL), s.ofHost(host)
}
