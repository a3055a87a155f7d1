package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idle waits until start-up garbage is gone and adds up what the process and its children hold.
func idle(ctx context.Context, s *server) error {
	fmt.Printf("ready after %v\n", s.started.Round(time.Millisecond))
	select {
	case <-time.After(60 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	total := 0
	for _, pid := range append(children(s.cmd.Process.Pid), s.cmd.Process.Pid) {
		rss, anon := memory(pid)
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(cmd), "\x00")
		fmt.Printf("%-24s resident %4d MB, of it anonymous %4d MB\n", args[min(1, len(args)-1)], rss>>10, anon>>10)
		total += rss
	}
	fmt.Printf("%-24s resident %4d MB\n", "all", total>>10)
	return nil
}

func children(parent int) (ids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			ids = append(ids, id)
		}
	}
	return ids
}

// memory is resident and anonymous memory in KB.
func memory(pid int) (rss, anon int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "VmRSS:":
			rss, _ = strconv.Atoi(f[1])
		case "RssAnon:":
			anon, _ = strconv.Atoi(f[1])
		}
	}
	return rss, anon
}
