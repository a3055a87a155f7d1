//go:build linux && !noembed

package embedded

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// raiseNiceness raises the niceness of all threads of this process by so much, to at most 19. A new
// thread inherits the niceness of the thread that creates it, and one may be created during the scan, so
// raiseNiceness scans until it finds no thread to change.
func raiseNiceness(by int) error {
	// The system call returns 20 minus the niceness.
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, os.Getpid())
	if err != nil {
		return fmt.Errorf("read own priority: %w", err)
	}
	want := min(19, 20-own+by)
	for changed := true; changed; {
		changed = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list threads: %w", err)
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, id)
			if err == nil && 20-priority < want {
				changed = true
				err = syscall.Setpriority(syscall.PRIO_PROCESS, id, want)
			}
			if err != nil && err != syscall.ESRCH { //nolint:errorlint // a system call doesn't wrap its error
				return fmt.Errorf("raise a thread's niceness: %w", err)
			}
		}
	}
	return nil
}
