package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"nowcast/internal/credential"
)

// Security says how connections are encrypted and authenticated; the zero value is neither.
type Security struct {
	TLS  *credential.TLS // nil: no TLS
	SASL *SASL           // nil: no SASL
}

// SASL is a user of Kafka.
type SASL struct {
	Mechanism string // one of Mechanisms
	User      string
	Password  *credential.Secret

	mu       sync.Mutex
	made     sasl.Mechanism // of the newest password: SCRAM's keeps the key that it derived
	password string
}

// Mechanisms are the names of the SASL mechanisms, as flags have them.
func Mechanisms() []string { return []string{"plain", "scram-sha-256", "scram-sha-512"} }

func (s *SASL) mechanism() (m sasl.Mechanism, err error) {
	password := s.Password.Value()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made != nil && s.password == password {
		return s.made, nil
	}
	switch s.Mechanism {
	case "plain":
		m = plain.Mechanism{Username: s.User, Password: password}
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, s.User, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, s.User, password)
	default:
		err = fmt.Errorf("unknown SASL mechanism: give one of %s", strings.Join(Mechanisms(), ", "))
	}
	if err != nil {
		return nil, err
	}
	s.made, s.password = m, password
	return m, nil
}

// handshake makes a connection a TLS one. The broker's certificate has to be for the host of addr. It returns
// a connection to close also with an error.
func handshake(ctx context.Context, conn net.Conn, addr string, t *credential.TLS) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return conn, fmt.Errorf("read the address of a broker: %w", err)
	}
	secure := tls.Client(conn, t.Config(host))
	err = secure.HandshakeContext(ctx)
	switch {
	case err == nil:
		return secure, nil
	case credential.Closed(err):
		err = credential.NewError(err, "%s closed the connection during the TLS handshake: does that port "+
			"speak TLS, and does it ask for a client certificate (--kafka-cert-file)?", addr)
	default:
		err = credential.Explain(err, addr, "--kafka")
	}
	return secure, fmt.Errorf("connect to %s: %w", addr, err)
}

// authenticate runs the SASL exchange of a new connection.
func (c *Client) authenticate(ctx context.Context, conn net.Conn, addr string, s *SASL) error {
	m, err := s.mechanism()
	if err != nil {
		return credential.NewError(
			err,
			"the user or the password can't be used with %s: %v",
			s.Mechanism,
			err,
		)
	}
	k := protocol.NewConn(conn, clientID)
	k.SetVersions(map[protocol.ApiKey]int16{protocol.SaslHandshake: 1, protocol.SaslAuthenticate: 1})
	answer, err := exchange[*saslhandshake.Response](k, &saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return fmt.Errorf("ask for SASL: %w", err)
	}
	switch code := kafka.Error(answer.ErrorCode); {
	case errors.Is(code, kafka.UnsupportedSASLMechanism):
		return credential.NewError(
			code,
			"%s takes the SASL mechanisms %s and not %s: correct --kafka-sasl",
			addr,
			strings.ToLower(strings.Join(answer.Mechanisms, ", ")),
			s.Mechanism,
		)
	case errors.Is(code, kafka.IllegalSASLState):
		return credential.NewError(
			code,
			"%s takes no SASL on this port: leave out --kafka-sasl, or name the "+
				"port of a listener that has it",
			addr,
		)
	case code != 0:
		return code
	}
	host, _, _ := net.SplitHostPort(addr)
	session, message, err := m.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host}))
	for done := false; err == nil && !done; {
		var r *saslauthenticate.Response
		r, err = exchange[*saslauthenticate.Response](k, &saslauthenticate.Request{AuthBytes: message})
		switch {
		case err != nil:
			return fmt.Errorf("authenticate: %w", err)
		case r.ErrorCode != 0:
			return credential.NewError(
				kafka.Error(r.ErrorCode),
				"%s refuses the user %s or its password: correct "+
					"--kafka-user, --kafka-password-file or --kafka-sasl, or add the user to Kafka",
				addr,
				s.User,
			)
		}
		c.reconnectWithin(time.Duration(r.SessionLifetimeMs) * time.Millisecond)
		done, message, err = session.Next(ctx, r.AuthBytes)
	}
	if err != nil {
		return credential.NewError(
			err,
			"%s can't prove that it knows the user %s: is it the right broker? (%v)",
			addr,
			s.User,
			err,
		)
	}
	return nil
}

func exchange[T protocol.Message](k *protocol.Conn, request protocol.Message) (answer T, err error) {
	r, err := k.RoundTrip(request)
	if err != nil {
		return answer, err
	}
	answer, ok := r.(T)
	if !ok {
		return answer, fmt.Errorf("answer of type %T", r)
	}
	return answer, nil
}

// reconnectWithin drops the connections when most of the time that a broker grants a login (KIP-368) is over:
// kafka-go doesn't renew a login, and the broker would close the connection with a request on it. 0 is for
// ever.
func (c *Client) reconnectWithin(lifetime time.Duration) {
	if lifetime <= 0 {
		return
	}
	c.reloginMu.Lock()
	defer c.reloginMu.Unlock()
	if c.relogin != nil || c.open.Err() != nil {
		return
	}
	c.relogin = time.AfterFunc(lifetime*3/4, func() {
		c.reloginMu.Lock()
		c.relogin = nil
		c.reloginMu.Unlock()
		c.transport.CloseIdleConnections()
	})
}
