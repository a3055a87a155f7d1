package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nowcast/internal/embedded"
)

// dataDir is the directory of `nowcast all`, locked for one process.
type dataDir struct {
	path   string
	unlock func()
}

// openDataDir makes the directory if it is missing, closes it to other users, and locks it. The system
// releases the lock however the process ends, which may take a moment: openDataDir waits for it up to
// embedded.LockTimeout.
func openDataDir(ctx context.Context, path string) (*dataDir, error) {
	unusable := func(err error) error {
		return fmt.Errorf("data dir %s can't be used (%w): give one that this user may write to, and only "+
			"this user, with --data-dir", path, err)
	}
	err := embedded.MakePrivate(path)
	if foreign := new(embedded.ForeignDirError); errors.As(err, &foreign) && foreign.Writable {
		return nil, inForeignDir(path, foreign)
	}
	if err != nil {
		return nil, unusable(err)
	}
	unlock, err := embedded.Lock(ctx, filepath.Join(path, "lock"), embedded.LockTimeout)
	var inUse *embedded.InUseError
	switch {
	case errors.As(err, &inUse):
		return nil, fmt.Errorf("data dir %s is in use by %s: stop that one, "+
			"or give this one another --data-dir, --listen and --ops-listen", path, inUse.Holder())
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, unusable(err)
	}
	return &dataDir{path, unlock}, nil
}

// inForeignDir says what to do where the data dir belongs to another user and this one may write to it, as to
// the root of a volume.
func inForeignDir(path string, err error) error {
	below := filepath.Join(path, "data")
	move := ""
	if _, err := os.Stat(filepath.Join(path, "broker")); err == nil {
		move = " Move what an earlier version has stored there into it."
	}
	return fmt.Errorf("data dir %s can't be used (%w): others could replace what is in it. "+
		"If it is the root of a volume, give a directory below it, which is made for this user alone: "+
		"--data-dir %s.%s", path, err, below, move)
}

// close removes the addresses of the running process and releases the lock.
func (d *dataDir) close() {
	os.Remove(d.file("endpoints.json"))
	d.unlock()
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// endpoints are the addresses of Kafka and ClickHouse of a running `nowcast all`, for other commands.
type endpoints struct {
	Kafka      string `json:"kafka"`      // host:port,… or unix:/path.sock
	Clickhouse string `json:"clickhouse"` // as --clickhouse takes it, or unix:///path.sock
}

func (d *dataDir) writeEndpoints(e endpoints) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	return d.write("endpoints.json", append(b, '\n'))
}

// write replaces a file atomically. Only this user may read it.
func (d *dataDir) write(name string, b []byte) error {
	temp := d.file(name + ".new")
	err := os.WriteFile(temp, b, 0o600)
	if err == nil {
		err = os.Rename(temp, d.file(name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

const adminKeyFile = "admin.key"

// readAdminKey returns the admin key that the first start stored in a data dir; "" when there is none.
func readAdminKey(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, adminKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the admin key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
