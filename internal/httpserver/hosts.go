package httpserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Hosts are the host names by which clients may address a server. A page whose own host name resolves to the
// server's address (DNS rebinding) reads as its own origin whatever the server answers; its requests carry
// that name in Host. IP literals, localhost and names below .localhost are allowed always, because no
// foreign name server answers for them. Ports don't count.
type Hosts struct {
	names    map[string]bool
	suffixes []string // as .example.com, of patterns *.example.com
}

// NewHosts makes the set of names, each a host name, or *.example.com for all names below example.com. An
// empty name is left out.
func NewHosts(names ...string) (Hosts, error) {
	h := Hosts{names: map[string]bool{}}
	for _, name := range names {
		given := name
		name = normalHost(name)
		suffix, wildcard := strings.CutPrefix(name, "*")
		switch {
		case given == "":
		case wildcard && strings.HasPrefix(suffix, ".") && len(suffix) > 1 && !strings.Contains(suffix, "*"):
			h.suffixes = append(h.suffixes, suffix)
		case name == "" || strings.ContainsAny(given, "*/@ ?#,"):
			return h, fmt.Errorf("%q is no host name: give one as stats.example.com or *.example.com", given)
		default:
			h.names[name] = true
		}
	}
	return h, nil
}

// Allow reports whether a request's Host header names this server. No browser sends an empty one.
func (h Hosts) Allow(host string) bool {
	name := normalHost(host)
	if host == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || h.names[name] {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	for _, suffix := range h.suffixes {
		if strings.HasSuffix(name, suffix) && len(name) > len(suffix) {
			return true
		}
	}
	return false
}

// normalHost is a host without its port, the brackets of an IPv6 address and the dot of a full name.
func normalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Handler answers requests whose Host isn't allowed with 421 (Misdirected Request, RFC 9110, 15.5.20).
func (h Hosts) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.Allow(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.Error(w, UnknownHost(r.Host), http.StatusMisdirectedRequest)
	})
}

// UnknownHost is the sentence for a client whose Host isn't allowed.
func UnknownHost(host string) string {
	if len(host) > 80 {
		host = host[:80] + "…"
	}
	return fmt.Sprintf("this server doesn't answer for the host %q; "+
		"its operator can allow the name with --allowed-hosts or --public-url", host)
}
