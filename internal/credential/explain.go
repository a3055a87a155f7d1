package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// Error is a connection that failed because of a certificate, a user or a password. It needs a change by an
// operator on one of the two sides, after which the same attempt may succeed.
type Error struct {
	text  string
	cause error
}

// NewError makes an error for people. The cause isn't part of its text.
func NewError(cause error, format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), cause}
}

func (e *Error) Error() string { return e.text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Explain turns an error of a TLS connection to addr into one that says what to do, in which flags begin
// with prefix, as --kafka. An error that has nothing to do with certificates stays as it is.
func Explain(err error, addr, prefix string) error {
	var (
		invalid   x509.CertificateInvalidError
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		remote    *net.OpError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &host):
		return NewError(err, "the certificate of %s is for %s and not for %s: use a name that it has in %s, "+
			"or give the server a certificate with this one",
			addr, names(host.Certificate), host.Host, prefix)
	case errors.As(err, &authority):
		return NewError(err, "the certificate of %s is from an authority that isn't trusted here: name the "+
			"authority's certificate with %s-ca-file", addr, prefix)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		c := invalid.Cert
		if now := time.Now(); now.Before(c.NotBefore) {
			return NewError(
				err,
				"the certificate of %s isn't valid before %s, and this machine's clock says "+
					"%s: set the clock or replace the certificate",
				addr,
				day(c.NotBefore),
				day(now),
			)
		}
		return NewError(err, "the certificate of %s expired on %s: replace it on the server", addr,
			day(c.NotAfter))
	case errors.As(err, &invalid):
		return NewError(err, "the certificate of %s isn't accepted: %s", addr, invalid.Error())
	case errors.As(err, &record):
		return NewError(
			err,
			"%s doesn't speak TLS: leave it out of this connection, or name the port on which "+
				"the server has it",
			addr,
		)
	case errors.As(err, &remote) && remote.Op == "remote error":
		return NewError(err, "%s refuses this client's certificate (%s): give one that it accepts, and that "+
			"hasn't expired, with %s-cert-file and %s-key-file", addr,
			strings.TrimPrefix(remote.Err.Error(), "tls: "), prefix, prefix)
	}
	return err
}

// Closed reports whether err says that the other side closed the connection.
func Closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host"
	}
	if len(all) > 5 {
		all = append(all[:5], "…")
	}
	return strings.Join(all, ", ")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
