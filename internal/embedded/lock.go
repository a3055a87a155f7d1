package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockWait is how long a child waits for one whose parent was killed to drain.
const lockWait = 15 * time.Second

// lock takes the exclusive lock of a file, which the system gives back when the process ends, however it ends. It waits for at
// most wait.
func lock(file string, wait time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("use data dir: %w", err)
	}
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("data dir %s is in use by another nowcast: stop that one or give another --data-dir",
				filepath.Dir(filepath.Dir(file)))
		}
	}
}

// claim makes the directory of one part and locks it for this process.
func claim(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data dir: %w", err)
	}
	return lock(filepath.Join(dir, "lock"), 0)
}
