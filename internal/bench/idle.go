package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"nowcast/internal/retry"
)

// benchIdle waits a minute, in which the garbage of the start is collected, and prints the memory of the
// process and of its children.
func benchIdle(ctx context.Context, s *server) error {
	fmt.Printf("ready after %v\n", s.startTime.Round(time.Millisecond))
	if err := retry.Sleep(ctx, time.Minute); err != nil {
		return err
	}
	total := 0
	for _, pid := range append(children(s.pid), s.pid) {
		resident, anonymous := memory(pid)
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(cmdline), "\x00")
		name := args[min(1, len(args)-1)]
		fmt.Printf("%-24s resident %4d MB, of it anonymous %4d MB\n", name, resident>>10, anonymous>>10)
		total += resident
	}
	fmt.Printf("%-24s resident %4d MB\n", "all", total>>10)
	return nil
}
