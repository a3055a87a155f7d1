package assistant

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Path is where Handler answers.
const Path = "/mcp"

// maxRequest bounds what a client sends at once, in bytes. The API takes queries of 256 KB.
const maxRequest = 512 << 10

// maxRequests bounds how many requests are answered at a time. Others are told to try again.
const maxRequests = 64

// Handler answers over streamable HTTP, without sessions. It refuses a request that names another host
// (against DNS rebinding), that a page of another origin makes, or that has no key of its own.
func (s *Server) Handler() (http.Handler, error) {
	if s.key != "" {
		return nil, errors.New("over HTTP every caller has a key of its own: leave out the server's")
	}
	protocol := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp },
		&mcp.StreamableHTTPOptions{
			Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxRequest,
			PropagateRequestCancellation: true,
			DisableLocalhostProtection:   true, // s.hosts are checked instead
		})
	origins, running := http.NewCrossOriginProtection(), make(chan struct{}, maxRequests)
	return s.hosts.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case r.URL.Path != Path:
			refuse(w, http.StatusNotFound, "there is nothing here: the endpoint is "+Path)
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, http.StatusMethodNotAllowed,
				"this endpoint takes POST: it has no sessions and no streams")
		case origins.Check(r) != nil:
			refuse(w, http.StatusForbidden, "this request comes from a page of another origin")
		case bearer(r.Header) == "":
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, noKey)
		default:
			select {
			case running <- struct{}{}:
				defer func() { <-running }()
				protocol.ServeHTTP(w, r)
			default:
				w.Header().Set("Retry-After", "2")
				refuse(w, http.StatusServiceUnavailable,
					"too many requests are running; try again in a moment")
			}
		}
	})), nil
}

func refuse(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": sentence}) // the client may be gone
}
