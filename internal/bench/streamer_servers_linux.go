package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nowcast/internal/retry"
)

// frameServer is a process that sends a frame a second to all viewers.
type frameServer struct {
	addr, target, key string
	ops               string // of nowcast
	joinedBy          string // as viewerJob.JoinedBy
	dialling          int    // as viewerJob.Dialling; 0: defaultDialling
	pid               int
	stop              func()
}

// cpu is the user and system time of the server.
func (s *frameServer) cpu() time.Duration { return cpuOf(s.pid) }

// serve starts a server by its name.
func (d *streamerDeps) serve(ctx context.Context, name string) (*frameServer, error) {
	switch name {
	case "nowcast":
		return d.streamer(ctx, "127.0.0.1")
	case "nchan":
		return d.nchan(ctx)
	}
	return startPeer(ctx, name)
}

// streamer starts a `nowcast streamer` whose connection limits are never reached, and waits until it is
// ready.
func (d *streamerDeps) streamer(ctx context.Context, host string) (*frameServer, error) {
	help, err := exec.CommandContext(ctx, nowcastBinary, "streamer", "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("start %s (make build makes it): %w", nowcastBinary, err)
	}
	addrs, err := freeAddrs(ctx, host, 2)
	if err != nil {
		return nil, err
	}
	args := []string{"streamer", "--listen", addrs[0], "--ops-listen", addrs[1], "--kafka", d.kafka,
		"--clickhouse", d.clickhouse, "--admin-key", streamKey, "--log-level", "warn"}
	for _, f := range []string{"--max-viewers", "--viewers-per-address", "--viewers-per-key"} {
		if bytes.Contains(help, []byte(f)) { // an older program, for comparison, may not have it
			args = append(args, f, "1000000")
		}
	}
	s := &frameServer{addr: addrs[0], ops: addrs[1], target: "/api/events?site=" + busySite, key: streamKey,
		joinedBy: "event: snapshot"}
	args = append(args, strings.Fields(os.Getenv("STREAMER_FLAGS"))...)
	if s.pid, s.stop, err = startProcess(nowcastBinary, args...); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, s.ops); err != nil {
		s.stop()
		return nil, fmt.Errorf("nowcast streamer isn't ready: %w", err)
	}
	return s, nil
}

// startPeer starts one of the servers of the module in peers.
func startPeer(ctx context.Context, kind string) (*frameServer, error) {
	addrs, err := freeAddrs(ctx, "127.0.0.1", 2)
	if err != nil {
		return nil, err
	}
	s := &frameServer{addr: addrs[0], target: "/stream", key: streamKey}
	if kind == "centrifuge" {
		s.target = "/stream?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
		s.joinedBy = "connect"
	}
	if s.pid, s.stop, err = startProcess("bin/bench-peers", kind, addrs[0], addrs[1]); err != nil {
		return nil, fmt.Errorf("%w (make bench-streamer makes it; it fetches the peers' libraries)", err)
	}
	answers := func() bool { _, err := get(ctx, "http://"+addrs[1]); return err == nil }
	if err := waitFor(ctx, 10*time.Second, answers); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s doesn't answer: %w", kind, err)
	}
	return s, nil
}

const nchanConf = `load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; worker_processes 1; worker_rlimit_nofile 20000; user root;
pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 19990; }
http {
  access_log off; client_body_temp_path %[1]s/body; nchan_max_reserved_memory 256m;
  server {
    listen %[2]s backlog=4096;
    location = /stream {
      nchan_subscriber eventsource; nchan_channel_id site; nchan_subscriber_first_message newest;
    }
    location = /publish { nchan_publisher; nchan_channel_id site; nchan_message_buffer_length 0; }
  }
}
`

// nchan starts Debian's nginx with its nchan module, and publishes a frame a second to it.
func (d *streamerDeps) nchan(ctx context.Context) (*frameServer, error) {
	if _, err := os.Stat("/usr/lib/nginx/modules/ngx_nchan_module.so"); err != nil {
		return nil, errors.New("nchan isn't installed: apt-get install nginx libnginx-mod-nchan, " +
			"or leave it out with PEERS=gin,go-sse,centrifuge,write")
	}
	addrs, err := freeAddrs(ctx, "127.0.0.1", 1)
	if err != nil {
		return nil, err
	}
	addr := addrs[0]
	dir := filepath.Join(d.dir, "nchan")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nchanConf, dir, addr), 0o600); err != nil {
		return nil, err
	}
	master, stop, err := startProcess("nginx", "-c", conf)
	if err != nil {
		return nil, err
	}
	stopPublishing := background(ctx,
		func(ctx context.Context) error { return publishFrames(ctx, "http://"+addr+"/publish") })
	s := &frameServer{addr: addr, target: "/stream", key: streamKey,
		stop: func() { stopPublishing(); stop() }}
	err = waitFor(ctx, 10*time.Second, func() bool {
		if workers := children(master); len(workers) == 1 {
			s.pid = workers[0]
		}
		c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
		if err == nil {
			c.Close()
		}
		return s.pid != 0 && err == nil
	})
	if err != nil {
		s.stop()
		log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
		return nil, fmt.Errorf("start nginx with nchan: %w: %s", err, log)
	}
	return s, nil
}

// publishFrames posts a frame at the start of each second until ctx ends, and returns ctx's error then.
func publishFrames(ctx context.Context, url string) error {
	for {
		err := retry.Sleep(ctx, time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url,
			strings.NewReader(nchanFrame(time.Now())))
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}
}

// nchanFrame is as long as a frame of Nowcast.
func nchanFrame(now time.Time) string {
	at := now.UTC().Format("2006-01-02T15:04:05Z")
	return fmt.Sprintf(`{"visitors":453,"timestamp":"%s","site":"bench.example.com","second":{"at":"%s",`+
		`"pageviews":81,"visitors":53,"events":92,"final":true,"revision":96},"now":"%s","skipped":0}`,
		at, at, strings.Repeat("x", 720))
}
