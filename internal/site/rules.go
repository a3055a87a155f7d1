package site

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rules say which beacons of a site don't count. They are its owner's.
type Rules struct {
	Hostnames        []string `json:"hostnames,omitempty"`         // where its pages are, as example.com or *.example.com; none: anywhere
	BlockedAddresses []string `json:"blocked_addresses,omitempty"` // of visitors, as 192.0.2.1 or 192.0.2.0/24
	BlockedCountries []string `json:"blocked_countries,omitempty"` // of visitors, as DE
	BlockedPaths     []string `json:"blocked_paths,omitempty"`     // of pages, with * and **
}

const (
	maxRules   = 100 // of each kind
	maxPattern = 255 // bytes of a path
)

// IsZero says that everything counts.
func (r Rules) IsZero() bool {
	return len(r.Hostnames)+len(r.BlockedAddresses)+len(r.BlockedCountries)+len(r.BlockedPaths) == 0
}

// Reason is why a beacon doesn't count.
type Reason uint8

// The reasons; Counts is none.
const (
	Counts Reason = iota
	HostnameNotListed
	AddressBlocked
	CountryBlocked
	PathBlocked
)

// Filter is a site's rules made ready: asking it takes no memory and no lock. A nil one lets everything through.
type Filter struct {
	hosts     map[string]bool
	under     []string // endings such as .example.com
	networks  []netip.Prefix
	countries [26 * 26]bool
	paths     []pathRule
	listed    bool // there is a list of host names
	blocked   bool // there are blocked countries
}

// pathRule is a pattern, cut before its first star: most paths differ before that.
type pathRule struct{ literal, rest string }

// Refuses says whether a beacon counts: host is that of the page, in lower case and with its www, if any.
func (f *Filter) Refuses(host string, addr netip.Addr, country, path string) Reason {
	switch {
	case f == nil:
	case f.listed && !f.lists(host):
		return HostnameNotListed
	case len(f.networks) > 0 && f.blocks(addr):
		return AddressBlocked
	case f.blocked && isCountry(country) && f.countries[countryIndex(country)]:
		return CountryBlocked
	default:
		for _, p := range f.paths {
			if strings.HasPrefix(path, p.literal) && matchPath(p.rest, path[len(p.literal):]) {
				return PathBlocked
			}
		}
	}
	return Counts
}

func (f *Filter) lists(host string) bool {
	if f.hosts[strings.TrimPrefix(host, "www.")] {
		return true
	}
	for _, ending := range f.under {
		if len(host) > len(ending) && strings.HasSuffix(host, ending) {
			return true
		}
	}
	return false
}

