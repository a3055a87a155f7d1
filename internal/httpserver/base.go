package httpserver

import (
	"net/http"
	"strings"
)

// StripBase removes a base path, as /stats, from the requests that have it, so that the server works behind
// a proxy that passes the path on and behind one that removes it. An empty base removes nothing.
func StripBase(base string, next http.Handler) http.Handler {
	if base == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, base); ok && (rest == "" || rest[0] == '/') {
			// In place, because a copy would cost each beacon an allocation; the URL is this request's own.
			r.URL.Path = rest
			if rest == "" {
				r.URL.Path = "/"
			}
			r.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, base)
		}
		next.ServeHTTP(w, r)
	})
}
