package main

import (
	"bytes"
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
)

// broadcaster is a server that gives a frame a second to all who follow it, in a process of its own.
type broadcaster struct {
	name              string
	addr, target, key string
	ops               string // of nowcast
	until             string // what a viewer has once it is there
	pid               int
	footprint         func(context.Context) (int, error) // bytes that are resident and not free
	stop              func()
}

// cpu is user and system time of the server.
func (b *broadcaster) cpu() time.Duration { return cpuOf(b.pid) }

func freeAddr(ctx context.Context, host string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", host+":0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// fetch returns the body of a GET.
func fetch(ctx context.Context, url string) (string, error) {
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

func reaper(cmd *exec.Cmd) func() {
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		gone := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer gone.Stop()
		_ = cmd.Wait()
	}
}

// streamer starts a `nowcast streamer` and waits until it is ready. Its limits on viewers, where it has any, are out of the way.
func (r *streamRig) streamer(ctx context.Context, host string) (*broadcaster, error) {
	const bin = "bin/nowcast"
	help, err := exec.CommandContext(ctx, bin, "streamer", "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("start %s (make build makes it): %w", bin, err)
	}
	addr, err := freeAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	ops, err := freeAddr(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	args := []string{"streamer", "--listen", addr, "--ops-listen", ops, "--kafka", r.addr, "--clickhouse", r.clickhouse, "--admin-key", streamKey, "--log-level", "warn"}
	for _, f := range []string{"--max-viewers", "--viewers-per-address", "--viewers-per-key"} {
		if bytes.Contains(help, []byte(f)) {
			args = append(args, f, "1000000")
		}
	}
	cmd := exec.Command(bin, append(args, strings.Fields(os.Getenv("STREAMER_FLAGS"))...)...) //nolint:noctx // stop ends it
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &broadcaster{name: "nowcast", addr: addr, ops: ops, target: "/api/events?site=" + streamSite, key: streamKey, until: "event: snapshot", pid: cmd.Process.Pid, stop: reaper(cmd)}
	b.footprint = func(ctx context.Context) (int, error) { return goFootprint(ctx, ops, b.pid) }
	err = until(ctx, time.Minute, func() bool { _, err := fetch(ctx, "http://"+ops+"/readyz"); return err == nil })
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("nowcast streamer isn't ready: %w", err)
	}
	return b, nil
}

// goFootprint is what a Go process holds: resident memory, less the heap that is free and not yet given back.
func goFootprint(ctx context.Context, ops string, pid int) (int, error) {
	for range 2 { // what a sync.Pool holds survives one
		if _, err := fetch(ctx, "http://"+ops+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := fetch(ctx, "http://"+ops+"/metrics")
	if err != nil {
		return 0, err
	}
	idle, err := metric(m, "go_memstats_heap_idle_bytes")
	if err != nil {
		return 0, err
	}
	released, err := metric(m, "go_memstats_heap_released_bytes")
	return residentKB(pid)<<10 - int(idle-released), err
}

// metric reads one without labels.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// peer starts one of the programs of the module beside this one.
func (r *streamRig) peer(ctx context.Context, kind string) (*broadcaster, error) {
	const bin = "bin/bench-peers"
	addr, err := freeAddr(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	ops, err := freeAddr(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, kind, addr, ops) //nolint:noctx // stop ends it
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s (make bench-streamer makes it; it fetches the peers' libraries): %w", bin, err)
	}
	b := &broadcaster{name: kind, addr: addr, target: "/stream", key: streamKey, pid: cmd.Process.Pid, stop: reaper(cmd)}
	if kind == "centrifuge" {
		b.target, b.until = "/stream?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D", "connect"
	}
	b.footprint = func(ctx context.Context) (int, error) {
		s, err := fetch(ctx, "http://"+ops)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(s)
	}
	if err := until(ctx, 10*time.Second, func() bool { _, err := b.footprint(ctx); return err == nil }); err != nil {
		b.stop()
		return nil, fmt.Errorf("%s isn't there: %w", kind, err)
	}
	return b, nil
}

const nchanConf = `load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid %[1]s/pid; error_log %[1]s/error.log; user root;
events { worker_connections 19990; }
http {
  access_log off; client_body_temp_path %[1]s/body; nchan_max_reserved_memory 256m;
  server {
    listen %[2]s backlog=4096;
    location = /stream { nchan_subscriber eventsource; nchan_channel_id site; nchan_subscriber_first_message newest; }
    location = /publish { nchan_publisher; nchan_channel_id site; nchan_message_buffer_length 0; }
  }
}
`

// nchan starts Debian's nginx with its nchan module, and publishes a frame a second to it.
func (r *streamRig) nchan(ctx context.Context) (*broadcaster, error) {
	if _, err := os.Stat("/usr/lib/nginx/modules/ngx_nchan_module.so"); err != nil {
		return nil, errors.New("nchan isn't installed: apt-get install nginx libnginx-mod-nchan, or leave it out with PEERS=gin,go-sse,centrifuge,write")
	}
	addr, err := freeAddr(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.dir, "nchan")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nchanConf, dir, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("nginx", "-c", conf) //nolint:noctx // stop ends it
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	quit := run1(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			pause(ctx, time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/publish", strings.NewReader(nchanFrame(time.Now())))
			if err != nil {
				return err
			}
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}
		return nil
	})
	end := reaper(cmd)
	b := &broadcaster{name: "nchan", addr: addr, target: "/stream", key: streamKey, stop: func() { quit(); end() }}
	err = until(ctx, 10*time.Second, func() bool {
		workers := children(cmd.Process.Pid)
		if len(workers) == 1 {
			b.pid = workers[0]
		}
		c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
		if err == nil {
			c.Close()
		}
		return b.pid != 0 && err == nil
	})
	if err != nil {
		b.stop()
		said, _ := os.ReadFile(filepath.Join(dir, "error.log"))
		return nil, fmt.Errorf("nginx with nchan doesn't run: %w: %s", err, said)
	}
	b.footprint = func(context.Context) (int, error) { return residentKB(b.pid) << 10, nil }
	return b, nil
}

// nchanFrame is as long as Nowcast's.
func nchanFrame(now time.Time) string {
	at := now.UTC().Format("2006-01-02T15:04:05Z")
	return fmt.Sprintf(`{"visitors":453,"timestamp":"%s","site":"bench.example.com","second":{"at":"%s","pageviews":81,"visitors":53,"events":92,"final":true,"revision":96},"now":"%s","skipped":0}`,
		at, at, strings.Repeat("x", 720))
}
