package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	noEngine = "this nowcast was built without the embedded ClickHouse: " +
		"give --clickhouse the address of a server"
	noLibrary = "the embedded ClickHouse needs libchdb.so: `make build` puts it beside the binary, " +
		"--libchdb or NOWCAST_LIBCHDB names it, or give --clickhouse the address of a server"
)

// FindLibrary returns the path of the engine's library: the first of named, the environment's
// NOWCAST_LIBCHDB, the directory of this program, and /usr/lib/nowcast. A path that is named has to
// exist. The error says how to get the library.
func FindLibrary(named string) (string, error) {
	if !hasEngine {
		return "", errors.New(noEngine)
	}
	if named = cmp.Or(named, os.Getenv("NOWCAST_LIBCHDB")); named != "" {
		path, err := filepath.Abs(named)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("find the embedded ClickHouse: %w; %s", err, noLibrary)
		}
		return path, nil
	}
	candidates := []string{"/usr/lib/nowcast/libchdb.so"}
	if program, err := os.Executable(); err == nil {
		candidates = append([]string{filepath.Join(filepath.Dir(program), "libchdb.so")}, candidates...)
	}
	for _, p := range candidates {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errors.New(noLibrary)
}
