// Package api is the streamer's side of the HTTP contract: types and routes generated from
// streamer/openapi.yaml by `make generate`, and what every handler of the contract shares: reading a body,
// writing an error, and the principal of a request.
package api

//go:generate go tool -modfile=../../deployments/tools/oapi-codegen/go.mod oapi-codegen -config config.yaml ../openapi.yaml

// DirectSource is the name that queries and filters give to visits without a source.
const DirectSource = "Direct / None"

// Principal is what authorizes a request to read a site. It is comparable and holds no secret, so that
// streams keep it and check it again while they are open. The zero Principal may do nothing.
type Principal struct {
	Kind PrincipalKind
	ID   string // of the key or the share link; "" for Public
	// Generation is that of the site that it was authorized for; 0: no site yet. It may not read another one of
	// the same domain.
	Generation int64
	Expires    int64 // when the cookie that proved it expires, in Unix seconds; 0: it does not expire
}

// PrincipalKind says what a Principal is.
type PrincipalKind uint8

// The kinds of principals.
const (
	NoPrincipal   PrincipalKind = iota
	Public                      // anybody, for a public site
	KeyPrincipal                // an API key: in the request itself, or behind a session or ticket
	LinkPrincipal               // a share link: in the request itself, or behind a cookie or ticket
)
