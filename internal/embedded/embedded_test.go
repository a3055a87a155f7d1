package embedded_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nowcast/internal/embedded"
)

func TestMain(m *testing.M) {
	if handled, code := embedded.Main(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) == 4 && os.Args[1] == parentCommand {
		os.Exit(parentMain(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// library finds libchdb.so. Without it, the test is skipped, or fails where CI is set.
func library(t *testing.T) string {
	t.Helper()
	const npm = "../../deployments/npm/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"
	for _, p := range []string{"", npm, "../../bin/libchdb.so"} {
		if lib, err := embedded.FindLibrary(p); err == nil {
			return lib
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("libchdb.so is missing: run `npm ci --prefix deployments/npm`")
	}
	t.Skip("LEFT OUT: libchdb.so is missing; `npm ci --prefix deployments/npm` gets it")
	return ""
}

// part is a Broker or a ClickHouse.
type part interface {
	Run(context.Context) error
	Ready() (bool, string)
	PID() int
}

// run starts p, and stops it at the end of the test.
func run(t *testing.T, p part) {
	t.Helper()
	stop := start(t, p)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// start starts p and returns when it is ready. The caller stops it.
func start(t *testing.T, p part) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	eventually(t, 30*time.Second, p.Ready)
	return sync.OnceValue(func() error { cancel(); return <-ended })
}

// eventually polls until condition is true, for at most limit.
func eventually(t *testing.T, limit time.Duration, condition func() (ok bool, reason string)) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		ok, reason := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, reason)
		}
	}
}

// crash kills p's child with SIGKILL, and returns how long the next one took to be ready, at most 10 s.
func crash(t *testing.T, p part) time.Duration {
	t.Helper()
	old, start := p.PID(), time.Now()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() (bool, string) {
		ok, reason := p.Ready()
		return ok && p.PID() != old, reason
	})
	return time.Since(start)
}

func config(t *testing.T, dir string) embedded.Config {
	return embedded.Config{Dir: dir, Log: logger(t), Metrics: prometheus.NewRegistry()}
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{ReplaceAttr: embedded.DropTime}))
}

func newClickHouse(t *testing.T, dir string) *embedded.ClickHouse {
	t.Helper()
	c := config(t, dir)
	c.Library = library(t)
	h, err := embedded.NewClickHouse(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newBroker(t *testing.T, dir string) *embedded.Broker {
	t.Helper()
	b, err := embedded.NewBroker(config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// memory returns a process's resident memory, anonymous memory and number of threads, as text.
func memory(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 1 && (f[0] == "VmRSS:" || f[0] == "RssAnon:" || f[0] == "Threads:") {
			out = append(out, strings.Join(f, " "))
		}
	}
	return strings.Join(out, ", ")
}
