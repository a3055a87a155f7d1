package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

const dsnHint = "give it as clickhouse://user@host:9000/database or http(s)://user@host:8123/database"

// errAddress stands for errors whose text might repeat a part of the password.
var errAddress = errors.New("it can't be read: " + dsnHint +
	", with characters such as / ? # @ : of the password escaped (%2F), or the password in a file")

// readAddress reads an address in any of Open's forms.
func readAddress(dsn string) (*clickhouse.Options, error) {
	scheme, rest, found := strings.Cut(dsn, "://")
	if !found {
		return nil, errors.New(dsnHint)
	}
	user, rest, err := cutUser(rest)
	if err != nil {
		return nil, err
	}
	dsn = scheme + "://" + rest
	var o *clickhouse.Options
	switch scheme {
	case "unix":
		o, err = unixOptions(dsn)
	case "https":
		if !strings.Contains(dsn, "secure=") {
			separator := "?"
			if strings.Contains(dsn, "?") {
				separator = "&"
			}
			dsn += separator + "secure=true"
		}
		o, err = clickhouse.ParseDSN(dsn)
	case "clickhouse", "http":
		o, err = clickhouse.ParseDSN(dsn)
	default:
		if strings.ContainsAny(scheme, ":@") { // not a scheme: it may have a password in it
			return nil, errAddress
		}
		return nil, fmt.Errorf("unknown scheme %q: %s", scheme, dsnHint)
	}
	if err != nil {
		if strings.Contains(rest, "@") || strings.Contains(rest, "password") {
			return nil, errAddress
		}
		return nil, err
	}
	if user != nil {
		o.Auth.Username = user.Username()
		if p, ok := user.Password(); ok {
			o.Auth.Password = p
		}
	}
	return o, nil
}

// cutUser takes the user and password out of what follows an address's scheme.
func cutUser(s string) (user *url.Userinfo, rest string, err error) {
	authority := s
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		authority = s[:i]
	}
	i := strings.LastIndexByte(authority, '@')
	if i < 0 {
		if strings.Contains(s, "@") {
			return nil, "", errAddress // most likely a / in a password
		}
		return nil, s, nil
	}
	name, password, found := strings.Cut(authority[:i], ":")
	name, err = url.PathUnescape(name)
	if err != nil {
		return nil, "", errAddress
	}
	user = url.User(name)
	if found {
		if password, err = url.PathUnescape(password); err != nil {
			return nil, "", errAddress
		}
		user = url.UserPassword(name, password)
	}
	return user, s[i+1:], nil
}

func unixOptions(dsn string) (*clickhouse.Options, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("a unix address needs an absolute path: unix:///absolute/path.sock")
	}
	// The host is never dialled. For localhost, net/http ignores a proxy of the environment.
	o, err := clickhouse.ParseDSN("http://localhost/?" + u.RawQuery)
	if err != nil {
		return nil, err
	}
	path := u.Path
	o.DialContext = func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("reach the embedded ClickHouse: %w", err)
		}
		return conn, nil
	}
	return o, nil
}
