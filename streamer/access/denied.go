package access

import (
	"fmt"
	"net/http"
	"time"
)

// Denied is the error of a request that may not do what it asks for. Reason is one sentence that says what
// to do.
type Denied struct {
	Kind      DeniedKind
	Reason    string
	Challenge string        // the WWW-Authenticate header of the answer (RFC 9110); "" for none
	Wait      time.Duration // of TooMany: how long the client has to wait
}

// DeniedKind says why a request is denied.
type DeniedKind uint8

// The kinds of Denied.
const (
	Unauthenticated DeniedKind = iota + 1 // no valid credential
	Forbidden                             // the credentials do not suffice
	NotFound                              // no such site or link, and the client may know that
	TooMany                               // too many failed keys and codes from the client's address
)

func (d *Denied) Error() string { return d.Reason }

func forbidden(format string, args ...any) *Denied {
	return &Denied{Kind: Forbidden, Reason: fmt.Sprintf(format, args...)}
}

// unauthenticated names the credential that the request presents and that is not valid.
func unauthenticated(r *http.Request) *Denied {
	q := r.URL.Query()
	switch {
	case q.Get("ticket") != "":
		return &Denied{Kind: Unauthenticated,
			Reason: "this ticket isn't valid (any more); ask for a new one at POST /api/v1/tickets"}
	case q.Get("share") != "":
		return &Denied{Kind: Unauthenticated, Reason: invalidLink}
	}
	return &Denied{Kind: Unauthenticated, Challenge: "Bearer",
		Reason: "a key is needed: send `Authorization: Bearer nck_…`, or log in at /login in the browser"}
}
