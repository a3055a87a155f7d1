package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the path of the program under test: NOWCAST_BIN, or what `make build` makes.
func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("NOWCAST_BIN")
	if bin == "" {
		bin = "../../bin/nowcast"
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("no program to test: run `make build` first (%v)", err)
	}
	return bin
}

// proc is one running nowcast.
type proc struct {
	cmd  *exec.Cmd
	out  *output
	gone chan struct{}
}

// output is what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// start runs nowcast until the end of the test. A failed test shows the end of its output.
func start(t *testing.T, args ...string) *proc {
	t.Helper()
	p := &proc{cmd: exec.Command(binary(t), args...), out: &output{}, gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = append(os.Environ(), "NOWCAST_LOG_LEVEL=info")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.gone) }()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			s := p.out.String()
			t.Logf("nowcast %s printed:\n%s", strings.Join(args, " "), s[max(0, len(s)-4000):])
		}
	})
	return p
}

// kill sends sig and waits until the process has ended.
func (p *proc) kill(sig syscall.Signal) {
	select {
	case <-p.gone:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	<-p.gone
}

// end stops the process and waits for its children too, so that its data directory can be removed.
func (p *proc) end() {
	children := p.children("")
	select {
	case <-p.gone:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.gone:
		case <-time.After(30 * time.Second):
			p.kill(syscall.SIGKILL)
		}
	}
	for _, id := range children {
		for end := time.Now().Add(15 * time.Second); syscall.Kill(id, 0) == nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// stop sends SIGTERM and returns the exit code.
func (p *proc) stop(t *testing.T) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.gone
		t.Fatal("nowcast didn't end within 40 s of SIGTERM")
	}
	return p.cmd.ProcessState.ExitCode()
}

// children are the process ids of children that run a command of nowcast; "" means any.
func (p *proc) children(command string) (ids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if len(fields) < 2 || fields[1] != strconv.Itoa(p.cmd.Process.Pid) {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if args := strings.Split(string(cmd), "\x00"); command == "" || len(args) > 1 && args[1] == command {
			ids = append(ids, id)
		}
	}
	return ids
}

// port is an address of loopback with a free port, which stays free while a process restarts: it is below
// the range that the system assigns by itself.
func port(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 25_000+rand.IntN(7_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// eventually calls f every 50 ms until it returns nil, and fails the test with its last error after limit.
func eventually(t *testing.T, limit time.Duration, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	last := errors.New("never tried")
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		err := f(ctx)
		if err == nil {
			tick.Stop()
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			t.Fatalf("%s: not within %v: %v", what, limit, last)
		case <-tick.C:
		}
	}
}

// ready waits until the process is ready and lacks nothing, by the address of its ops listener.
func ready(t *testing.T, p *proc, ops string) {
	t.Helper()
	eventually(t, 60*time.Second, "ready", func(ctx context.Context) error {
		select {
		case <-p.gone:
			t.Fatalf("nowcast ended:\n%s", p.out.String())
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body)
		if res.StatusCode != http.StatusOK || !strings.Contains(b.String(), `"degraded":{}`) {
			return fmt.Errorf("%s: %s", res.Status, b.String())
		}
		return nil
	})
}
