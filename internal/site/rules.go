package site

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rules say which beacons of a site are dropped.
type Rules struct {
	// of its pages, as example.com or *.example.com; none: any
	Hostnames []string `json:"hostnames,omitempty"`
	// of visitors, as 192.0.2.1 or 192.0.2.0/24
	BlockedAddresses []string `json:"blocked_addresses,omitempty"`
	BlockedCountries []string `json:"blocked_countries,omitempty"` // of visitors, as DE
	BlockedPaths     []string `json:"blocked_paths,omitempty"`     // of pages, with * and **
}

const (
	maxRules   = 100 // of each kind
	maxPattern = 255 // bytes of a path
)

// IsZero reports whether no rule drops anything.
func (r Rules) IsZero() bool {
	return len(r.Hostnames)+len(r.BlockedAddresses)+len(r.BlockedCountries)+len(r.BlockedPaths) == 0
}

// Reason is why a rule drops a beacon.
type Reason uint8

// The reasons; NotDropped means that no rule drops the beacon.
const (
	NotDropped Reason = iota
	HostnameNotListed
	AddressBlocked
	CountryBlocked
	PathBlocked
)

// RuleSet is a site's compiled rules. Matching allocates nothing and takes no lock. A nil RuleSet drops
// nothing.
type RuleSet struct {
	hosts        map[string]bool
	hostSuffixes []string // such as .example.com
	networks     []netip.Prefix
	countries    [26 * 26]bool
	paths        []pathRule
	hasHostnames bool
	hasCountries bool
}

// pathRule is a pattern, cut before its first star: most paths differ in that literal.
type pathRule struct{ literal, rest string }

// DropReason returns why the rules drop a beacon. host is the page's, in lower case and with its www, if any.
func (s *RuleSet) DropReason(host string, addr netip.Addr, country, path string) Reason {
	switch {
	case s == nil:
	case s.hasHostnames && !s.countsHost(host):
		return HostnameNotListed
	case len(s.networks) > 0 && s.blocksAddress(addr):
		return AddressBlocked
	case s.hasCountries && isCountry(country) && s.countries[countryIndex(country)]:
		return CountryBlocked
	default:
		for _, p := range s.paths {
			if strings.HasPrefix(path, p.literal) && matchPath(p.rest, path[len(p.literal):]) {
				return PathBlocked
			}
		}
	}
	return NotDropped
}

func (s *RuleSet) countsHost(host string) bool {
	if s.hosts[strings.TrimPrefix(host, "www.")] {
		return true
	}
	for _, ending := range s.hostSuffixes {
		if len(host) > len(ending) && strings.HasSuffix(host, ending) {
			return true
		}
	}
	return false
}

// blocksAddress finds the last network that begins at or before an address. No network is inside another, so
// no other one can contain the address.
func (s *RuleSet) blocksAddress(addr netip.Addr) bool {
	byAddress := func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) }
	i, exact := slices.BinarySearchFunc(s.networks, addr, byAddress)
	return exact || i > 0 && s.networks[i-1].Contains(addr)
}

// compileRules compiles rules, after Clean.
func compileRules(r Rules) (*RuleSet, error) {
	r, err := r.Clean()
	if err != nil || r.IsZero() {
		return nil, err
	}
	s := &RuleSet{
		hosts:        map[string]bool{},
		hasHostnames: len(r.Hostnames) > 0,
		hasCountries: len(r.BlockedCountries) > 0,
	}
	for _, h := range r.Hostnames {
		if ending, ok := strings.CutPrefix(h, "*"); ok {
			s.hostSuffixes = append(s.hostSuffixes, ending)
		} else {
			s.hosts[strings.TrimPrefix(h, "www.")] = true
		}
	}
	var all []netip.Prefix
	for _, a := range r.BlockedAddresses {
		p, _ := parseNetwork(a)
		all = append(all, p)
	}
	slices.SortFunc(all, netip.Prefix.Compare) // by address, then the larger network first
	for _, p := range all {
		if n := len(s.networks); n == 0 || !s.networks[n-1].Contains(p.Addr()) {
			s.networks = append(s.networks, p)
		}
	}
	for _, p := range r.BlockedPaths {
		i := strings.IndexByte(p+"*", '*')
		s.paths = append(s.paths, pathRule{p[:i], p[i:]})
	}
	for _, c := range r.BlockedCountries {
		s.countries[countryIndex(c)] = true
	}
	return s, nil
}

// Clean normalises rules and removes duplicates. It fails with ErrInvalid, naming the first that isn't one.
func (r Rules) Clean() (out Rules, err error) {
	for _, kind := range []struct {
		name string
		in   []string
		out  *[]string
		one  func(string) (clean string, ok bool)
		as   string
	}{
		{"hostname", r.Hostnames, &out.Hostnames, cleanHostname,
			"give it as example.com, or as *.example.com for all that is under it"},
		{"address", r.BlockedAddresses, &out.BlockedAddresses, cleanNetwork,
			"give it as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"},
		{"country", r.BlockedCountries, &out.BlockedCountries, cleanCountry,
			"give its two letters (ISO 3166-1), as DE"},
		{"path", r.BlockedPaths, &out.BlockedPaths, cleanPath,
			"begin it with / or *, at most 255 bytes; * is anything up to the next /, ** anything at all"},
	} {
		if len(kind.in) > maxRules {
			return Rules{}, fmt.Errorf("%w: there are %d rules of the kind %s; give at most %d",
				ErrInvalid, len(kind.in), kind.name, maxRules)
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
	if a := p.Addr(); a.Is4In6() { // visitors' addresses are unmapped too
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
	ok := s != "" && len(s) <= maxPattern && (s[0] == '/' || s[0] == '*') && utf8.ValidString(s) &&
		strings.IndexFunc(s, unicode.IsControl) < 0
	return s, ok
}

// matchPath reports whether a whole path matches a pattern of a rule, which has no escapes.
func matchPath(pattern, path string) bool { return matchWildcards(pattern, path, false) }
