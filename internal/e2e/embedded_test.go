package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// laptop is `nowcast all` on the embedded parts.
type laptop struct {
	*world
	*proc
	dir, listen, ops string
}

func startLaptop(t *testing.T) *laptop {
	t.Helper()
	l := &laptop{dir: t.TempDir(), listen: port(t), ops: port(t)}
	l.start(t)
	l.world = &world{ingest: "http://" + l.listen, streamers: []string{"http://" + l.listen},
		key: adminKey(t, l.dir)}
	return l
}

func (l *laptop) start(t *testing.T) {
	t.Helper()
	l.proc = start(t, "all", "--listen", l.listen, "--ops-listen", l.ops, "--data-dir", l.dir)
	ready(t, l.proc, l.ops)
}

func TestEmbedded(t *testing.T) {
	l := startLaptop(t)
	suite(t, l.world)
	if code := l.stop(t); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
}

// The first start prints an address, a snippet and a curl line, which work as they are.
func TestFirstStart(t *testing.T) {
	l := startLaptop(t)
	var curl string
	eventually(t, 10*time.Second, "the greeting", func(context.Context) error {
		out := l.out.String()
		for _, want := range []string{"nowcast login", "<script defer", "curl "} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in what it printed:\n%s", want, out)
			}
		}
		_, curl, _ = strings.Cut(out, "curl ")
		curl, _, _ = strings.Cut("curl "+curl, "\n")
		return nil
	})
	for _, secret := range []string{l.key, "nck_", "ncc_"} {
		if strings.Contains(l.out.String(), secret) {
			t.Errorf("what isn't a terminal is shown a secret:\n%s", l.out.String())
		}
	}
	login := exec.CommandContext(t.Context(), binary(t), "login", "--server", l.streamers[0],
		"--data-dir", l.dir)
	link, err := login.Output()
	_, code, _ := strings.Cut(strings.TrimSpace(string(link)), "code=")
	if code, _, _ = strings.Cut(code, "\n"); err != nil || !strings.HasPrefix(code, "ncc_") {
		t.Fatalf("nowcast login: %v %s", err, link)
	}
	logIn(t, l.streamers[0], url.Values{"code": {code}})
	s := l.follow(t, l.streamers[0], "localhost", "rate", "100ms")
	out, err := exec.CommandContext(t.Context(), "sh", "-c", curl).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v %s", curl, err, out)
	}
	s.waitFor(t, 5*time.Second, "the page view of the printed curl line",
		func(f frame) bool { return f.Visitors == 1 })
}

// After a restart history is complete, and a viewer that resumes misses no second.
func TestRestart(t *testing.T) {
	l := startLaptop(t)
	site := l.site(t, true)
	s := l.follow(t, l.streamers[0], site)
	got := newReceived()
	l.drip(t, site, 50, 2*time.Second)
	got.collect(t, s, "the first half", 50)
	l.total(t, site, "pageviews", 50)
	if code := l.stop(t); code != 0 {
		t.Fatalf("exit %d", code)
	}
	l.start(t)
	l.total(t, site, "pageviews", 50)
	s = l.follow(t, l.streamers[0], site, "lastEventId", got.id)
	l.drip(t, site, 50, 2*time.Second)
	got.collect(t, s, "the second half", 100)
	if len(got.faults) > 0 || got.pageviews() != 100 {
		t.Errorf("%d of 100; %v", got.pageviews(), got.faults)
	}
	l.total(t, site, "pageviews", 100)
	l.total(t, site, "visitors", 23)
}

