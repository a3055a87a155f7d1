package access

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"nowcast/internal/httpserver"
	"nowcast/internal/site"
)

// Config says where browsers find this streamer and what it knows besides the sites topic.
type Config struct {
	// as https://stats.example.com or https://example.com/stats; cookies are Secure when it is https; "" if
	// unknown
	PublicURL    string
	AllowedHosts []string // further host names that requests may name, see httpserver.NewHosts
	DefaultSite  string   // the site of requests that name none; "": the first one created
	AdminKey     string   // the operator's admin key, which is not in the sites topic; "": none

	Metrics prometheus.Registerer // nil for none
}

// Validate returns an error that says what to change.
func (c Config) Validate() error {
	if _, err := BasePath(c.PublicURL); err != nil {
		return err
	}
	if _, err := httpserver.NewHosts(c.AllowedHosts...); err != nil {
		return err
	}
	if c.AdminKey != "" {
		return checkAdminKey(c.AdminKey)
	}
	return nil
}

// ownPaths are the first segments of Nowcast's own paths.
var ownPaths = map[string]bool{"api": true, "js": true, "login": true, "logout": true, "share": true,
	"assets": true, "pixel.gif": true, "robots.txt": true, "favicon.svg": true, "favicon.ico": true,
	"healthz": true, "readyz": true, "metrics": true}

// BasePath returns the path of a public URL, as /stats; "" for none. It fails if the text is no address of
// http or https, and if a request with the path could be mistaken for one without it.
func BasePath(publicURL string) (string, error) {
	if publicURL == "" {
		return "", nil
	}
	u, err := url.Parse(publicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(publicURL, "#") {
		return "", errors.New("the public URL has to begin with http:// or https:// and to have a host and " +
			"at most a path, as https://stats.example.com or https://example.com/stats")
	}
	base := strings.TrimSuffix(u.Path, "/")
	if base == "" {
		return "", nil
	}
	first, _, _ := strings.Cut(base[1:], "/")
	_, notDomain := site.Domain(first)
	if path.Clean(base) != base || strings.Trim(base, pathCharacters) != "" || ownPaths[first] ||
		notDomain == nil {
		return "", fmt.Errorf("the path %q of the public URL can't be used: give one of letters, digits, "+
			"hyphens and slashes, as /stats, that isn't one of nowcast's own and no host name", base)
	}
	return base, nil
}

const pathCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~./"