// blocks finds the last network that begins at or before an address: none of them lies in another, so it is the only one that may hold it.
func (f *Filter) blocks(addr netip.Addr) bool {
	i, exact := slices.BinarySearchFunc(f.networks, addr, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return exact || i > 0 && f.networks[i-1].Contains(addr)
}

// NewFilter makes rules ready. They are cleaned first: see Clean.
func NewFilter(r Rules) (*Filter, error) {
	r, err := r.Clean()
	if err != nil || r.IsZero() {
		return nil, err
	}
	f := &Filter{hosts: map[string]bool{}, listed: len(r.Hostnames) > 0, blocked: len(r.BlockedCountries) > 0}
	for _, h := range r.Hostnames {
		if ending, ok := strings.CutPrefix(h, "*"); ok {
			f.under = append(f.under, ending)
		} else {
			f.hosts[strings.TrimPrefix(h, "www.")] = true
		}
	}
	var all []netip.Prefix
	for _, a := range r.BlockedAddresses {
		p, _ := parseNetwork(a)
		all = append(all, p)
	}
	slices.SortFunc(all, netip.Prefix.Compare) // by address, then the larger network first
	for _, p := range all {
		if n := len(f.networks); n == 0 || !f.networks[n-1].Contains(p.Addr()) {
			f.networks = append(f.networks, p)
		}
	}
	for _, p := range r.BlockedPaths {
		i := strings.IndexByte(p+"*", '*')
		f.paths = append(f.paths, pathRule{p[:i], p[i:]})
	}
	for _, c := range r.BlockedCountries {
		f.countries[countryIndex(c)] = true
	}
	return f, nil
}

// Clean brings rules into their one way of writing, without repeats. It fails with ErrInvalid, naming the first that isn't one.
func (r Rules) Clean() (out Rules, err error) {
	for _, kind := range []struct {
		name string
		in   []string
		out  *[]string
		one  func(string) (clean string, ok bool)
		as   string
	}{
		{"hostname", r.Hostnames, &out.Hostnames, cleanHostname, "give it as example.com, or as *.example.com for all that is under it"},
		{"address", r.BlockedAddresses, &out.BlockedAddresses, cleanNetwork, "give it as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"},
		{"country", r.BlockedCountries, &out.BlockedCountries, cleanCountry, "give its two letters (ISO 3166-1), as DE"},
		{"path", r.BlockedPaths, &out.BlockedPaths, cleanPath, "begin it with / or *, at most 255 bytes; * is anything up to the next /, ** anything at all"},
	} {
		if len(kind.in) > maxRules {
			return Rules{}, fmt.Errorf("%w: there are %d rules of the kind %s; give at most %d", ErrInvalid, len(kind.in), kind.name, maxRules)
		}
		for _, s := range kind.in {
			c, ok := kind.one(strings.TrimSpace(s))
			if !ok {
				return Rules{}, fmt.Errorf("%w: %q is no %s; %s", ErrInvalid, shorten(s), kind.name, kind.as)
			}
			if !slices.Contains(*kind.out, c) {
				*kind.out = append(*kind.out, c)
			}
		}
	}
	return out, nil
}

func cleanHostname(s string) (string, bool) {
	s = strings.ToLower(s)
	if under, ok := strings.CutPrefix(s, "*."); ok {
		_, err := netip.ParseAddr(under)
		return s, err != nil && len(s) <= 253 && (isHost(under) || isHost("a."+under)) // *.example, too
	}
	return s, len(s) <= 253 && isHost(s)
}

func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("parse network: %w", ErrInvalid)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() { // as visitors' addresses are taken
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("parse network: %w", ErrInvalid)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func cleanNetwork(s string) (string, bool) {
	p, err := parseNetwork(s)
	if err != nil {
		return "", false
	}
	if p.IsSingleIP() {
		return p.Addr().String(), true
	}
	return p.String(), true
}

func isCountry(s string) bool { return len(s) == 2 && s[0]-'A' < 26 && s[1]-'A' < 26 }

func countryIndex(s string) int { return int(s[0]-'A')*26 + int(s[1]-'A') }

func cleanCountry(s string) (string, bool) {
	s = strings.ToUpper(s)
	return s, isCountry(s)
}

func cleanPath(s string) (string, bool) {
	ok := s != "" && len(s) <= maxPattern && (s[0] == '/' || s[0] == '*') && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
	return s, ok
}

// matchPath says whether a whole path fits a pattern: * stands for any text without a slash, ** for any text, also none. It keeps one place to
// go back to for each of the two, so the time that it takes is at most the product of the lengths.
//
// That is enough. A later ** can take whatever an earlier one would have: it never helps to go back before the last one. And it never helps to go back
// before the last *, for what lies between two of them fits nowhere later without its star passing over a slash, unless it has none itself
// and then fits no worse where it was found first.
func matchPath(pattern, path string) bool {
	const none = -1
	p, s := 0, 0
	star, starAt := none, 0 // behind the last *, and where the text goes on that it hasn't taken
	deep, deepAt := none, 0 // the same of the last **
	for {
		switch {
		case strings.HasPrefix(pattern[p:], "**"):
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			deep, deepAt, star = p, s, none
			continue
		case p < len(pattern) && pattern[p] == '*':
			p++
			star, starAt = p, s
			continue
		case p < len(pattern) && s < len(path) && pattern[p] == path[s]:
			p++
			s++
			continue
		case p == len(pattern) && s == len(path):
			return true
		}
		switch {
		case star != none && starAt < len(path) && path[starAt] != '/':
			starAt++
			p, s = star, starAt
		case deep != none && deepAt < len(path):
			deepAt++
			p, s, star = deep, deepAt, none
		default:
			return false
		}
	}
}
