package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	noEngine  = "this nowcast was built without the embedded ClickHouse: give --clickhouse the address of a server"
	noLibrary = "the embedded ClickHouse needs libchdb.so: `make build` puts it beside the binary, --libchdb or NOWCAST_LIBCHDB names it, or give --clickhouse the address of a server"
)

// FindLibrary finds the engine's library: named names it; else the environment's NOWCAST_LIBCHDB; else it lies beside this
// program; else in /usr/lib/nowcast. The error says how to get it.
func FindLibrary(named string) (string, error) {
	if !hasEngine {
		return "", errors.New(noEngine)
	}
	if named == "" {
		named = os.Getenv("NOWCAST_LIBCHDB")
	}
	if named != "" {
		path, err := filepath.Abs(named)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("find the embedded ClickHouse: %w; %s", err, noLibrary)
		}
		return path, nil
	}
	places := []string{"/usr/lib/nowcast/libchdb.so"}
	if program, err := os.Executable(); err == nil {
		places = append([]string{filepath.Join(filepath.Dir(program), "libchdb.so")}, places...)
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errors.New(noLibrary)
}
