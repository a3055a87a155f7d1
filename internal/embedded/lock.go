package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nowcast/internal/retry"
)

const (
	childLockTimeout = 15 * time.Second // for the child of a killed parent to drain
	lockRetryEvery   = 20 * time.Millisecond
)

// lockFile takes the exclusive lock (flock) of a file. The system releases it when the process ends, in
// any way. While another process holds it, lockFile tries again for timeout or until ctx ends.
func lockFile(ctx context.Context, file string, timeout time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("use data dir: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	deadline := time.Now().Add(timeout)
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("data dir %s is in use by another nowcast: "+
				"stop that one or give another --data-dir", filepath.Dir(filepath.Dir(file)))
		}
		if err = retry.Sleep(ctx, lockRetryEvery); err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
	}
}

// lockDir creates the directory of an embedded part and locks it for this process.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data dir: %w", err)
	}
	return lockFile(context.Background(), filepath.Join(dir, "lock"), 0)
}
