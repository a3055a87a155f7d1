package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nowcast/internal/retry"
)

const nowcastBinary = "bin/nowcast"

// settleTime is how long a server has to give back what it needed only while its clients connected. Nobody
// asks it to: a collection that a benchmark forces would hide what the machine sees.
const settleTime = time.Minute

// logf writes a line of progress to stderr; results go to stdout.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// background runs f until stop is called; stop waits for its end.
func background(ctx context.Context, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			logf("%v", err)
		}
	}()
	return func() { cancel(); <-done }
}

// waitFor checks a condition every 20 ms until it holds, at most for limit.
func waitFor(ctx context.Context, limit time.Duration, condition func() bool) error {
	for end := time.Now().Add(limit); !condition(); {
		if time.Now().After(end) {
			return fmt.Errorf("not done after %v", limit)
		}
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// waitReady waits until a nowcast process is ready and lacks nothing, by the address of its ops listener.
func waitReady(ctx context.Context, ops string) error {
	return waitFor(ctx, time.Minute, func() bool {
		body, err := get(ctx, "http://"+ops+"/readyz")
		return err == nil && strings.Contains(body, `"degraded":{}`)
	})
}

// startProcess starts a program whose stderr is this one's. stop sends SIGTERM and, after 30 s, SIGKILL.
func startProcess(bin string, args ...string) (pid int, stop func(), err error) {
	cmd := exec.Command(bin, args...) //nolint:noctx // stop ends it
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", bin, err)
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	}, nil
}

// freeAddrs returns n addresses of a host that nobody listens on.
func freeAddrs(ctx context.Context, host string, n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", host+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// get returns the body of a GET whose status is 200.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(b), err
}

// collectGarbage has a nowcast process run its garbage collector. A sync.Pool keeps its values for one
// collection.
func collectGarbage(ctx context.Context, ops string) error {
	for range 2 {
		if _, err := get(ctx, "http://"+ops+"/debug/pprof/heap?gc=1"); err != nil {
			return err
		}
	}
	return nil
}

// metric reads a metric without labels from the Prometheus text format.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// ownCPU is the user and system time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf is the user and system time of another process, exact to 10 ms.
func cpuOf(pid int) time.Duration {
	f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// children are the ids of a process's child processes.
func children(parent int) (ids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if f := statFields(file); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			ids = append(ids, id)
		}
	}
	return ids
}

// statFields are the fields of a /proc/PID/stat from the third, the state, on: the second may hold spaces.
func statFields(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.Fields(rest)
}

// pssKB is a process's proportional set size in KB: its resident memory, where a page that n processes share
// counts as an nth. The kernel counts it, without a word to the process: garbage and free heap that the
// process has not returned are part of it.
func pssKB(pid int) int {
	pss, _ := memory(pid)
	return pss
}

// memory is a process's proportional set size and its anonymous part, in KB.
func memory(pid int) (pss, anonymous int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "Pss:":
			pss, _ = strconv.Atoi(f[1])
		case "Pss_Anon:":
			anonymous, _ = strconv.Atoi(f[1])
		}
	}
	return pss, anonymous
}
