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

// binary is the program under test: the one that `make build` makes, or NOWCAST_BIN.
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

// output keeps what a process prints, for the report of a failure.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) { o.mu.Lock(); defer o.mu.Unlock(); return o.b.Write(p) }
func (o *output) String() string              { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// start runs nowcast with args; the test's end ends it, and a failed test shows the end of its log.
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

// kill sends sig and waits for the end.
func (p *proc) kill(sig syscall.Signal) {
	select {
	case <-p.gone:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	<-p.gone
}

// end is for when the test is over: a data dir can be removed once the children are gone too.
func (p *proc) end() {
	kin := p.children("")
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
	for _, id := range kin {
		for end := time.Now().Add(15 * time.Second); syscall.Kill(id, 0) == nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// stop ends it as an operator would, and returns the exit code.
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

// children are the process ids of nowcast's children that run a command; "" means any.
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

// port is a free one on loopback.
func port(t *testing.T) string {
	t.Helper()
	for range 100 { // below those that the system gives to others, who could take it while the process restarts
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 25_000+rand.IntN(7_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// eventually tries f until it returns nil, or fails with its last error after limit.
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

// ready waits until the ops address says so.
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
		if res.StatusCode != http.StatusOK {
			var b bytes.Buffer
			_, _ = b.ReadFrom(res.Body)
			return fmt.Errorf("%s: %s", res.Status, b.String())
		}
		return nil
	})
}
