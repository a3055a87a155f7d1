//go:build linux && !noembed

package embedded

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// yield lets this process's threads give way to others by so much: those that there are, and thereby all that they make. One may make another while
// this looks, so it looks until there is none left.
func yield(by int) error {
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, os.Getpid()) // the kernel says 20 less the niceness
	if err != nil {
		return fmt.Errorf("read own priority: %w", err)
	}
	want := min(19, 20-own+by)
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("find threads: %w", err)
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			had, err := syscall.Getpriority(syscall.PRIO_PROCESS, id)
			if err == nil && 20-had < want {
				again = true
				err = syscall.Setpriority(syscall.PRIO_PROCESS, id, want)
			}
			if err != nil && err != syscall.ESRCH { //nolint:errorlint // a number
				return fmt.Errorf("lower a thread's priority: %w", err)
			}
		}
	}
	return nil
}
