package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"nowcast/internal/retry"
)

const (
	// LockTimeout is how long a start waits for the lock of a process that may be ending.
	LockTimeout = 5 * time.Second

	childLockTimeout = 15 * time.Second // for the child of a killed parent to drain
	lockRetryEvery   = 20 * time.Millisecond
)

// InUseError says that another process holds a lock.
type InUseError struct {
	File string
	PID  int // of the process that wrote its id into the file; 0 when unknown
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("data dir %s is in use by %s: stop that one or give another --data-dir",
		filepath.Dir(filepath.Dir(e.File)), e.Holder())
}

// Holder names the process that holds the lock.
func (e *InUseError) Holder() string {
	if e.PID == 0 {
		return "another nowcast"
	}
	return fmt.Sprintf("another nowcast (pid %d)", e.PID)
}

// Lock takes the exclusive lock (flock) of a file and writes this process's id into it. The system releases
// it when the process ends, in any way. While another process holds it, Lock tries again for timeout or until
// ctx ends; it fails with *InUseError.
func Lock(ctx context.Context, file string, timeout time.Duration) (unlock func(), err error) {
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
			writePID(f)
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if time.Now().After(deadline) {
			return nil, &InUseError{File: file, PID: readPID(f)}
		}
		if err = retry.Sleep(ctx, lockRetryEvery); err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
	}
}

// writePID writes this process's id, which is only for messages: a disk that is full is no reason to fail.
func writePID(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
}

func readPID(f *os.File) int {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // ends with EOF
	pid, _ := strconv.Atoi(string(b[:n]))
	return pid
}

// lockDir makes the directory of an embedded part and locks it for this process.
func lockDir(dir string) (unlock func(), err error) {
	if err := MakePrivate(dir); err != nil {
		return nil, fmt.Errorf("make data dir: %w", err)
	}
	return Lock(context.Background(), filepath.Join(dir, "lock"), LockTimeout)
}
