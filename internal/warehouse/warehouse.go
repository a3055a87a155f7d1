// Package warehouse is Nowcast's ClickHouse: how to reach it and which tables it has.
//
// It promises that after Migrate every table this version needs is there, whoever else migrates at the same moment, and that
// one address form serves the embedded engine and a cluster alike. It keeps no backlog: when ClickHouse is away, calls fail
// after their context's or the connection's time and the caller decides whether to try again.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	dialTimeout = 10 * time.Second // also how long a call waits for a free connection
	readTimeout = 5 * time.Minute  // of one answer; a call's context may be shorter
	openConns   = 14               // the store lane's inserts and the streamer's questions, where both are one process
	idleConns   = 4
)

// DB is a pool of connections to one ClickHouse, safe for concurrent use.
type DB struct {
	driver.Conn
}

// Open reads dsn and dials nothing yet. Known forms:
//
//	clickhouse://user:password@host:9000/database   native protocol (secure=true for TLS)
//	http://user:password@host:8123/database         HTTP, also https://
//	unix:///absolute/path.sock                      HTTP over a unix socket: the embedded engine
//
// Parameters of the query string are clickhouse-go's (compress, dial_timeout, …); any other is a ClickHouse setting.
// Blocks travel in LZ4 unless compress says otherwise.
func Open(dsn string) (*DB, error) {
	o, err := options(dsn)
	if err != nil {
		return nil, fmt.Errorf("read ClickHouse address: %w", err)
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &DB{conn}, nil
}

const forms = "give it as clickhouse://user:password@host:9000/database or http(s)://user:password@host:8123/database"

func options(dsn string) (*clickhouse.Options, error) {
	scheme, _, found := strings.Cut(dsn, "://")
	if !found {
		return nil, errors.New(forms)
	}
	var o *clickhouse.Options
	var err error
	switch scheme {
	case "unix":
		o, err = unixOptions(dsn)
	case "https":
		if !strings.Contains(dsn, "secure=") {
			sep := "?"
			if strings.Contains(dsn, "?") {
				sep = "&"
			}
			dsn += sep + "secure=true"
		}
		o, err = clickhouse.ParseDSN(dsn)
	case "clickhouse", "http":
		o, err = clickhouse.ParseDSN(dsn)
	default:
		return nil, fmt.Errorf("unknown scheme %q: %s", scheme, forms)
	}
	if err != nil {
		return nil, err
	}
	if o.Compression == nil {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	o.ClientInfo.Products = append(o.ClientInfo.Products, struct{ Name, Version string }{"nowcast", "1"})
	setDefault(&o.Auth.Database, "default")
	setDefault(&o.DialTimeout, dialTimeout)
	setDefault(&o.ReadTimeout, readTimeout)
	setDefault(&o.MaxOpenConns, openConns)
	setDefault(&o.MaxIdleConns, idleConns)
	return o, nil
}

func unixOptions(dsn string) (*clickhouse.Options, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("a unix address needs an absolute path: unix:///absolute/path.sock")
	}
	// The host is never dialled; localhost also keeps a proxy of the environment out of the way.
	o, err := clickhouse.ParseDSN("http://localhost/?" + u.RawQuery)
	if err != nil {
		return nil, err
	}
	path := u.Path
	o.DialContext = func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return o, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// ClickHouse's codes of answers that waiting doesn't change.
const (
	codeUnknownDatabase      = 81
	codeUnknownUser          = 192
	codeWrongPassword        = 193
	codeAuthenticationFailed = 516
)

// Wait returns nil once ClickHouse answers. Until then it tries four times a second and says every 5 s why it waits. It
// gives up when ctx ends, and at once when the answer is that the user, the password or the database is wrong.
func (d *DB) Wait(ctx context.Context, log *slog.Logger) error {
	const pace, quiet = 250 * time.Millisecond, 5 * time.Second
	tick := time.NewTicker(pace)
	defer tick.Stop()
	start := time.Now()
	said := start.Add(time.Second - quiet) // the first second is nobody's news
	for {
		err := d.Ping(ctx)
		if err == nil {
			return nil
		}
		if hopeless(err) {
			return fmt.Errorf("reach ClickHouse: %w", err)
		}
		if ctx.Err() == nil && time.Since(said) >= quiet {
			said = time.Now()
			log.Warn("waiting for ClickHouse", "waited", time.Since(start).Round(time.Second), "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for ClickHouse: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func hopeless(err error) bool {
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case codeUnknownDatabase, codeUnknownUser, codeWrongPassword, codeAuthenticationFailed:
		return true
	}
	return false
}
