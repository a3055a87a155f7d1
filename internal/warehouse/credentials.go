package warehouse

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/credential"
)

// Credentials are what an address doesn't have. New connections use the current ones.
type Credentials struct {
	TLS      *credential.TLS    // nil: the system's authorities and no certificate of this process
	Password *credential.Secret // nil: the address's
}

// apply completes the options of an address.
func (c *Credentials) apply(o *clickhouse.Options) error {
	if c.Password != nil && o.Auth.Password != "" {
		return errors.New("it has a password, and one is given apart from it too: leave one out")
	}
	if o.TLS == nil {
		if c.TLS != nil {
			return errors.New(
				"certificates are for encrypted connections: add ?secure=true to the address, and " +
					"name the port on which ClickHouse has TLS (9440 or 8443)",
			)
		}
		return nil
	}
	if c.TLS == nil {
		c.TLS, _ = credential.OpenTLS(credential.Files{}, nil) // reads no file, so it can't fail
	}
	d := &tlsDialer{credentials: c.TLS, options: o.TLS, dialer: net.Dialer{Timeout: o.DialTimeout}}
	if o.Protocol == clickhouse.Native {
		o.DialContext = d.dial
		return nil
	}
	o.TransportFunc = func(t *http.Transport) (http.RoundTripper, error) {
		t.DialTLSContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
			return d.dial(ctx,
				addr)
		}
		return t, nil
	}
	return nil
}

// tlsDialer opens encrypted connections.
type tlsDialer struct {
	credentials *credential.TLS
	options     *tls.Config // skip_verify and tls_server_name of the address
	dialer      net.Dialer
}

func (d *tlsDialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if d.options.ServerName != "" {
		host = d.options.ServerName
	}
	conn, err := d.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	config := d.credentials.Config(host)
	config.InsecureSkipVerify = d.options.InsecureSkipVerify //nolint:gosec // where the address asks for it
	ctx, cancel := context.WithTimeout(ctx, d.dialer.Timeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, credential.Explain(err, addr, "--clickhouse")
	}
	return explainedConn{secure, addr}, nil
}

// explainedConn explains errors by which the server refuses this client's certificate: with TLS 1.3 they come
// with the first read.
type explainedConn struct {
	net.Conn
	addr string
}

func (c explainedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		err = credential.Explain(err, c.addr, "--clickhouse")
	}
	return n, err
}

// openPool opens the pool. Where the password may change, each change makes a new pool.
func openPool(o *clickhouse.Options, password *credential.Secret) (driver.Conn, error) {
	if password == nil {
		return clickhouse.Open(o)
	}
	p := &pool{options: o, secret: password}
	_, err := p.refresh()
	return p, err
}

// pool is a driver.Conn whose connections use the current password. Connections that are in use when the
// password changes are closed when they become idle.
type pool struct {
	options *clickhouse.Options
	secret  *credential.Secret

	mu       sync.Mutex
	conn     driver.Conn
	password string
	closed   bool
}

func (p *pool) refresh() (driver.Conn, error) {
	password := p.secret.Value()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil && (p.closed || password == p.password) {
		return p.conn, nil
	}
	o := *p.options
	o.Auth.Password = password
	conn, err := clickhouse.Open(&o)
	if err != nil {
		return p.conn, err
	}
	if p.conn != nil {
		_ = p.conn.Close() // fails with connections that are broken already
	}
	p.conn, p.password = conn, password
	return conn, nil
}

// current returns the driver's pool. The options are those of the first one, so it can't fail.
func (p *pool) current() driver.Conn {
	conn, _ := p.refresh()
	return conn
}

func (p *pool) Contributors() []string { return p.current().Contributors() }

func (p *pool) ServerVersion() (*driver.ServerVersion, error) { return p.current().ServerVersion() }

func (p *pool) Select(ctx context.Context, dest any, query string, args ...any) error {
	return p.current().Select(ctx, dest, query, args...)
}

func (p *pool) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	return p.current().Query(ctx, query, args...)
}

func (p *pool) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	return p.current().QueryRow(ctx, query, args...)
}

func (p *pool) PrepareBatch(
	ctx context.Context, query string, opts ...driver.PrepareBatchOption,
) (driver.Batch, error) {
	return p.current().PrepareBatch(ctx, query, opts...)
}

func (p *pool) Exec(ctx context.Context, query string, args ...any) error {
	return p.current().Exec(ctx, query, args...)
}

func (p *pool) AsyncInsert(ctx context.Context, query string, wait bool, args ...any) error {
	return p.current().AsyncInsert(ctx, query, wait, args...) //nolint:staticcheck // part of the interface
}

func (p *pool) QueryFormat(ctx context.Context, format, query string, args ...any) (io.ReadCloser, error) {
	return p.current().QueryFormat(ctx, format, query, args...)
}

func (p *pool) InsertFormat(ctx context.Context, format, query string, data io.Reader) error {
	return p.current().InsertFormat(ctx, format, query, data)
}

func (p *pool) Ping(ctx context.Context) error { return p.current().Ping(ctx) }

func (p *pool) Stats() driver.Stats { return p.current().Stats() }

func (p *pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.conn.Close()
}
