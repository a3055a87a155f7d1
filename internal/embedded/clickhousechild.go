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

const (
	headerTimeout = 10 * time.Second // of a request on the socket
	niceness      = 10               // above this process's
)

// runClickHouse is the main function of the engine's process.
func runClickHouse(ctx context.Context, c childConfig) error {
	l, err := inheritedListener()
	if err != nil {
		return err
	}
	// History queries and inserts can wait; beacons and live streams, in other processes, can't.
	if err := raiseNiceness(niceness); err != nil {
		c.log.Warn("lower engine's priority: queries may slow down beacons and streams", "error", err)
	}
	lib, err := chdb.Load(c.library)
	if err != nil {
		return permanentError{err}
	}
	f, err := facade.New(lib, c.sessions,
		"--path="+filepath.Join(c.dir, "data"),
		"--config-file=", // without it the engine reads ./config.xml
		"--max_server_memory_usage_to_ram_ratio=0.5",
		"--mark_cache_size=67108864",
		"--primary_index_cache_size=67108864",
		"--uncompressed_cache_size=0",
		"--mmap_cache_size=0",
		"--memory_worker_period_ms=5000", // by default 50, also when idle
	)
	if err != nil {
		return err
	}
	c.log.Info("engine is open", "version", f.Version(), "library", c.library)
	release := time.AfterFunc(settledTime, c.releaseMemory)
	defer release.Stop()
	c.releaseMemory()

	requests, cancel := context.WithCancel(context.Background())
	defer cancel()
	srv := &http.Server{
		Handler:           f,
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve socket: %w", err)
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(context.Background(), drainTimeout*7/10)
	defer stop()
	if err := srv.Shutdown(drain); err != nil {
		cancel() // the facade kills the statements
		if err := srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.log.Warn("close socket", "error", err)
		}
	}
	f.Close()
	return nil
}

// releaseMemory returns unused memory to the system. After a start that is two thirds of what loading
// took.
func (c *childConfig) releaseMemory() {
	if err := chdb.ReleasePages(c.library); err != nil {
		c.log.Warn(err.Error())
	}
	debug.FreeOSMemory()
}
