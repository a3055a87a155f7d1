//go:build linux && !noembed

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"time"

	"nowcast/internal/embedded/chdb"
	"nowcast/internal/embedded/facade"
)

const hasEngine = true

// runClickHouse is the engine's process.
func runClickHouse(ctx context.Context, c childConfig) error {
	l, err := inherited()
	if err != nil {
		return err
	}
	// What is live is in other processes, and history and inserts can wait for it.
	if err := yield(10); err != nil {
		c.log.Warn("queries may slow down what is live", "error", err)
	}
	lib, err := chdb.Load(c.library)
	if err != nil {
		return hopelessError{err}
	}
	f, err := facade.New(lib, c.sessions,
		"--path="+filepath.Join(c.dir, "data"),
		"--config-file=", // else ./config.xml is read
		"--max_server_memory_usage_to_ram_ratio=0.5",
		"--mark_cache_size=67108864",
		"--primary_index_cache_size=67108864",
		"--uncompressed_cache_size=0",
		"--mmap_cache_size=0",
	)
	if err != nil {
		return err
	}
	c.log.Info("engine is open", "version", f.Version(), "library", c.library)
	trimmed := time.AfterFunc(settledTime, func() { c.trim() })
	defer trimmed.Stop()
	c.trim()

	requests, cancel := context.WithCancel(context.Background())
	defer cancel()
	srv := &http.Server{
		Handler:           f,
		ReadHeaderTimeout: headerTime,
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve socket: %w", err)
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(context.Background(), drainTime*7/10)
	defer stop()
	if err := srv.Shutdown(drain); err != nil {
		cancel() // kills the statements
		if err := srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.log.Warn("close socket", "error", err)
		}
	}
	f.Close()
	return nil
}

// trim makes the resident memory what is in use: after a start that is a third of what loading took.
func (c *childConfig) trim() {
	if err := chdb.ReleasePages(c.library); err != nil {
		c.log.Warn(err.Error())
	}
	debug.FreeOSMemory()
}
