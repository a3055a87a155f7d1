// Package warehouse opens Nowcast's ClickHouse and creates its tables.
//
// It promises that after Migrate every table of this version exists, also if several instances migrate
// at the same time, and that one form of address serves the embedded engine and a cluster. It keeps no
// backlog: while ClickHouse is unreachable, a call fails when its context ends or the connection times
// out, and the caller decides about a retry.
package warehouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"nowcast/internal/retry"
)

const (
	dialTimeout  = 10 * time.Second // also bounds the wait for a free connection
	readTimeout  = 5 * time.Minute  // of one response; a call's context may end earlier
	maxOpenConns = 14               // inserts of the store lane (6) and history queries (8) in one process
	maxIdleConns = 4
)

// DB is a pool of connections to one ClickHouse, safe for concurrent use.
type DB struct {
	driver.Conn
}

// Open reads dsn. It dials nothing: the first call does. The forms of dsn:
//
//	clickhouse://user:password@host:9000/database   native protocol (secure=true for TLS)
//	http://user:password@host:8123/database         HTTP, also https://
//	unix:///absolute/path.sock                      HTTP over a unix socket: the embedded engine
//
// Parameters of the query string are clickhouse-go's (compress, dial_timeout, …) or ClickHouse settings.
// Blocks are compressed with LZ4 unless the parameter compress names another method. No error repeats the
// user or the password.
func Open(dsn string) (*DB, error) { return OpenWith(dsn, Credentials{}) }

// OpenWith is Open with credentials that the address doesn't have.
func OpenWith(dsn string, c Credentials) (*DB, error) {
	o, err := options(dsn)
	if err == nil {
		err = c.apply(o)
	}
	if err != nil {
		return nil, fmt.Errorf("read ClickHouse address: %w", err)
	}
	conn, err := openPool(o, c.Password)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &DB{conn}, nil
}

func options(dsn string) (*clickhouse.Options, error) {
	o, err := readAddress(dsn)
	if err != nil {
		return nil, err
	}
	if o.Compression == nil {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	o.ClientInfo.Products = append(o.ClientInfo.Products, struct{ Name, Version string }{"nowcast", "1"})
	o.Auth.Database = cmp.Or(o.Auth.Database, "default")
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, readTimeout)
	o.MaxOpenConns = cmp.Or(o.MaxOpenConns, maxOpenConns)
	o.MaxIdleConns = cmp.Or(o.MaxIdleConns, maxIdleConns)
	return o, nil
}

// ClickHouse's error codes that a retry doesn't change.
// Source: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
const (
	codeUnknownDatabase      = 81
	codeUnknownUser          = 192
	codeWrongPassword        = 193
	codeAuthenticationFailed = 516
)

const (
	pingEvery    = 250 * time.Millisecond
	firstLogTime = time.Second // of waiting, before the first log message
	logEvery     = 5 * time.Second
)

// Wait pings ClickHouse four times a second until it answers. From the first second on, it logs every 5
// s why it waits. It returns an error when ctx ends, and at once if ClickHouse refuses the user, the
// password or the database.
func (d *DB) Wait(ctx context.Context, log *slog.Logger) error {
	start := time.Now()
	loggedAt := start.Add(firstLogTime - logEvery)
	for {
		err := d.Ping(ctx)
		if err == nil {
			return nil
		}
		if isPermanent(err) {
			return fmt.Errorf("reach ClickHouse: %w", err)
		}
		if ctx.Err() == nil && time.Since(loggedAt) >= logEvery {
			loggedAt = time.Now()
			log.Warn("waiting for ClickHouse", "waited", time.Since(start).Round(time.Second), "error", err)
		}
		if err := retry.Sleep(ctx, pingEvery); err != nil {
			return fmt.Errorf("wait for ClickHouse: %w", err)
		}
	}
}

// isPermanent reports whether a retry can't change err.
func isPermanent(err error) bool {
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
