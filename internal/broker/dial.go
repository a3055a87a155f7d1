package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"nowcast/internal/credential"
)

// unixPrefix begins the address of an embedded broker: unix: and the absolute path of its socket.
const unixPrefix = "unix:"

// embeddedAddr stands for an embedded broker where kafka-go needs a host and a port.
const embeddedAddr = "embedded.invalid:9092"

// CheckAddrs reports what is wrong with the addresses of brokers. Its error doesn't repeat an address, which
// may have a password in it.
func CheckAddrs(addrs []string) error {
	const form = "give each broker as host:port, separated by commas"
	for i, a := range addrs {
		nth := ""
		if len(addrs) > 1 {
			nth = fmt.Sprintf(" (number %d)", i+1)
		}
		if path, ok := strings.CutPrefix(a, unixPrefix); ok && strings.HasPrefix(path, "/") {
			if len(addrs) > 1 {
				return errors.New("a broker on a socket is the only one: give no other address beside it")
			}
			continue
		}
		host, port, err := net.SplitHostPort(a)
		n, portErr := strconv.ParseUint(port, 10, 16)
		switch {
		case strings.Contains(a, "://"):
			return fmt.Errorf(
				"the address of a broker%s is a URL: %s, and TLS and SASL by the --kafka-… flags",
				nth,
				form,
			)
		case strings.Contains(a, "@"):
			return fmt.Errorf(
				"the address of a broker%s has a user in it: %s, and the user with --kafka-user",
				nth,
				form,
			)
		case strings.ContainsFunc(a, unicode.IsSpace):
			return fmt.Errorf("the address of a broker%s has a space in it: %s", nth, form)
		case err != nil || port == "":
			return fmt.Errorf("the address of a broker%s has no port: %s", nth, form)
		case portErr != nil || n == 0:
			return fmt.Errorf("the address of a broker%s has no port of 1 to 65535: %s", nth, form)
		case host == "" || strings.ContainsAny(host, "/?#\\%"):
			return fmt.Errorf("the address of a broker%s has no host: %s", nth, form)
		}
	}
	return nil
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// socketDialer makes a dialer that connects to a socket, whatever the address is.
func socketDialer(dial dialer, path string) dialer {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "unix", path) }
}

// How long a connection may take. With TLS and SASL it has up to eight round trips.
const (
	plainDialTimeout  = time.Second
	secureDialTimeout = 4 * time.Second
)

// connecting makes a dialer whose connections are encrypted and authenticated as s says, and have answered a
// request. The kernel of a hung broker still accepts connections, and kafka-go tries the next address only
// when dialling fails.
func (c *Client) connecting(dial dialer, s Security) dialer {
	secure, limit := s.TLS != nil || s.SASL != nil, plainDialTimeout
	if secure {
		limit = secureDialTimeout
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if secure {
			// The request that needs the connection may have less time than TLS and a login take over a slow
			// line. kafka-go keeps a connection that is ready later for the next attempt.
			ctx = context.WithoutCancel(ctx)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		defer context.AfterFunc(c.open, cancel)()
		conn, err := c.connect(ctx, dial, network, addr, s)
		if err == nil || !errors.Is(err, context.Canceled) {
			c.dialError.Store(&err)
		}
		return conn, err
	}
}

func (c *Client) connect(
	ctx context.Context,
	dial dialer,
	network, addr string,
	s Security,
) (net.Conn, error) {
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if s.TLS != nil {
		conn, err = handshake(ctx, conn, addr, s.TLS)
	}
	if err == nil {
		err = c.begin(ctx, conn, addr, s)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// begin asks for the API versions, or authenticates, which answers as well: before it, Kafka takes only one
// request for the versions, and that is kafka-go's.
func (c *Client) begin(ctx context.Context, conn net.Conn, addr string, s Security) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	var err error
	if s.SASL == nil {
		err = probe(conn, addr)
	} else {
		err = c.authenticate(ctx, conn, addr, s.SASL)
	}
	if err = credential.Explain(err, addr, "--kafka"); err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn.SetDeadline(time.Time{})
}

func probe(conn net.Conn, addr string) error {
	// size 10, API key 18 (ApiVersions), version 0, correlation id 0, no client id
	if _, err := conn.Write([]byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff}); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return fmt.Errorf("ask for its API versions: %w", err)
	}
	if size[0] == 0x15 || size[0] == 0x16 { // a TLS record: alert or handshake
		return credential.NewError(nil, "%s speaks TLS on this port: add --kafka-tls", addr)
	}
	_, err := io.CopyN(io.Discard, conn, int64(min(binary.BigEndian.Uint32(size[:]), 1<<16)))
	return err
}
