package httpserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME gets the certificate of one name from a certificate authority (RFC 8555), and renews it 30 days
// before it expires. The authority checks the name by connecting to its port 443 (challenge tls-alpn-01) or,
// where HTTPHandler serves that, to its port 80 (http-01).
type ACME struct {
	domain  string
	log     *slog.Logger
	manager *autocert.Manager

	mu       sync.Mutex
	failures int
	retryAt  time.Time
	lastErr  error
}

// NewACME makes the client of the authority at a directory URL; "" is Let's Encrypt. Account key and
// certificates are kept in the cache directory. Its use accepts the authority's terms of service.
func NewACME(domain, cache, directory string, log *slog.Logger) (*ACME, error) {
	name := strings.ToLower(domain)
	if !strings.Contains(strings.Trim(name, "."), ".") || strings.ContainsAny(name, ":/@*_ []") ||
		strings.Trim(name, ".0123456789") == "" {
		return nil, fmt.Errorf("%q is no name that a certificate can have: give one as stats.example.com",
			domain)
	}
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cache),
		HostPolicy: autocert.HostWhitelist(name)}
	if directory != "" {
		m.Client = &acme.Client{DirectoryURL: directory}
	}
	return &ACME{domain: name, log: log, manager: m}, nil
}

// Domain is the name of the certificate.
func (a *ACME) Domain() string { return a.domain }

// TLSConfig returns the configuration of a server with the certificate.
func (a *ACME) TLSConfig() *tls.Config {
	c := a.manager.TLSConfig()
	c.MinVersion, c.GetCertificate = tls.VersionTLS12, a.get
	return c
}

// HTTPHandler answers the authority's requests, and redirects all others to the same path at base.
func (a *ACME) HTTPHandler(base string) http.Handler { return a.manager.HTTPHandler(RedirectTo(base)) }

// acmeRetry is the pause after a failure, by the number of failures before. Authorities lock out a client
// that fails more than about five times an hour. autocert remembers a failure for a minute by itself.
var acmeRetry = []time.Duration{65 * time.Second, 3 * time.Minute, 10 * time.Minute, 20 * time.Minute}

// get returns the certificate. While there is none, it asks the authority, at the pace of acmeRetry.
func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
		return a.manager.GetCertificate(hello)
	}
	if !strings.EqualFold(strings.TrimSuffix(hello.ServerName, "."), a.domain) {
		return nil, fmt.Errorf("there is a certificate for %s only", a.domain)
	}
	a.mu.Lock()
	wait, err := time.Until(a.retryAt), a.lastErr
	a.mu.Unlock()
	if wait > 0 {
		return nil, err
	}
	// Every client gets the same ECDSA certificate: the manager would get a second one, with an RSA key, for
	// clients that list only cipher suites of TLS 1.3.
	c, err := a.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: a.domain,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.failures, a.retryAt, a.lastErr = 0, time.Time{}, nil
		return c, nil
	}
	err = fmt.Errorf("get a certificate for %s: %w: the name has to lead to this machine, and its port 443 "+
		"to this process", a.domain, err)
	if time.Until(a.retryAt) <= 0 { // the first of those that waited for the same answer
		pause := acmeRetry[min(a.failures, len(acmeRetry)-1)]
		a.failures, a.retryAt, a.lastErr = a.failures+1, time.Now().Add(pause), err
		a.log.Error("no certificate", "error", err, "next try in", pause)
	}
	return nil, err
}

// Run gets the certificate before the first client asks for it, and returns when it is there or ctx ends.
// report tells what went wrong. The server has to run meanwhile.
func (a *ACME) Run(ctx context.Context, report func(error)) error {
	for {
		_, err := a.get(&tls.ClientHelloInfo{ServerName: a.domain})
		if err == nil {
			return nil
		}
		report(err)
		a.mu.Lock()
		wait := time.Until(a.retryAt)
		a.mu.Unlock()
		retry := time.NewTimer(max(wait, time.Second))
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return ctx.Err()
		}
	}
}

// RedirectTo redirects every request to the same path at base, an URL without a path.
func RedirectTo(base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := r.URL.EscapedPath()
		if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") {
			target = "/"
		}
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", strings.TrimSuffix(base, "/")+target)
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}