// After any process is killed under load, every acknowledged beacon is counted exactly once, live and in
// history, and both continue within 10 s.
func TestKill(t *testing.T) {
	for _, victim := range []string{"embedded-broker", "embedded-clickhouse", "nowcast"} {
		t.Run(victim, func(t *testing.T) {
			l := startLaptop(t)
			site := l.site(t, true)
			var acked, retried atomic.Int64
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var wg sync.WaitGroup
			for s := range 4 {
				wg.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
						a, err := l.beacon(send, site, "/", s,
							map[string]any{"id": fmt.Sprintf("%d-%d", s, i)})
						cancel()
						switch {
						case err == nil && a.status == http.StatusAccepted:
							acked.Add(1)
						default: // it may be in the log: retry it with the same id, as the tracker does
							retried.Add(1)
							i--
							time.Sleep(100 * time.Millisecond)
						}
						time.Sleep(10 * time.Millisecond)
					}
				})
			}
			time.Sleep(2 * time.Second)
			if victim == "nowcast" {
				l.kill(syscall.SIGKILL)
				l.start(t)
			} else {
				ids := l.children(victim)
				if len(ids) != 1 {
					t.Fatalf("children %q: %v", victim, ids)
				}
				_ = syscall.Kill(ids[0], syscall.SIGKILL)
			}
			killed := time.Now()
			s := l.follow(t, l.streamers[0], site, "rate", "100ms")
			s.waitFor(t, 10*time.Second, "live continues", func(f frame) bool {
				return f.Second != nil && f.Second.Pageviews > 0 && f.Second.At.After(killed)
			})
			before := acked.Load()
			eventually(t, 10*time.Second, "beacons are accepted", func(context.Context) error {
				if acked.Load() < before+20 {
					return fmt.Errorf("%d acknowledged", acked.Load()-before)
				}
				return nil
			})
			eventually(t, 10*time.Second, "history continues", func(ctx context.Context) error {
				q, err := l.query(ctx, site, []string{"pageviews"}, nil)
				if err == nil && int64(q.Results[0].Metrics[0]) <= before {
					err = fmt.Errorf("%v of %d", q.Results, acked.Load())
				}
				return err
			})
			stop()
			wg.Wait()
			t.Logf("%d acknowledged, %d retries", acked.Load(), retried.Load())
			l.total(t, site, "pageviews", int(acked.Load()))
			eventually(t, 20*time.Second, "the ledger agrees", func(ctx context.Context) error {
				b, err := l.beaconsOf(ctx, site)
				// l.site sent one more beacon.
				if n := int64(b.Counted + b.Late + b.Stale); err == nil && n != acked.Load()+1 {
					err = fmt.Errorf("%+v with %d acknowledged", b, acked.Load())
				}
				return err
			})
		})
	}
}

// A start that can't work prints one sentence and exits with 1; wrong usage exits with 2.
func TestStartErrors(t *testing.T) {
	l := startLaptop(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(listen, ops, dir string, more ...string) []string {
		return append([]string{"all", "--listen", listen, "--ops-listen", ops, "--data-dir", dir}, more...)
	}
	for _, row := range []struct {
		name string
		code int
		want string
		args []string
	}{
		{"port taken", 1, l.listen, all(l.listen, port(t), t.TempDir())},
		{"ops port taken", 1, l.ops, all(port(t), l.ops, t.TempDir())},
		{"same data dir", 1, l.dir, all(port(t), port(t), l.dir)},
		{"data dir is a file", 1, file, all(port(t), port(t), file)},
		{"no libchdb", 1, "libchdb", all(port(t), port(t), t.TempDir(), "--libchdb", "/nowhere/libchdb.so")},
		{"unknown flag", 2, "--nonsense", []string{"all", "--nonsense"}},
		{"no command", 2, "all", nil},
		{"bad rate", 2, "rate", []string{"load", "--rate", "fast"}},
	} {
		cmd := exec.CommandContext(t.Context(), binary(t), row.args...)
		var errs strings.Builder
		cmd.Stderr = &errs
		_ = cmd.Run()
		if cmd.ProcessState.ExitCode() != row.code || !strings.Contains(errs.String(), row.want) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", row.name, cmd.ProcessState.ExitCode(), row.code,
				row.want, errs.String())
		}
	}
}

// Without broker and ClickHouse, `nowcast all` waits, names the reason at /readyz and refuses beacons.
func TestPartsAbsentAtStart(t *testing.T) {
	listen, ops := port(t), port(t)
	p := start(t, "all", "--listen", listen, "--ops-listen", ops, "--data-dir", t.TempDir(), "--kafka",
		port(t),
		"--clickhouse", "clickhouse://"+port(t)+"/default")
	eventually(t, 20*time.Second, "unready with a reason", func(ctx context.Context) error {
		a, err := (&world{}).call(ctx, http.MethodGet, "http://"+ops+"/readyz", "", nil)
		if err == nil && (a.status != http.StatusServiceUnavailable ||
			!strings.Contains(strings.ToLower(a.body), "kafka")) {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	})
	a, err := (&world{}).call(t.Context(), http.MethodPost, "http://"+listen+"/api/event", "",
		`{"n":"pageview","u":"http://localhost/","d":"localhost"}`)
	if err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("beacon: %v %d %s", err, a.status, a.body)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}
